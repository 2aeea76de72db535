"""The report: one Markdown file for people and issues, one JSON file for programs, and no word in
either says whose machine it was."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...common.text import printable, size_words
from ..comfyui.find import PACK_ROOT
from ..files import replacing
from .golden import Outcome
from .weights import Weights
from .workflows import Ran

ENDINGS = (".md", ".json")


@dataclass
class Report:
    """What was found; empty parts were not looked at."""

    environment: dict[str, Any]
    cases: list[Outcome] = field(default_factory=list)
    weights: Sequence[Weights] = ()
    workflows: Sequence[Ran] = ()
    problems: list[str] = field(default_factory=list)
    """Sentences on what could not be looked at, though it should have been."""

    @property
    def passed(self) -> bool:
        """The verdict: nothing that was looked at is wrong."""
        every = (*self.cases, *self.weights, *self.workflows)
        return not self.problems and all(each.passed for each in every)

    def as_dict(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "problems": self.problems,
            "environment": self.environment,
            "cases": [each.as_dict() for each in self.cases],
            "weights": [each.as_dict() for each in self.weights],
            "workflows": [each.as_dict() for each in self.workflows],
        }


def write(report: Report, path: Path, places: Mapping[Path, str]) -> tuple[Path, Path]:
    """Writes `path` with the endings .md and .json, all or nothing; returns both. places: see
    `Impersonal`. Raises OSError."""
    hidden = Impersonal({**places, **own_places()})
    base = path.with_suffix("") if path.suffix in ENDINGS else path
    written = base.with_name(f"{base.name}.md"), base.with_name(f"{base.name}.json")
    texts = "\n".join(markdown(report)) + "\n", json.dumps(report.as_dict(), indent=2) + "\n"
    for target, text in zip(written, texts, strict=True):
        with replacing(target) as part:
            part.write_text(hidden(text), "utf-8")
    return written


def own_places() -> dict[Path, str]:
    """The folders of this pack and this user, and the words that stand for them."""
    return {PACK_ROOT: "<pack>", Path.home(): "<home>", Path(tempfile.gettempdir()): "<temp>"}


class Impersonal:
    """Replaces paths in a text by words, the longest first; also as JSON and Windows write them."""

    def __init__(self, places: Mapping[Path, str]) -> None:
        spelled = {
            form: word
            for path, word in places.items()
            for each in {path, path.resolve()}
            for form in (str(each), each.as_posix(), json.dumps(str(each))[1:-1])
            if len(form) > 1  # a root folder hides nobody
        }
        self.words = spelled
        longest = sorted(spelled, key=len, reverse=True)
        self.pattern = re.compile("|".join(map(re.escape, longest))) if longest else None

    def __call__(self, text: str) -> str:
        if self.pattern is None:
            return text
        return self.pattern.sub(lambda match: self.words[match[0]], text)


def markdown(report: Report) -> Iterator[str]:
    """The report as lines of Markdown."""
    yield f"# Diffusion Restoration: check {'passed' if report.passed else 'FAILED'}"
    if report.problems:
        yield from ("", *(f"- **{cell(problem)}**" for problem in report.problems))
    yield from ("", "## This machine", "")
    yield from table(("what", "value"), flat(report.environment))
    yield from _part(
        "Cases of the authors' code",
        ("case", "precision", "largest difference", "accepted", ""),
        (
            (c.case, c.precision, f"{c.difference:.2g}", f"{c.accepted:.2g}", verdict(c, c.problem))
            for c in report.cases
        ),
    )
    yield from _part(
        "Weight files",
        ("file", "what", "sha256", "published", ""),
        (
            (f"{w.kind}/{w.file}", w.what, w.sha256[:16], w.published, verdict(w, w.problem))
            for w in report.weights
        ),
    )
    yield from _part(
        f"Workflows, {len(report.workflows)}",
        ("workflow", "seconds", "peak memory", "picture", ""),
        (
            (w.workflow, f"{w.seconds:.1f}", size_words(w.peak), w.size, verdict(w, w.why))
            if w.state != "not run"
            else (w.workflow, "", "", "", f"not run: {w.why}")
            for w in report.workflows
        ),
    )


def _part(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    if lines := list(rows):
        yield from ("", f"## {title}", "", *table(head, lines))


def verdict(each: Outcome | Weights | Ran, why: str) -> str:
    """A word, and why."""
    return "ok" if each.passed else f"**FAILED** {why}".rstrip()


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table of Markdown."""
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(map(cell, row))} |"


def cell(text: object) -> str:
    """A text that stays in its cell and steers nothing: names and errors come out of files."""
    return printable(" ".join(str(text).split())).replace("|", "\\|")


def flat(facts: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """(name, value) of nested facts; counts of bytes in words."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{name} " if name != "packages" else "")
        elif value not in ("", None):
            words = size_words(value) if type(value) is int and value >= 2**20 else value
            yield f"{above}{name}".replace("_", " "), str(words)
