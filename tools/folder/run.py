"""A folder of pictures through one workflow: the command `run`."""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..comfyui.client import PromptError
from ..comfyui.find import HostError
from .backends import add_options, check_options, executing
from .display import Display, Tally, printable
from .errors import UsageError
from .execute import Cause, Ended, Executor, Failure, failure_sentence
from .inputs import find_inputs
from .manifest import NAME, Record
from .output import Output, OutputError, claim
from .plan import Plan, Settled, plan
from .saving import Order, Saving, Task
from .summary import Summary
from .watch import Watch
from .workflow import load_workflow, make_job, workflow_file

COPIED = "copied, for "
"""Begins the note of a picture that got the results of an equal one."""


@dataclass
class Driver:
    """Brings a plan to its end. It alone writes into the output folder, and tells."""

    output: Output
    display: Display
    again: bool
    """Work on equal pictures, too, and replace results that were changed."""
    summary: Summary = field(default_factory=Summary)

    def settle(self, made: Plan) -> list[Task]:
        """Tells what is done already and copies what an equal picture has; the rest."""
        for each in made.settled:
            if each.kind == "failed":
                self._fail(each.task, each.why)
            else:
                self.display.finish(each.task.path, each.kind, each.why)
        return [task for task in made.tasks if not self._copy(task)]

    def work(self, tasks: Sequence[Task], executor: Executor) -> None:
        """Has all tasks done; what fails is written down and the next one follows.

        Raises HostError when no server is left, UsageError when it refuses the workflow whatever
        the picture; what was done until then is in the manifest.
        """
        while tasks:
            first: dict[object, Task] = {}
            for task in tasks:
                first.setdefault(task.path if self.again else task.key, task)
            with contextlib.closing(executor.map(list(first.values()), self.display.step)) as ended:
                for each in ended:
                    self._finish(each)
                    if self.summary.is_due():
                        tally = f"{self.display.tally}; {self.summary.speed}"
                        for line in (tally, *self.summary.lines()):
                            self.display.tell(line)
            worked = {task.path for task in first.values()}
            # Equal pictures waited for the first one; where that failed, the next one tries.
            tasks = [t for t in tasks if t.path not in worked and not self._copy(t)]

    def _finish(self, ended: Ended) -> None:
        task, outcome = ended.task, ended.outcome
        if isinstance(outcome, Failure):
            self._fail(task, outcome.error, ended.comfyui, outcome.cause)
            if outcome.of_all:
                raise UsageError(f"{outcome.error}. It would refuse every picture.")
        elif self._commit(task, outcome.record, outcome.files):
            files = ", ".join(each["file"] for each in outcome.record["outputs"])
            seconds = outcome.record["seconds"]
            self.summary.done[ended.worker] += 1
            self.display.finish(task.path, "done", f"{files} ({seconds:.1f} s)")

    def _copy(self, task: Task) -> bool:
        """Gives a picture the results of an equal one; False: there are none."""
        if self.again:
            return False
        try:
            if (source := self.output.equal(task.key)) is None:
                return False
            files = [(self.output.folder / e["file"]).read_bytes() for e in source["outputs"]]
        except OSError:  # gone since, or not to be read: it is done anew
            return False
        count = len(files)
        outputs = [
            {**each, "file": task.file(number, count)}
            for number, each in enumerate(source["outputs"], 1)
        ]
        notes = [note for note in source["notes"] if not note.startswith(COPIED)]
        record = {
            **task.identity(),
            **{part: source[part] for part in ("seconds", "metrics", "kept", "comfyui")},
            "outputs": outputs,
            "notes": [*notes, f"{COPIED}{source['input']} is equal"],
            "status": "done",
        }
        if self._commit(task, record, files):
            self.display.finish(task.path, "skipped", "skipped, copied")
        return True

    def _commit(self, task: Task, record: Record, files: Sequence[bytes]) -> bool:
        """Writes results; False: that failed, and the picture with it."""
        try:
            self.output.commit(record, files, task.path, self.again)
        except OutputError:
            raise
        except OSError as error:
            self._fail(task, failure_sentence(error), record["comfyui"])
            return False
        return True  # told last: whoever reads that may hang up

    def _fail(
        self, task: Task, error: str, comfyui: str = "", cause: Cause = Cause.PICTURE
    ) -> None:
        record = task.identity() | {"comfyui": comfyui, "status": "failed", "error": error}
        self.output.add(record)
        self.summary.failed[cause] += 1
        self.display.finish(task.path, "failed", f"failed: {error}")


