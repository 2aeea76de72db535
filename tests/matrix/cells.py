"""The cells: one node of ours with one of the host's, and what must hold.

A cell *ran*, ended in a *sentence*, was *skipped* because the host's node alone does not run here,
meets a known *limit*, or is a *fault*. A sentence is an exception that a `raise` statement of our
files or the host's wrote, of a type that is no mistake of a program, with a text that a user can
read: an AttributeError, a KeyError or torch's words about shapes are none.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import inspect
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from restoration.tests.fuzz.campaign import Fault, TooSlow, checked_sentence, time_limit
from restoration.tests.matrix.columns import CFG, STEPS, Column, Order, Tiles, tiled
from restoration.tests.matrix.limits import limit_of
from restoration.tests.matrix.scene import HEIGHT, WIDTH, Scene, Setup, patches_of, sample
from restoration.tests.matrix.wiring import (
    CannotMake,
    Wired,
    parts_of,
    takes_and_gives_model,
)

Kind = Literal["ran", "sentence", "skipped", "limit", "fault"]
CHECKS = {
    "raises": "runs, or says a sentence",
    "finite": "no NaN and no infinity",
    "ours": "the effect of our node is there",
    "theirs": "the effect of the host's node is there",
    "order": "the order of nodes does not matter, where the help says so",
    "base": "the model that was patched is what it was, without a hook",
    "one tile": "tiled with one tile is the untiled run, bit for bit",
    "tile batch": "tiles at once are as one after the other",
}
FRAMES = 3
LIMIT_S = 30.0
SEEN = 1e-4
"""Of the standard deviation: a difference that is an effect."""
SAME = 1e-3
"""Of the standard deviation: what other row counts of a batch may change."""
MISTAKES = (
    ArithmeticError, AssertionError, AttributeError, LookupError, NameError, NotImplementedError,
    TypeError, UnicodeError,
)  # fmt: skip
TOO_LONG = {"TorchCompileModel": "compiles for minutes; name it with --theirs to run it"}
ROOT = Path(__file__).resolve().parents[2]


class Failed(Fault):
    """A check that a cell failed."""

    def __init__(self, check: str, text: str) -> None:
        super().__init__(f"{check}: {text}")
        self.check, self.text = check, text


class Skipped(Exception):
    """Why there is nothing to tell about a cell."""


@dataclass(frozen=True)
class Cell:
    """What became of one. order: the nodes as they were wired."""

    ours: str
    theirs: str
    order: str
    kind: Kind
    text: str = ""
    check: str = ""
    seconds: float = 0.0


def rms(difference: Tensor, of: Tensor) -> float:
    """Root of the mean square, over the standard deviation of a result."""
    return (difference.square().mean().sqrt() / of.std()).item()


def sentence(error: BaseException, host: Path) -> str | None:
    """The text of an exception that is a sentence, else None."""
    if isinstance(error, MISTAKES) or not isinstance(error, Exception):
        return None
    last = error.__traceback__
    while last and last.tb_next:
        last = last.tb_next
    if last is None:
        return None
    code = last.tb_frame.f_code
    written = code.co_code[last.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    file = Path(code.co_filename).resolve()
    if not written or not (file.is_relative_to(host) or file.is_relative_to(ROOT)):
        return None
    with contextlib.suppress(Fault):
        return checked_sentence(str(error))
    return None


def last_lines(error: BaseException) -> str:
    """An exception with the last of our frames and of all."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "restoration" not in f.name and str(ROOT) in f.filename]
    ours = [f for f in ours if "tests" not in Path(f.filename).parts]
    places = [f"{Path(f.filename).name}:{f.lineno}" for f in (*ours[-1:], frames[-1])]
    return f"{type(error).__name__}: {str(error)[:300]} ({', '.join(dict.fromkeys(places))})"


