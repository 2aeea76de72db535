"""Generated cases: what one is, what may come of it, and how it is bounded.

A case is drawn from (seed, campaign, number) alone, so these three reproduce it. It ends in what it
should do, in a sentence for the user, or in a fault: any other exception, a sentence that is none,
a file that was touched, or no end within the time.
"""

from __future__ import annotations

import contextlib
import io
import random
import re
import shutil
import signal
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import ClassVar, Literal

Kind = Literal["done", "sentence", "fault"]
LONGEST_SENTENCE = 6000
"""Characters; a list of choices may be long, a dump of a tensor is longer."""


class Fault(AssertionError):
    """What a campaign found wrong with a case that raised nothing."""


class TooSlow(BaseException):
    """Not an Exception: what is under test may not catch it."""


@dataclass(frozen=True)
class Result:
    number: int
    kind: Kind
    text: str


class Campaign:
    """One kind of input. `case` draws one from `rng`, keeps hostile files in `folder`, and returns
    the sentence that the user got, or nothing where all went well."""

    name: ClassVar[str]
    needs_host: ClassVar[bool] = False

    def warm_up(self) -> object:
        """What takes its time once, before the first case."""

    def case(self, rng: random.Random, folder: Path) -> str:
        raise NotImplementedError

    def close(self) -> None:
        """Ends what `__init__` began."""


def checked_sentence(text: str, longest: int = LONGEST_SENTENCE) -> str:
    """The text, if a user can read it."""
    if "Traceback (most recent call last)" in text:
        raise Fault(f"a traceback instead of a sentence:\n{text}")
    if hidden := re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x9b\u202e]", text):
        raise Fault(f"a raw control character {hidden[0]!r} in: {text[:400]!r}")
    if len(text) > longest:
        raise Fault(f"{len(text)} characters, which begin: {text[:400]!r}")
    if not re.search(r"[^\W\d_]{2,}\W+[^\W\d_]{2,}", text):
        raise Fault(f"no sentence: {text[:400]!r}")
    return text


def run_command(*arguments: object) -> tuple[int, str]:
    """`python -m tools ARGUMENTS` in this process: its exit code and all it said."""
    from restoration.tools.commands import main

    said = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict", write_through=True)
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            code = main([str(each) for each in arguments])
        except SystemExit as stopped:
            code = stopped.code if isinstance(stopped.code, int) else 1
    text = said.buffer.getvalue().decode()  # type: ignore[attr-defined]
    if code not in (0, 1, 2):
        raise Fault(f"exit code {code}: {text[-400:]}")
    return code, text


def command_sentence(*arguments: object) -> str:
    """The same for a case: its sentence where it was refused, nothing where it went well."""
    code, text = run_command(*arguments)
    checked_sentence(text) if text.strip() else None
    if code and not text.strip():
        raise Fault(f"exit code {code} without a word")
    return text if code else ""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """TooSlow inside, once the time is over. On the main thread of a system that has timers."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooSlow(f"no end within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run_case(campaign: Campaign, seed: int, number: int, folder: Path, limit: float) -> Result:
    """One case in a folder of its own, which stays only where it ends in a fault."""
    where = folder / f"{campaign.name}-{seed}-{number}"
    shutil.rmtree(where, ignore_errors=True)  # of an earlier fault
    where.mkdir(parents=True)
    try:
        with time_limit(limit):
            text = campaign.case(random.Random(f"{seed} {campaign.name} {number}"), where)
        result = Result(number, "sentence" if text else "done", text)
    except (Exception, TooSlow) as error:
        result = Result(number, "fault", "".join(traceback.format_exception(error)[-12:]))
    if result.kind != "fault" or not any(where.iterdir()):
        shutil.rmtree(where, ignore_errors=True)
    return result


def snapshot(folder: Path) -> dict[Path, bytes]:
    """What lies below a folder."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def unchanged(before: dict[Path, bytes]) -> None:
    for path, data in before.items():
        if not path.exists() or path.read_bytes() != data:
            raise Fault(f"{path.name} was touched, and it is the user's")
