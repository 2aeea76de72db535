"""Several workers at once: kills, poison, stragglers, back-pressure, and memory that does not grow."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
import tracemalloc
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from restoration.tests.tools.folder.fake_comfy import WORKFLOW
from restoration.tools.comfyui.client import Stopped
from restoration.tools.comfyui.find import HostError
from restoration.tools.commands import main
from restoration.tools.folder import run
from restoration.tools.folder.execute import After, Attempt, Cause, Failure
from restoration.tools.folder.pool import Pool
from restoration.tools.folder.saving import Order, Saving, Task
from restoration.tools.folder.work import Made
from restoration.tools.folder.workflow import make_job

ORDER = Order(make_job(WORKFLOW), Saving("png", 95), "workflow.json", 60.0)


def tasks(count: int) -> list[Task]:
    names = [Path(f"{number:04}") for number in range(count)]
    return [Task(name, name, name, str(name), ORDER) for name in names]


@dataclass
class Hand:
    """A worker that does nothing but what it is told."""

    name: str
    deadly: frozenset[str] = frozenset()
    """Pictures that its ComfyUI dies of."""
    lives: int = 100
    seconds: float = 0.0
    had: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        if not self.lives:
            raise HostError(f"{self.name} does not start")

    def attempt(self, task: Task, progress) -> Attempt:
        self.had.append(str(task.path))
        if self.stopped.wait(self.seconds):
            raise Stopped
        if str(task.path) in self.deadly:
            self.lives -= 1
            after = After.LOST if self.lives else After.GONE
            return Attempt(Failure("no answer", Cause.LOST), after, "1", f"{self.name} is dead")
        return Attempt(Made({"n": str(task.path)}, (b"x" * 1000,)), After.READY, "1")

    def stop(self) -> None:
        self.stopped.set()


def mapped(hands, todo, retries: int = 2):
    return list(Pool(hands, retries).map(todo, lambda step: None))


def test_what_a_dead_worker_had_goes_to_another_one_and_nothing_is_done_twice() -> None:
    first = Hand("a", frozenset({"0003", "0007"}))
    second = Hand("b", seconds=0.002)
    ended = mapped([first, second], tasks(40))
    assert sorted(str(e.task.path) for e in ended) == [f"{n:04}" for n in range(40)]
    assert all(isinstance(e.outcome, Made) for e in ended)
    again = set(first.had) & set(second.had)
    assert len(first.had) + len(second.had) == 40 + len(again) and again <= first.deadly


@pytest.mark.parametrize(("retries", "kills"), [(0, 1), (1, 2), (2, 3), (9, 4)])
def test_a_poisoned_picture_is_named_after_as_many_workers_as_were_allowed(retries, kills) -> None:
    hands = [Hand(name, frozenset({"0000"})) for name in "abcd"]
    ended = mapped(hands, tasks(20), retries)
    assert len(ended) == 20
    (failed,) = (e for e in ended if isinstance(e.outcome, Failure))
    assert str(failed.task.path) == "0000" and failed.outcome.cause is Cause.LOST
    names = " and ".join(hand.name for hand in hands if "0000" in hand.had)
    said = f"given up, for ComfyUI ended at work on it at {names}; the last time: no answer"
    assert failed.outcome.error == said and (failed.worker, failed.comfyui) == (names, "1")
    assert sum(100 - hand.lives for hand in hands) == kills
    # The first to have it went on; the others had it when nothing else was left to begin.
    assert sum("0000" in hand.had and hand.had[-1] != "0000" for hand in hands) <= 1


def test_poison_on_servers_that_stay_dead_costs_one_before_the_others_are_done() -> None:
    hands = [Hand(name, frozenset({"0000"}), lives=1, seconds=0.001) for name in "abc"]
    ended = mapped(hands, tasks(30))
    assert [isinstance(e.outcome, Made) for e in ended] == [True] * 29 + [False]


@pytest.mark.parametrize("starts", [0, 1])
def test_a_worker_that_does_not_come_back_holds_neither_its_picture_nor_the_end(
    starts: int,
) -> None:
    """As where its machine died and Ray has no place for another one."""

    class Waiting(Hand):
        starts = 0

        def start(self) -> None:
            self.stopped.clear()
            self.starts += 1
            if self.starts > starts and self.stopped.wait(30):
                raise Stopped

    gone, other = Waiting("gone", frozenset({"0000"}), seconds=0.01), Hand("other", seconds=0.02)
    pool = Pool([gone, other])
    for _ in range(2):  # `--watch` and equal pictures come with one call after another
        ended = list(pool.map(tasks(5), lambda step: None))
        assert sorted(str(e.task.path) for e in ended) == [f"{n:04}" for n in range(5)]
        assert all(isinstance(e.outcome, Made) for e in ended)
    assert len(gone.had) == starts and gone.starts == 2 + starts
    assert len(other.had) == 10


def test_no_worker_left_is_an_error_that_leaves_the_rest_to_be_done() -> None:
    everything = frozenset(f"{n:04}" for n in range(10))
    hands = [Hand(name, everything, lives=1) for name in "ab"]
    ended = []
    with pytest.raises(HostError, match=r"No ComfyUI is left of 2\. The last one: . is dead"):
        for each in Pool(hands).map(tasks(10), lambda step: None):
            ended.append(each)
    assert len(ended) == 2 and all(isinstance(e.outcome, Failure) for e in ended)
    hands = [Hand("a", lives=0), Hand("b")]
    assert len(mapped(hands, tasks(10))) == 10 and len(hands[1].had) == 10


def test_who_never_starts_is_not_waited_for_with_what_the_others_died_of() -> None:
    class First(Hand):
        def start(self) -> None:
            if self.had:
                lost.set()

    class Late(Hand):
        def start(self) -> None:
            assert lost.wait(5)
            raise HostError("no place")

    lost = threading.Event()
    ended = mapped([First("a", frozenset({"0001"})), Late("b")], tasks(2))
    failed = {str(e.task.path): e.worker for e in ended if isinstance(e.outcome, Failure)}
    assert len(ended) == 2 and failed == {"0001": "a"}


def test_a_straggler_does_not_block_the_others() -> None:
    slow, quick = Hand("slow", seconds=0.5), Hand("quick")
    ended = mapped([slow, quick], tasks(50))
    assert len(slow.had) == 1 and len(quick.had) == 49 and ended[-1].worker == "slow"


def test_no_more_is_taken_than_the_one_who_asks_can_follow() -> None:
    taken = []

    def counted():
        for task in tasks(200):
            taken.append(task)
            yield task

    running = Pool([Hand("a"), Hand("b")]).map(counted(), lambda step: None)
    for number in range(1, 100):
        next(running)
        time.sleep(0.001)
        # In hand, and waiting: one each of every worker; and one that was just handed over.
        assert len(taken) <= number + 5
    running.close()


def test_an_interrupt_stops_every_worker_at_once() -> None:
    hands = [Hand("a", seconds=30), Hand("b", seconds=30), Hand("c")]
    running = Pool(hands).map(tasks(9), lambda step: None)
    next(running)
    started = time.monotonic()
    running.close()
    assert time.monotonic() - started < 5 and hands[0].stopped.is_set()
    assert not any(thread.name.startswith("Thread") and "serve" in thread.name
                   for thread in threading.enumerate())  # fmt: skip


def test_what_no_picture_can_change_ends_the_run_for_all() -> None:
    class Broken(Hand):
        def start(self) -> None:
            raise ValueError("it lacks a node")

    with pytest.raises(ValueError, match="it lacks a node"):
        mapped([Broken("a"), Hand("b", seconds=30)], tasks(9))


SIZE = 20_000


class Making(Hand):
    """A worker with results."""

    def attempt(self, task: Task, progress) -> Attempt:
        outputs = [{"file": task.file(), "sha256": task.sha256, "width": 1, "height": 1}]
        record = {
            **task.identity(), "comfyui": "1", "outputs": outputs, "seconds": 0.1,
            "metrics": {}, "kept": [], "notes": [], "status": "done",
        }  # fmt: skip
        return Attempt(Made(record, (bytes(SIZE),)), After.READY, "1")


@pytest.mark.parametrize("count", [400, pytest.param(2000, marks=pytest.mark.slow)])
def test_many_pictures_leave_no_results_behind_in_memory(
    workflow, tmp_path, monkeypatch, count
) -> None:
    (tmp_path / "in").mkdir()
    for number in range(count):
        (tmp_path / "in" / f"{number}.bmp").write_bytes(b"%d" % number)

    @contextlib.contextmanager
    def executing(options, order):
        yield Pool([Making("a"), Making("b")])

    real, alive, memory = run.Driver._finish, [], []

    def finish(self, ended) -> None:
        real(self, ended)
        if self.display.tally.done % (count // 4) == 0:
            alive.append(results_alive() - before)
            memory.append(tracemalloc.get_traced_memory()[0])

    monkeypatch.setattr(run, "executing", executing)
    monkeypatch.setattr(run.Driver, "_finish", finish)
    monkeypatch.setattr(os, "fsync", lambda number: None)
    gc.collect()
    before = results_alive()  # of tests before this one
    tracemalloc.start()
    try:
        words = [str(workflow), str(tmp_path / "in"), "-o", str(tmp_path / "out")]
        assert main(["run", *words]) == 0
    finally:
        tracemalloc.stop()
    assert len(memory) == 4 and max(alive) <= 6
    # A line of the manifest stays, less than half a result.
    assert (memory[-1] - memory[0]) / (count * 3 // 4) < SIZE / 2


def results_alive() -> int:
    return sum(isinstance(each, Made) for each in gc.get_objects())