def core_nodes(host: Any) -> tuple[list[Wired], dict[str, list[str]]]:
    """The host's nodes that take and give a MODEL; further choices of a node's first menu follow
    as rows of their own. Second: the nodes that run the very code of another, under its name,
    which is in the matrix for them (merges of other architectures' blocks)."""
    like_of: dict[str, list[str]] = {}
    rows: list[Wired] = []
    seen: dict[Any, str] = {}
    # Bases before what derives from them.
    for name, node in sorted(
        host.NODE_CLASS_MAPPINGS.items(), key=lambda n: (len(n[1].__mro__), n[0])
    ):
        if node.__module__.startswith("restoration") or not takes_and_gives_model(node):
            continue
        function = inspect.unwrap(getattr(node, "execute", None) or getattr(node, node.FUNCTION))
        code = getattr(function, "__func__", function).__code__
        like = seen.setdefault((code.co_filename, code.co_firstlineno), name)
        if like != name:  # a merge of another architecture's blocks
            like_of.setdefault(like, []).append(name)
            continue
        rows.append(Wired(name, node))
        menus = [p for p in parts_of(node) if p.kind == "COMBO" and not p.name.endswith("_name")]
        for part in menus[:1]:
            first = part.options[0] if part.default is None else part.default
            others = [each for each in part.options if each != first]
            if name not in TOO_LONG:
                rows += [Wired(f"{name} {each}", node, {part.name: each}) for each in others]
    return sorted(rows, key=lambda row: row.name), like_of


class Matrix:
    """The cells of one host. Results of one node alone are computed once."""

    def __init__(self, host: Path, models: Path, seed: int = 0) -> None:
        self.host, self.models, self.seed = host.resolve(), models, seed
        self._alone: dict[tuple[Any, ...], Tensor | BaseException] = {}

    @functools.cache  # noqa: B019 -- two or three of them
    def scene(self, kind: str, frames: int) -> Scene:
        scene = Scene(kind, frames, self.seed)
        scene.write_files(self.models)
        return scene

    @functools.cache  # noqa: B019
    def begin(self, column: Column, scene: Scene) -> Setup:
        return column.begin(scene)

    def scene_for(self, column: Column, row: Wired) -> Scene:
        """Windows over the batch want frames."""
        frames = FRAMES if "context_length" in {p.name for p in parts_of(row.node)} else 1
        return self.scene(column.scene, frames)

    def cells(self, column: Column, row: Wired) -> Iterator[Cell]:
        """All of one column and one row."""
        pair = Pair(self, column, row, self.scene_for(column, row))
        if row.name.partition(" ")[0] in TOO_LONG:
            yield Cell(column.name, row.name, "both", "skipped", TOO_LONG[row.name])
            return
        if column.scene != "small" and merges(row):
            text = "weights are merged with the small model only, for that takes long"
            yield Cell(column.name, row.name, "all", "skipped", text)
            return
        for order, check in pair.checks():
            yield ended((column.name, row.name, order), check, self.host)

    def alone(
        self, scene: Scene, start: Setup, key: tuple[Any, ...], node: Any, cfg: float
    ) -> Tensor:
        """The result with one node (None: the plain model), or what it raised, as it did."""
        where = (scene, id(start), key, cfg)
        if where not in self._alone:
            try:
                setup = start if node is None else node.apply(start, scene)
                with time_limit(LIMIT_S):
                    self._alone[where] = sample(setup, cfg, steps_of(key))
            except (Exception, TooSlow) as error:
                self._alone[where] = error
            if isinstance(node, Wired):
                scene.accept()
        found = self._alone[where]
        if isinstance(found, BaseException):
            raise found
        return found

    def afterwards(self, scene: Scene) -> None:
        """Fault when the base model or its result is not, bit for bit, what it was."""
        scene.check_unloaded()
        again = sample(scene.setup, CFG, STEPS)
        if not torch.equal(again, self.alone(scene, scene.setup, ("plain", STEPS), None, CFG)):
            raise Failed("base", "the plain model gives another result than before")


