"""All samplers with all schedulers of the host, with a few nodes of ours."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

from restoration.tests.fuzz.campaign import TooSlow, time_limit
from restoration.tests.matrix.cells import (
    LIMIT_S,
    SEEN,
    Cell,
    Failed,
    Matrix,
    Skipped,
    ended,
    last_lines,
    rms,
)
from restoration.tests.matrix.columns import CFG, STEPS, Column
from restoration.tests.matrix.scene import sample

STACKS = (
    ("PACAControlApply", "RestorationCFG range"),
    ("TiledRestoration", "LatentImageGuidance"),
)
"""Columns that are applied together: a branch with guidance, tiles with a change of x0."""


OWN_STEPS = ("dpm_adaptive",)
"""Samplers that take of a schedule its ends alone and choose the steps: run with one schedule."""


def stack_names() -> list[str]:
    return [" + ".join(names) for names in STACKS]


def sampler_names() -> list[str]:
    """Every sampler with every scheduler."""
    from comfy.samplers import SAMPLER_NAMES, SCHEDULER_NAMES

    return [
        f"{sampler} {scheduler}"
        for sampler in SAMPLER_NAMES
        for scheduler in SCHEDULER_NAMES[: 1 if sampler in OWN_STEPS else None]
    ]


def sampler_cells(
    matrix: Matrix, columns: Sequence[Column], stacks: Sequence[str], names: Sequence[str]
) -> Iterator[Cell]:
    """One cell for each stack, sampler and scheduler, by their names above."""
    named = {column.name: column for column in columns}
    for stack in stacks:
        nodes = [named[name] for name in stack.split(" + ")]
        for name in names:
            check = functools.partial(sampler_check, matrix, nodes, *name.split(" "))
            yield ended((stack, name, f"cfg {CFG:g}"), check, matrix.host)


def sampler_check(matrix: Matrix, stack: Sequence[Column], sampler: str, scheduler: str) -> None:
    scene, cfg = matrix.scene("small", 1), CFG
    try:
        with time_limit(LIMIT_S):
            plain = sample(scene.setup, cfg, STEPS, sampler, scheduler)
    except (Exception, TooSlow) as error:
        raise Skipped(f"the plain model: {last_lines(error)}") from None
    if not plain.isfinite().all():
        raise Skipped("the plain model's result is not finite")
    setup = scene.setup
    for column in stack:
        setup = column.apply(setup, scene)
    with time_limit(LIMIT_S):
        found = sample(setup, cfg, STEPS, sampler, scheduler)
    scene.check()
    if not found.isfinite().all():
        raise Failed("finite", "the result is not finite")
    if rms(found - plain, plain) < SEEN:
        raise Failed("ours", "the result is the plain model's")
