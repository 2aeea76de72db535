"""What a run needs to go on, and what stops one that has become another."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .config import Config, different
from .errors import TrainingError
from .part import Part
from .run_folder import RunFolder, clear, finish, part_of

if TYPE_CHECKING:
    from accelerate import Accelerator

TRAINED = "trained.safetensors"
STATE = "state.json"
Digests = Mapping[str, str]
"""What the frozen files were (base, tagger ...): name -> sha256."""


def keep_only_trained(accelerator: Accelerator, part: Part) -> None:
    """accelerate's checkpoints then hold the trained parameters, under their published names: the
    frozen networks are gigabytes that lie on disk already. Sharded ones it saves in its own way."""

    def save(models: list[Any], weights: list[Any], folder: str) -> None:
        if weights:
            weights.clear()
            if accelerator.is_main_process:
                _write(part, Path(folder) / TRAINED)

    def load(models: list[Any], folder: str) -> None:
        if models:
            models.clear()
            _read(part, Path(folder) / TRAINED)

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(load)


def _write(part: Part, file: Path) -> None:
    from safetensors.torch import save_file

    weights = {k: v.detach().cpu().contiguous() for k, v in part.trained().items()}
    save_file(weights, file)


def _read(part: Part, file: Path) -> None:
    from safetensors.torch import load_file

    weights, trained = load_file(file), part.trained()
    if weights.keys() != trained.keys():
        raise TrainingError(f"{file} does not hold what this part trains; take another checkpoint.")
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(weights[name])


class Checkpoints:
    """Saves and reads the state of one run."""

    def __init__(
        self, accelerator: Accelerator, config: Config, folder: RunFolder, digests: Digests
    ) -> None:
        self.accelerator, self.config, self.folder = accelerator, config, folder
        self.digests = dict(digests)

    def save(self, step: int) -> None:
        """The state after `step` steps. TrainingError: it could not be written whole; those before
        are untouched."""
        place = self.folder.place("checkpoints", step)
        if step in self.folder.steps("checkpoints"):
            return  # of the same run, so the same
        with writing(self.folder, f"the checkpoint of step {step}"), self._swept(place):
            if self.accelerator.is_main_process:
                clear(place)
            self.accelerator.wait_for_everyone()
            self.accelerator.save_state(str(part_of(place)))
            self.accelerator.wait_for_everyone()
            if self.accelerator.is_main_process:
                state = {"step": step, "config": self.config.table(), "files": self.digests}
                (part_of(place) / STATE).write_text(json.dumps(state, indent=1), "utf-8")
                finish(place)
                self.folder.forget("checkpoints", self.config.save.keep)
            self.accelerator.wait_for_everyone()

    @contextlib.contextmanager
    def _swept(self, place: Path) -> Iterator[None]:
        try:
            yield
        finally:
            if self.accelerator.is_main_process:
                shutil.rmtree(part_of(place), ignore_errors=True)

    def load(self, checkpoint: Path) -> int:
        """Brings a state back; its step. TrainingError where it belongs to another run."""
        try:
            state = json.loads((checkpoint / STATE).read_text("utf-8"))
            step, table, files = int(state["step"]), state["config"], state["files"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{checkpoint} is not a checkpoint of a run ({error}).") from error
        changed = list(different(self.config, table))
        changed += [
            f"{name}: another file" for name in files if self.digests.get(name) != files[name]
        ]
        if changed:
            raise TrainingError(
                f"{checkpoint} belongs to another configuration ({'; '.join(changed)}). Set it "
                "back, or begin in another run.folder."
            )
        try:
            self.accelerator.load_state(str(checkpoint))
        except (OSError, RuntimeError, ValueError) as error:
            raise TrainingError(
                f"{checkpoint} cannot be read ({error}): name an earlier step with --resume."
            ) from error
        return step


@contextlib.contextmanager
def writing(folder: RunFolder, what: str) -> Iterator[None]:
    """Within it, a full disk or any other failure to write is a sentence."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:  # torch.save knows only the last
        steps = folder.steps("checkpoints")
        kept = f"of step {steps[-1]}" if steps else "none"
        cause = error.__context__ or error
        raise TrainingError(
            f"{what[0].upper()}{what[1:]} could not be written: {cause}. The last checkpoint is "
            f"{kept}. Make room in {folder.path} and go on with --resume latest."
        ) from error
