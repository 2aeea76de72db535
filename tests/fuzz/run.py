"""Runs the campaigns, each in a process of its own with bounded memory, and sums up.

Usage: bash scripts/fuzz.sh [--seconds 300] [--seed 0] [--campaign NAME ...] [--case NUMBER]
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import runpy
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 20.0
"""Seconds for a case. One that cannot even be interrupted is ended, with its process, after twice that."""
START_S = 180.0
"""Seconds until a worker is ready: ComfyUI and the small networks."""
MEMORY = 3 << 30
"""Address space of a worker beyond what it has when it starts."""
SHOWN = 12
"""Faults that are printed in full, per campaign."""


def campaigns() -> dict[str, Any]:
    from restoration.tests.fuzz import folder_runs, node_inputs, weight_files

    classes = (
        node_inputs.NodeInputs,
        node_inputs.Prompts,
        weight_files.WeightFiles,
        weight_files.Loaders,
        folder_runs.Pictures,
        folder_runs.Workflows,
        folder_runs.Manifests,
    )
    return {each.name: each for each in classes}


def prepare_host() -> bool:
    """ComfyUI in this process, on the CPU, with an empty base folder; whether there is one."""
    from restoration.tools.comfyui.find import find_host
    from restoration.tools.comfyui.inprocess import import_comfyui

    host = find_host()
    if host is None:
        return False
    base = Path(tempfile.mkdtemp(prefix="restoration-fuzz-"))
    import_comfyui(host.path, base)
    return True


def bound_memory() -> None:
    try:
        import resource
    except ImportError:  # no such limits on this system
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if os.path.exists("/proc") else 0
    limit = pages * resource.getpagesize() + MEMORY
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def work(options: argparse.Namespace) -> int:
    """A worker: cases from --first on until its time is over, a line of JSON for each."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what anything prints is no answer
    runpy.run_path(str(ROOT / "tools" / "package.py"))["register_pack"]()
    import torch

    from restoration.tests.fuzz.campaign import run_case

    torch.set_num_threads(1)
    chosen = campaigns()[options.worker]
    if chosen.needs_host and not prepare_host():
        answers.write(json.dumps({"absent": "no ComfyUI found; set COMFYUI_PATH"}) + "\n")
        return 0
    campaign = chosen()
    if left_out := getattr(campaign, "left_out", None):
        answers.write(json.dumps({"note": f"without {', '.join(left_out)}"}) + "\n")
    campaign.warm_up()
    bound_memory()
    end, number = time.monotonic() + options.seconds, options.first
    try:
        while time.monotonic() < end and number < options.last:
            answers.write(json.dumps({"start": number}) + "\n")
            result = run_case(campaign, options.seed, number, options.keep, LIMIT_S)
            answers.write(json.dumps(vars(result)) + "\n")
            number += 1
    finally:
        campaign.close()
    return 0


