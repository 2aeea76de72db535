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


def sampler_cells(matrix: Matrix, columns: Sequence[Column]) -> Iterator[Cell]:
    """One cell for each stack, sampler and scheduler."""
    from comfy.samplers import SAMPLER_NAMES, SCHEDULER_NAMES

    named = {column.name: column for column in columns}
    for names in STACKS:
        if not set(names) <= named.keys():
            continue
        stack = [named[name] for name in names]
        for sampler in SAMPLER_NAMES:
            for scheduler in SCHEDULER_NAMES:
                where = (" + ".join(names), f"{sampler} {scheduler}", f"cfg {CFG:g}")
                check = functools.partial(sampler_check, matrix, stack, sampler, scheduler)
                yield ended(where, check, matrix.host)


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
