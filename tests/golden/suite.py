"""Golden cases: finding them, rebuilding their networks' weights, and counting what ran.

A case says in its own JSON which `method` and `module` it belongs to; the runner registered for
that pair takes every number from the case. File names mean nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from restoration.tests.golden import seeded
from restoration.tools.check.cases import Case

FOLDER = Path(__file__).parent
PENDING_FILE = FOLDER / "pending.txt"


@dataclass(frozen=True)
class GoldenCase(Case):
    """One JSON and, where it has tensors, the safetensors file beside it."""

    compared: set[str] = field(default_factory=set, compare=False, repr=False)
    """Outputs that were held to their recorded values, or left on purpose."""

    @property
    def method(self) -> str:
        return self.data.get("method", self.path.parent.name)

    @property
    def module(self) -> str:
        """What the runner is registered for; manifests have a checkpoint instead of a module."""
        return self.data.get("module") or f"manifest {self.data['checkpoint']}"

    @property
    def seed(self) -> int:
        return self.data["seed"]

    def state_dict(self) -> dict[str, Tensor]:
        """The seeded weights, by the key names of the published checkpoint."""
        weights = seeded.state_dict(self.seed, self.data["parameters"])
        return {name: torch.from_numpy(value) for name, value in weights.items()}

    def manifest(self) -> dict[str, dict[str, list]]:
        """{group: {key: [shape, kind]}} of a full-size published checkpoint."""
        return self.data["groups"]

    def contents(self, *groups: str) -> dict[str, Tensor]:
        """What such a file holds, without memory, on the meta device. No group named: all."""
        kinds = {"int": torch.long, "float": torch.float}
        return {
            key: torch.empty(shape, device="meta", dtype=kinds[kind])
            for group in groups or self.manifest()
            for key, (shape, kind) in self.manifest()[group].items()
        }

    @property
    def outputs(self) -> set[str]:
        """Names of everything recorded that was not given."""
        described = set(self.data.get("outputs", ()))
        beside = self.path.with_suffix(".safetensors")
        recorded = set(self.tensors) if described or beside.exists() else set()
        return (described | recorded) - set(self.data.get("inputs", ()))

    def check(
        self, found: Mapping[str, Tensor], tolerance: float | None = None, relative: bool = False
    ) -> None:
        """Compares tensors with the recorded ones of the same name: every difference at most the
        case's tolerance (relative: times the recorded value). Names all that differ, with the
        largest and the mean difference.

        found may hold more than a case records: which outputs there are is the case's own affair,
        and `finish` names those that no `check` met.
        """
        tolerance = self.tolerance if tolerance is None else tolerance
        wrong = []
        for name in sorted(self.outputs & set(found)):
            value, expected = found[name], self.tensors.get(name)
            if expected is None:
                wrong.append(f"{name}: described, but not in {self.path.stem}.safetensors")
                continue
            self.compared.add(name)
            if value.shape != expected.shape:
                wrong.append(f"{name}: shape {tuple(value.shape)}, not {tuple(expected.shape)}")
                continue
            difference = (value.double() - expected.double()).abs()
            accepted = tolerance * (expected.double().abs() if relative else 1.0)
            if not difference.numel() or not (difference <= accepted).all():  # catches NaN too
                wrong.append(
                    f"{name}: largest difference {difference.max():.3g}, "
                    f"mean {difference.mean():.3g}, accepted {tolerance:.3g}"
                )
        assert not wrong, "\n".join([self.name, *wrong])

    def leave(self, *names: str) -> None:
        """Says that outputs are recorded for documentation, and not to be met by us."""
        self.compared.update(names)

    def finish(self) -> None:
        """Fails where an output met no comparison; called after every runner."""
        left = ", ".join(sorted(self.outputs - self.compared))
        assert not left, f"{self.name}: output {left} was not compared"


Run = Callable[[GoldenCase, Callable[[str], Any]], None]
"""A runner: (case, get) where get(name) gives a pytest fixture, such as `comfy`."""


@dataclass(frozen=True)
class Runner:
    run: Run
    needs_host: bool

    def __call__(self, case: GoldenCase, get: Callable[[str], Any]) -> None:
        """Runs a case and holds it to every output that it records."""
        self.run(case, get)
        case.finish()


RUNNERS: dict[tuple[str, str], Runner] = {}


def golden(method: str, *modules: str, needs_host: bool = False) -> Callable[[Run], Run]:
    """Registers a runner for the cases of a method whose `module` is one of `modules`."""

    def register(run: Run) -> Run:
        for module in modules:
            assert (method, module) not in RUNNERS, f"two runners for {method}: {module}"
            RUNNERS[method, module] = Runner(run, needs_host)
        return run

    return register


def load_runners() -> None:
    """Imports every runners_<method>.py beside this file."""
    for path in sorted(FOLDER.glob("runners_*.py")):
        import_module(f"restoration.tests.golden.{path.stem}")


def pending() -> set[tuple[str, str]]:
    """(method, module) pairs that have no runner yet; the list may only shrink."""
    lines = PENDING_FILE.read_text().splitlines()
    entries = [line for line in lines if line.strip() and not line.startswith("#")]
    return {(method, module) for method, _, module in (e.partition(": ") for e in entries)}


def read_case(path: Path) -> GoldenCase:
    return GoldenCase(path, json.loads(path.read_text()))


def collect_cases(folder: Path | None) -> list[Any]:
    """All cases below `folder` (default: this one) as pytest parameters; those whose runner
    needs ComfyUI carry the `host` marker."""
    load_runners()
    folder = folder or FOLDER
    cases = [read_case(path) for path in sorted(folder.rglob("*.json"))]
    if not cases:
        raise pytest.UsageError(f"no golden cases (*.json) below {folder}")
    params = []
    for case in cases:
        runner = RUNNERS.get((case.method, case.module))
        marks = [pytest.mark.host] if runner and runner.needs_host else []
        params.append(pytest.param(case, id=case.name, marks=marks))
    return params


class GoldenReport:
    """Prints how many cases of which module ran, passed, or have no runner yet."""

    KEY: ClassVar = pytest.StashKey["GoldenReport"]()

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        properties = dict(report.user_properties)
        module = properties.get("golden module")
        decisive = report.when == "call" or (report.when == "setup" and not report.passed)
        if not module or not decisive:
            return
        outcome = "pending" if report.skipped and properties.get("pending") else report.outcome
        self.counts.setdefault(str(module), Counter())[outcome] += 1

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.counts:
            return
        terminalreporter.section("golden cases")
        total: Counter[str] = Counter()
        for module, counts in sorted(self.counts.items()):
            total += counts
            line = ", ".join(f"{number} {outcome}" for outcome, number in sorted(counts.items()))
            terminalreporter.write_line(f"{module}: {line}")
        line = ", ".join(f"{number} {outcome}" for outcome, number in sorted(total.items()))
        terminalreporter.write_line(f"all: {line}")
