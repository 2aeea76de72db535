"""A published test set through a workflow: `test_LR` is restored, and `test_HR` is what it should be."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..folder.backends import check_options
from ..folder.errors import UsageError
from ..folder.run import run_folder
from ..folder.saving import Order, Saving
from ..folder.workflow import load_workflow, make_job, workflow_file
from .pairs import pair

LOW, HIGH = "test_LR", "test_HR"
RESULTS = "results"
"""Folder of the restored pictures in --output, with the folder runner's manifest."""
WORKFLOW = "osediff_upscale"
"""One step, so the quickest that enlarges by 4 as the sets do."""


def folders_of(benchmark: Path) -> tuple[Path, Path]:
    """(inputs, originals) of a set in the papers' layout. Raises UsageError where that is another,
    or where not every picture is in both."""
    low, high = benchmark / LOW, benchmark / HIGH
    if not (low.is_dir() and high.is_dir()):
        raise UsageError(
            f"{benchmark} has no {LOW} and {HIGH}: --benchmark names a folder that holds both, with "
            "pictures of the same names."
        )
    if unpaired := pair(low, high).unpaired:
        raise UsageError(f"{'; '.join(unpaired)}: the papers measure all pictures of a set.")
    return low, high


def restore(low: Path, options: argparse.Namespace) -> Path:
    """Has a workflow restore all pictures, as `run` does; where they are then.

    What is done already stays done. Raises UsageError where not all of them are there at the end, and
    whatever `run` raises.
    """
    check_options(options)
    path = workflow_file(options.workflow)
    saving = Saving("png", quality=100)
    job = make_job(load_workflow(path), seed=options.seed, saving=saving.settings)
    results = options.output / RESULTS
    asked = argparse.Namespace(
        **vars(options) | {"inputs": [str(low)], "output": results},
        recursive=True, watch=False, again=False,
    )  # fmt: skip
    tally, _ = run_folder(Order(job, saving, path.name, options.timeout), asked)
    if tally.failed:
        raise UsageError(
            f"Failed: {tally.failed} of {sum(vars(tally).values())}. The papers measure all pictures "
            "of a set: run the command again to go on."
        )
    return results