def ended(where: tuple[str, str, str], check: Callable[[], None], host: Path) -> Cell:
    """Runs a check and says what became of it. where: ours, theirs, order."""
    started = time.monotonic()
    cell = _ended(where, check, host)
    return replace(cell, seconds=time.monotonic() - started)


def _ended(where: tuple[str, str, str], check: Callable[[], None], host: Path) -> Cell:
    try:
        try:
            check()
        except (Skipped, CannotMake) as reason:
            return Cell(*where, "skipped", str(reason))
        except Failed:
            raise
        except Fault as fault:
            raise Failed("base", str(fault)) from fault
        except (Exception, TooSlow) as error:
            if text := sentence(error, host):
                return Cell(*where, "sentence", text)
            raise Failed("raises", last_lines(error)) from error
    except Failed as failed:
        if limit := limit_of(*where[:2], failed.check):
            return Cell(*where, "limit", limit.because, failed.check)
        return Cell(*where, "fault", failed.text, failed.check)
    return Cell(*where, "ran")


def merges(row: Wired) -> bool:
    return sum(part.kind == "MODEL" for part in parts_of(row.node)) > 1


def steps_of(key: tuple[Any, ...]) -> int:
    """Caches need some steps to be filled and used."""
    return 8 if any("Cache" in str(name) for name in key) else STEPS