def run_folder(order: Order, options: argparse.Namespace) -> tuple[Tally, Summary]:
    """All that the command line asks for. Raises UsageError, HostError, OSError."""
    with claim(options.output) as output:
        display, executor = Display(order.job), None
        driver = Driver(output, display, options.again)
        with contextlib.closing(display), contextlib.ExitStack() as started:
            try:
                for made in _plans(order, options, output):
                    display.expect(len(made.settled) + len(made.tasks))
                    if tasks := driver.settle(made):
                        executor = executor or started.enter_context(executing(options, order))
                        driver.work(tasks, executor)
            except (HostError, UsageError, OutputError) as error:
                if display.tally == Tally():
                    raise
                raise type(error)(
                    f"{error} So far: {display.tally}; run the command again to go on."
                ) from error
    return display.tally, driver.summary


def _plans(order: Order, options: argparse.Namespace, output: Output) -> Iterator[Plan]:
    """One for what there is, or with --watch one after another for what comes."""
    told = False

    def find() -> Mapping[Path, Path]:
        nonlocal told
        results = output.manifest.writers().keys()
        found = find_inputs(
            options.inputs, options.recursive, options.output, results, not options.watch
        )
        if found.passed_over and not told:
            print(f"Passed over: {printable(found)}", file=sys.stderr)
            told = True
        return found.pictures

    if not options.watch:
        yield plan(find(), output, order, options.again)
        return
    for pictures in Watch(find).rounds():
        try:
            yield plan(pictures, output, order, options.again)
        except UsageError:  # of one, which must not keep the others waiting
            for path, name in pictures.items():
                try:
                    yield plan({path: name}, output, order, options.again)
                except UsageError as error:
                    task = Task(path, name, name, "", order)
                    yield Plan(settled=[Settled(task, "failed", str(error))])


def run_command(options: argparse.Namespace) -> int:
    """0: all done or skipped; 1: some failed; 2: it could not run."""
    started = time.monotonic()
    saving = Saving(options.format, options.quality)
    try:
        check_options(options)
        path = workflow_file(options.workflow)
        prompt = load_workflow(path)
        job = make_job(prompt, options.set, options.seed, options.input_node, saving.settings)
        tally, summary = run_folder(Order(job, saving, path.name, options.timeout), options)
    except BrokenPipeError:  # of what is printed, which `main` understands
        raise
    except (HostError, PromptError, UsageError, ValueError, OSError) as error:
        print("\n".join(map(printable, f"{error}".split("\n"))), file=sys.stderr)
        return 2
    seconds = time.monotonic() - started
    speed = f" ({summary.speed})" if summary.done else ""
    print(f"{tally} in {seconds:.1f} s{speed}; {printable(options.output / NAME)}")
    for line in summary.lines():
        print(line)
    return 1 if tally.failed else 0


def _quality(text: str) -> int:
    if not 1 <= (value := int(text)) <= 100:
        raise argparse.ArgumentTypeError("expected 1 to 100")
    return value


def add_commands(commands: Any) -> None:
    """Adds `run` to a parser's subparsers."""
    parser = commands.add_parser("run", help="a folder of pictures through a workflow")
    parser.add_argument(
        "workflow", help="the name of a shipped one, as quick_restore, or a file in API form"
    )
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="folders, files, or patterns in quotes"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the results")
    add_options(parser)
    parser.add_argument("-r", "--recursive", action="store_true", help="folders in folders, too")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NODE.INPUT=VALUE",
        help="change a value; NODE is an id, a title or a class, needed where several have INPUT",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, help="for every seed of the workflow")
    parser.add_argument("--input-node", metavar="NODE", help="which Load Image takes the pictures")
    parser.add_argument("--format", choices=["png", "jpg", "webp", "same"], default="png")
    parser.add_argument("--quality", type=_quality, default=95, help="of jpg and webp (95)")
    parser.add_argument(
        "--again", action="store_true",
        help="do what is done, too, and replace results that you changed",
    )  # fmt: skip
    parser.add_argument(
        "--watch",
        action="store_true",
        help="go on with what comes into the folders; Ctrl-C ends it",
    )
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds a picture may take")
    parser.set_defaults(run=run_command)
