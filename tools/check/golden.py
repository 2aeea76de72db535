"""The cases on this machine's device, in float32 and in the precision that the host would choose."""

from __future__ import annotations

import contextlib
import functools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...common.text import first_sentence
from .cases import Case, read_cases
from .runners import RUNNERS, Place, Runner

ORDER = 10.0
"""A device adds up in another order than the CPU that the cases were recorded on: so much more than
a case's tolerance is accepted there in float32."""
HALVES = 4.0
"""In half precision a device may be off by so many times what the CPU was: both round every layer,
in another order."""
EXPLAINED = Path(__file__).with_name("halves.json")
"""{case: {precision: the CPU's difference}}, measured once by `cpu_halves`: it takes minutes."""


Runners = Mapping[tuple[str, str], Runner]


def cases_of(runners: Runners) -> list[tuple[Case, Runner]]:
    """The cases that have one of these runners."""
    return [(case, runners[case.key]) for case in read_cases() if case.key in runners]


@dataclass(frozen=True)
class Outcome:
    """One case in one precision."""

    case: str
    precision: str
    difference: float
    """The largest to the recorded values, absolute; infinite where a value is not finite."""
    accepted: float
    problem: str = ""
    """Why it could not be computed; empty: it could."""

    @property
    def passed(self) -> bool:
        return not self.problem and self.difference <= self.accepted

    def as_dict(self) -> dict[str, Any]:
        finite = self.difference if math.isfinite(self.difference) else None  # JSON has no other
        return {**asdict(self), "difference": finite, "passed": self.passed}


def run_cases(
    device: torch.device, half: torch.dtype | None = None, runners: Runners = RUNNERS
) -> list[Outcome]:
    """Every case that has a runner, on `device` in float32 and, where it is one that the host runs
    so, in `half`."""
    outcomes = []
    for case, runner in cases_of(runners):
        outcomes.append(_outcome(case, runner, Place(device, torch.float32)))
        if half not in (None, torch.float32) and runner.halved:
            outcomes.append(_outcome(case, runner, Place(device, half)))
    return outcomes


def _outcome(case: Case, runner: Runner, place: Place) -> Outcome:
    precision, accepted = _precision(place), _accepted(case, place)
    try:
        with exact_float32():
            difference = _difference(case, runner, place)
    except Exception as error:  # of any driver: the report is the place for it
        return Outcome(case.name, precision, math.inf, accepted, first_sentence(error))
    return Outcome(case.name, precision, difference, accepted)


def _accepted(case: Case, place: Place) -> float:
    if place.dtype == torch.float32:
        return case.tolerance * (1.0 if place.device.type == "cpu" else ORDER)
    return HALVES * explained()[case.name][_precision(place)]


@functools.cache
def explained() -> dict[str, dict[str, float]]:
    """What half precision explains, from the file."""
    return json.loads(EXPLAINED.read_text("utf-8"))


def cpu_halves(runners: Runners = RUNNERS) -> dict[str, dict[str, float]]:
    """What half precision explains, measured anew on this CPU."""
    cpu, found = torch.device("cpu"), {}
    for case, runner in cases_of(runners):
        if runner.halved:
            places = [Place(cpu, dtype) for dtype in (torch.float16, torch.bfloat16)]
            found[case.name] = {_precision(p): _difference(case, runner, p) for p in places}
    return found


def _precision(place: Place) -> str:
    return str(place.dtype).removeprefix("torch.")


def _difference(case: Case, runner: Runner, place: Place) -> float:
    with torch.no_grad():
        found = runner.compute(case, place)
    return max(_largest(value, case.tensors[name]) for name, value in found.items())


def _largest(found: Tensor, expected: Tensor) -> float:
    found = found.double().cpu()
    if found.shape != expected.shape:
        raise ValueError(f"The shape is {tuple(found.shape)}, not {tuple(expected.shape)}.")
    if not found.isfinite().all():
        return math.inf
    return (found - expected.double()).abs().max().item()


@contextlib.contextmanager
def exact_float32() -> Iterator[None]:
    """float32 without the shorter mantissa (TF32) that some cards multiply with."""
    parts: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [part.allow_tf32 for part in parts]
    for part in parts:
        part.allow_tf32 = False
    try:
        yield
    finally:
        for part, value in zip(parts, before, strict=True):
            part.allow_tf32 = value