@dataclass(frozen=True, eq=False)
class Pair:
    """One column and one row."""

    matrix: Matrix
    column: Column
    row: Wired
    scene: Scene

    @property
    def start(self) -> Setup:
        return self.matrix.begin(self.column, self.scene)

    @property
    def steps(self) -> int:
        return steps_of((self.row.name,))

    def checks(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """Every cell: its order, and what runs it."""
        for order, cfg in self.column.runs:
            if self.row.given and cfg != CFG and len(self.column.runs) > 1:
                continue
            yield f"{order}, cfg {cfg:g}", functools.partial(self._pair, order, cfg)
        if self.row.given:  # another choice of a menu
            return
        if self.column.any_order:
            yield "both orders", self._order
        if self.column.in_tiles:
            yield "in tiles", self._tiles

    def theirs(self, cfg: float) -> tuple[Wired, Tensor]:
        """The host's node as it is wired here, and its result alone: with numbers moved from their
        defaults where those do nothing."""
        found = self._theirs(self.row, cfg)
        if rms(found - self._plain(cfg), found) > SEEN:
            return self.row, found
        moved = replace(self.row, moved=True)
        with contextlib.suppress(Skipped):
            other = self._theirs(moved, cfg)
            if rms(other - self._plain(cfg), other) > SEEN:
                return moved, other
        return self.row, found

    def _theirs(self, row: Wired, cfg: float) -> Tensor:
        try:
            found = self.matrix.alone(self.scene, self.start, (row.name, row.moved), row, cfg)
        except CannotMake as reason:
            raise Skipped(str(reason)) from None
        except (Exception, TooSlow) as error:
            if "tests" in Path(traceback.extract_tb(error.__traceback__)[-1].filename).parts:
                raise  # the matrix is wrong
            raise Skipped(f"alone: {last_lines(error)}") from None
        if not found.isfinite().all():
            raise Skipped("alone it gives what is not finite")
        return found

    def _plain(self, cfg: float) -> Tensor:
        key = ("plain", self.steps)
        if self.steps != STEPS:
            key = ("plain", "Cache")
        return self.matrix.alone(self.scene, self.start, key, None, cfg)

    def _ours(self, cfg: float) -> Tensor:
        key = (self.column.name, "Cache" if self.steps != STEPS else "")
        return self.matrix.alone(self.scene, self.start, key, self.column, cfg)

    def wired(self, order: Order, row: Wired) -> Setup:
        nodes = (self.column, row) if order == "ours first" else (row, self.column)
        setup = self.start
        for node in nodes:
            before = patches_of(setup.model)
            setup_after = node.apply(setup, self.scene)
            if node is self.column and patches_of(setup.model) != before:
                raise Failed("base", "our node changed the MODEL that it was given")
            setup = setup_after
        return setup

    def sampled(self, setup: Setup, cfg: float) -> Tensor:
        with time_limit(LIMIT_S):
            found = sample(setup, cfg, self.steps)
        self.scene.check()
        if not found.isfinite().all():
            raise Failed("finite", "the result is not finite")
        return found

    @functools.cache  # noqa: B019 -- lives as long as the pair
    def both(self, order: Order, cfg: float) -> Tensor:
        return self.sampled(self.wired(order, self.theirs(cfg)[0]), cfg)

    def _pair(self, order: Order, cfg: float) -> None:
        _, theirs = self.theirs(cfg)
        found = self.both(order, cfg)
        if not self.column.compared:
            return
        plain, ours = self._plain(cfg), self._ours(cfg)
        for check, alone, with_other in (("ours", ours, theirs), ("theirs", theirs, ours)):
            effect = rms(alone - plain, plain)
            left = rms(found - with_other, plain)
            if effect > SEEN and left < max(1e-6, self.column.kept * min(effect, 1.0)):
                raise Failed(check, f"its effect is gone: {effect:.2g} alone, {left:.2g} here")

    def _order(self) -> None:
        cfg = CFG
        try:
            first, last = (self.both(order, cfg) for order in ("ours first", "theirs first"))
        except Failed as failed:
            raise Skipped(f"see the pair: {failed}") from None
        if (apart := rms(first - last, first)) > SAME:
            raise Failed("order", f"the two orders differ by {apart:.2g}")

    def _tiles(self) -> None:
        cfg = CFG
        row, untiled = self.theirs(cfg)
        if not isinstance(self.column, Tiles):
            try:
                untiled = self.both("ours first", cfg)
            except Exception as error:
                raise Skipped(f"see the pair: {last_lines(error)}") from None
            setup = self.wired("ours first", row)
            if fault := self._tiled_alone(row, cfg):
                raise Skipped(f"see TiledRestoration with it: {fault}")
        else:
            setup = row.apply(self.start, self.scene)
        self._tiled(setup, untiled, cfg)

    def _tiled_alone(self, row: Wired, cfg: float) -> str:
        """What is wrong with tiles and the host's node without ours."""
        key = (self.scene, id(self.start), row.name, "in tiles")
        if key not in self.matrix._alone:
            try:
                setup = row.apply(self.start, self.scene)
                self._tiled(setup, self._theirs(row, cfg), cfg)
                self.matrix._alone[key] = torch.zeros(())
            except Exception as error:
                self.matrix._alone[key] = error
        found = self.matrix._alone[key]
        return "" if isinstance(found, Tensor) else last_lines(found)

    def _tiled(self, setup: Setup, untiled: Tensor, cfg: float) -> None:
        one = self.sampled(tiled(setup, WIDTH + 4, 1), cfg)
        if not torch.equal(one, untiled):
            raise Failed("one tile", f"it differs by {rms(one - untiled, untiled):.2g}")
        single, double = (self.sampled(tiled(setup, HEIGHT, batch), cfg) for batch in (1, 2))
        if (apart := rms(single - double, single)) > SAME:
            raise Failed("tile batch", f"tile_batch_size 1 and 2 differ by {apart:.2g}")


def run_cells(matrix: Matrix, columns: Sequence[Column], rows: Sequence[Wired]) -> Iterator[Cell]:
    """Row by row, so that what a row computes alone serves all columns. After each row: whether the
    base models are what they were."""
    for row in rows:
        for column in columns:
            yield from matrix.cells(column, row)
        for scene in {matrix.scene_for(column, row): None for column in columns}:
            check = functools.partial(matrix.afterwards, scene)
            yield ended(("all of ours", row.name, "afterwards"), check, matrix.host)