class Watch:
    """One campaign seen from outside: its workers, and what became of its cases."""

    def __init__(self, name: str, options: argparse.Namespace, seconds: float) -> None:
        self.name, self.options = name, options
        self.counts: Counter[str] = Counter()
        self.faults: list[tuple[int, str]] = []
        self.notes: list[str] = []
        self.end = time.monotonic() + seconds
        self.started = False

    def run(self) -> None:
        only = self.options.case
        first, last = (0, sys.maxsize) if only is None else (only, only + 1)
        while (
            first is not None and first < last and (not self.started or self.end > time.monotonic())
        ):
            first = self._worker(first, last)

    def _worker(self, first: int, last: int) -> int | None:
        """Runs one process; the case to go on with after one that took the process with it."""
        words = [sys.executable, str(Path(__file__)), "--worker", self.name]
        words += ["--first", str(first), "--last", str(last), "--seed", str(self.options.seed)]
        words += ["--keep", str(self.options.keep)]
        words += ["--seconds", str(max(1.0, self.end - time.monotonic()))]
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=said, text=True)
            lines: queue.Queue[str | None] = queue.Queue()
            threading.Thread(target=self._read, args=(process, lines), daemon=True).start()
            running, in_time = self._follow(lines)
            if not in_time:
                process.kill()
            process.wait()
            if running is None and process.returncode == 0:
                return None
            said.seek(max(0, said.seek(0, os.SEEK_END) - 2000))
            tail = said.read().decode(errors="replace")
        how = f"exit code {process.returncode}" if in_time else f"no end within {2 * LIMIT_S:g} s"
        if running is None or running < 0:
            what = "did not start" if running == -1 else "ended badly"
            self._fault(-1, f"the worker {what}: {how}\n{tail}")
            return None
        self._fault(running, f"the process was gone: {how}\n{tail}")
        return running + 1

    @staticmethod
    def _read(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
        assert process.stdout
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    def _follow(self, lines: queue.Queue[str | None]) -> tuple[int | None, bool]:
        """Takes answers until the worker ends: the case it was at when it did not end well, and
        whether it ended by itself."""
        running, wait = -1, START_S
        while True:
            try:
                line = lines.get(timeout=wait)
            except queue.Empty:
                return running, False
            if line is None:
                return None if running == -2 else running, True
            answer, wait = json.loads(line), 2 * LIMIT_S
            if "absent" in answer:
                self.notes.append(f"not run: {answer['absent']}")
                running = -2
            elif "note" in answer:
                self.notes.append(answer["note"])
            elif "start" in answer:
                running, self.started = answer["start"], True
            else:
                running = -2  # between two cases
                self.counts[answer["kind"]] += 1
                if answer["kind"] == "fault":
                    self.faults.append((answer["number"], answer["text"]))

    def _fault(self, number: int, text: str) -> None:
        self.counts["fault"] += 1
        self.faults.append((number, text))

    def report(self) -> None:
        seed, keep = self.options.seed, self.options.keep
        for number, text in self.faults[:SHOWN]:
            where = keep / f"{self.name}-{seed}-{number}"
            say(f"\nFAULT {self.name} case {number}")
            again = f"--campaign {self.name} --seed {seed} --case {number}"
            say(f"  again: bash scripts/fuzz.sh {again}")
            if where.exists():
                say(f"  files: {where}")
            say("  " + printable(text.strip()).replace("\n", "\n  "))
        if len(self.faults) > SHOWN:
            more = ", ".join(str(number) for number, _ in self.faults[SHOWN : SHOWN + 200])
            say(f"\n{len(self.faults) - SHOWN} more faults of {self.name}: cases {more}")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def printable(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/fuzz.sh", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, help="for all campaigns together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--campaign", action="append", metavar="NAME", help="only these")
    parser.add_argument("--case", type=int, metavar="NUMBER", help="only this one, to see it again")
    parser.add_argument("--keep", type=Path, default=ROOT / "output" / "fuzz", metavar="DIR")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--last", type=int, default=sys.maxsize, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        return work(options)
    runpy.run_path(str(ROOT / "tools" / "package.py"))["register_pack"]()
    known = campaigns()
    chosen = options.campaign or list(known)
    if unknown := sorted(set(chosen) - set(known)):
        parser.error(f"no campaign {', '.join(unknown)}; there are {', '.join(known)}")
    options.keep.mkdir(parents=True, exist_ok=True)
    watches = [Watch(name, options, options.seconds / len(chosen)) for name in chosen]
    for watch in watches:
        watch.end = time.monotonic() + options.seconds / len(chosen)
        watch.run()
        watch.report()
    return summary(watches, options)


def summary(watches: list[Watch], options: argparse.Namespace) -> int:
    say(f"\nseed {options.seed}   {'cases':>7} {'done':>7} {'sentences':>10} {'faults':>7}")
    total: Counter[str] = Counter()
    for watch in watches:
        counts = watch.counts
        total += counts
        notes = f"   {'; '.join(watch.notes)}" if watch.notes else ""
        say(row(watch.name, counts) + notes)
    say(row("all", total))
    if total["fault"]:
        say(f"Hostile files of the faults: {options.keep}")
    if not sum(total.values()):
        say("No case ran.")
    return 1 if total["fault"] or not sum(total.values()) else 0


def row(name: str, counts: Counter[str]) -> str:
    numbers = (sum(counts.values()), counts["done"], counts["sentence"], counts["fault"])
    return f"{name:<9} {numbers[0]:>7} {numbers[1]:>7} {numbers[2]:>10} {numbers[3]:>7}"


if __name__ == "__main__":
    raise SystemExit(main())
