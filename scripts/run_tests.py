"""Runs every test tier that this machine allows and ends with a table of what was not tested.

Called by `scripts/test.sh` inside the local environment. See docs/testing.md.

    bash scripts/test.sh                    what every change is held to
    bash scripts/test.sh --all              also slow tests, and every test on the older host, too
    bash scripts/test.sh --changed [REV]    the tests that mirror or import what changed since REV
                                            (without it: since the last commit)
    bash scripts/test.sh --only lint        or pure, or hosts: a part, as continuous integration does
    bash scripts/test.sh -k color           other arguments go to every pytest call
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import MutableMapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
runpy.run_path(str(ROOT / "tools" / "package.py"))["register_pack"]()

from restoration.tests.mechanisms import MARK  # noqa: E402
from restoration.tests.mirror import mirrored  # noqa: E402
from restoration.tools.comfyui.find import Host, HostError, find_chromium, find_frontend, find_hosts  # noqa: E402

NO_TESTS = 5
"""pytest's exit status when it collected nothing."""
NOTHING = "no test was selected"
TIER_SECONDS = 1800
PARTS = ("lint", "pure", "hosts")
HOST_TIERS = ("host", "server", "browser")
ALWAYS_HERE = {"server": "tests/server", "browser": "tests/browser"}
"""Tiers whose tests lie in one folder: no other is collected for them."""
SLOWEST = "--durations=20"
"""Printed after every tier, so that whoever makes the suite long sees it."""
WORKERS = ("-n", str(min(os.cpu_count() or 1, 4)))
ONE_THREAD = {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
"""For tests of tiny tensors in several processes: more threads only get in each other's way. The
hash seed, so that all processes collect tests made from sets in the same order."""
BYTECODE = ROOT / ".venv" / "pycache"
NO_HOST = (
    "no ComfyUI found and none could be installed: set COMFYUI_PATH to a checkout, "
    "or put one at ~/comfy/ComfyUI"
)
ONE_HOST = (
    "only one ComfyUI found: set COMFYUI_PATH_LATEST to a newer checkout, "
    "or put one at ~/comfy/ComfyUI-latest"
)
OLDER_HOST = (
    "one test per mechanism and the golden cases",
    "what a server of this version answers",
    "a template for every node",
)
"""What the host, server and browser tiers run there."""
NO_CHROMIUM = "no Chromium found: install the package `chromium` or set CHROMIUM_PATH"
NO_FRONTEND = "the front end that this ComfyUI pins could not be installed"


@dataclass
class Row:
    """One line of the table: a tier on a host, or a linter."""

    tier: str
    where: str
    passed: int = 0
    failed: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    verdict: str = ""
    """What a linter says, which has no counts: clean or FAILED."""
    not_run: str = ""
    """Why the whole tier did not run."""
    note: str = ""
    """What it leaves to another row, and how to run it."""
    seconds: float = 0.0

    @property
    def bad(self) -> bool:
        """Whether anything in it failed."""
        return bool(self.failed) or self.verdict == "FAILED"

    def __str__(self) -> str:
        name = f"{self.tier:<8} {self.where:<16}"
        if self.not_run:
            return f"{name} NOT TESTED"
        counts = self.verdict or f"{self.passed} passed"
        if self.failed:
            counts += f", {self.failed} FAILED"
        if self.skipped:
            counts += f", {self.skipped.total()} skipped"
        lines = [f"{name} {counts:<40} {self.seconds:5.0f} s"]
        lines += [f"{'':25} skipped {n}: {reason}" for reason, n in self.skipped.items()]
        lines += [f"{'':25} {self.note}"] if self.note else []
        return "\n".join(lines)


def share_bytecode(environ: MutableMapping[str, str] = os.environ) -> None:
    """Lets the tests' many processes compile torch and ComfyUI once (12 s), and outside of the
    hosts' own folders. Containers often set the variable that forbids it.

    What earlier runs compiled of copies in temporary folders is removed.
    """
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    environ.setdefault("PYTHONPYCACHEPREFIX", str(BYTECODE))
    temporary = Path(tempfile.gettempdir())
    copies = Path(environ["PYTHONPYCACHEPREFIX"], temporary.relative_to(temporary.anchor))
    shutil.rmtree(copies, ignore_errors=True)


def heading(text: str) -> None:
    """Separates the tiers' outputs."""
    print(f"\n=== {text} ===", flush=True)


def run(title: str, command: Sequence[str | Path], **environ: str) -> int:
    """Runs a command with its output on ours, or at its end where another one runs beside it;
    returns its exit status."""
    beside = threading.current_thread() is not threading.main_thread()
    heading(f"{title}: started beside" if beside else title)
    with tempfile.TemporaryFile() as kept:
        output = {"stdout": kept, "stderr": subprocess.STDOUT} if beside else {}
        try:
            code = subprocess.run(
                [str(word) for word in command], cwd=ROOT, env={**os.environ, **environ},
                timeout=TIER_SECONDS, stdin=subprocess.DEVNULL, **output,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            print(f"stopped: it ran for more than {TIER_SECONDS} s", flush=True)
            code = 124
        kept.seek(0)
        if beside:
            heading(title)
        print(kept.read().decode(errors="replace"), end="", flush=True)
    return code


def lint(tier: str, name: str, *command: str) -> Row:
    """One linter as a row: clean or failed."""
    started = time.monotonic()
    tool = Path(sys.executable).with_name(name)
    code = run(" ".join((name, *command)), [tool, *command])
    return Row(tier, name, verdict="FAILED" if code else "clean",
               seconds=time.monotonic() - started)  # fmt: skip


def style_rows() -> list[Row]:
    """Style and format."""
    return [
        lint("lint", "ruff", "check", "--extend-exclude", ".comfy,output", "."),
        lint("format", "ruff", "format", "--check", "--extend-exclude", ".comfy,output", "."),
    ]


def types_row() -> Row:
    """Types."""
    # Else it looks for packages in whichever Python comes first in PATH.
    return lint("types", "pyright", "--pythonpath", sys.executable)


def pure_row(arguments: Sequence[str]) -> Row:
    """What needs no host."""
    no_host = " and ".join(f"not {tier}" for tier in HOST_TIERS)
    return pytest("pure", "without a host", no_host, [*WORKERS, *arguments], **ONE_THREAD)


def pytest(tier: str, where: str, marks: str, arguments: Sequence[str], **environ: str) -> Row:
    """One pytest process as a row."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        xml = Path(folder) / "result.xml"
        # Not `python -m pytest`, which would put the root on sys.path.
        tool = Path(sys.executable).with_name("pytest")
        named = any((ROOT / word.split("::")[0]).exists() for word in arguments)
        words = [*arguments] if named else [ALWAYS_HERE.get(tier, "tests"), *arguments]
        command = [tool, *words, "-m", marks, "-q", SLOWEST, f"--junitxml={xml}"]
        code = run(f"{tier} tests: {where}", command, **environ)
        row = read_junit(tier, where, xml) if xml.is_file() else Row(tier, where)
    row.seconds = time.monotonic() - started
    if code == NO_TESTS:
        row.not_run = NOTHING
    elif code and not row.failed:
        row.failed = 1  # a crash or an error outside of tests
    return row


def read_junit(tier: str, where: str, xml: Path) -> Row:
    """Counts of a pytest run from its report, and the reasons of its skips."""
    row = Row(tier, where)
    for case in ElementTree.parse(xml).iter("testcase"):
        skip = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            row.failed += 1
        elif skip is not None:
            row.skipped[(skip.get("message") or "no reason given").strip()] += 1
        else:
            row.passed += 1
    return row


def install_chromium() -> None:
    """Debian's own package, where this is Debian and we are allowed to."""
    if not shutil.which("apt-get") or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return
    heading("installing Chromium for the browser tier")
    with tempfile.TemporaryFile() as log:
        quiet = {"stdout": log, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
        environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for words in ("update", "install -y --no-install-recommends chromium"):
            try:
                command = ["apt-get", *words.split()]
                subprocess.run(command, check=True, timeout=400, env=environ, **quiet)
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
                print(f"that failed: {error}", flush=True)
                return


def _outside(arguments: Sequence[str], tier: str, host: Host, newest: Host | None) -> Row:
    """A tier that runs beside a host, in a process of its own. newest: the host that runs
    everything, where this is an older one that runs one test per mechanism."""
    where = f"ComfyUI {host.version}"
    if tier == "browser" and find_chromium() is None:
        return Row(tier, where, not_run=NO_CHROMIUM)
    if tier == "browser" and find_frontend(host) is None:
        return Row(tier, where, not_run=NO_FRONTEND)
    only = f" and {MARK}" if newest else ""
    return pytest(tier, where, f"{tier}{only}", arguments, COMFYUI_PATH=str(host.path))


def hosts_rows(hosts: Sequence[Host], arguments: Sequence[str], everything: bool) -> list[Row]:
    """The tiers of all hosts, oldest first. everything: of the older ones, too.

    Tests in a host share the cores among themselves. Of the others, which are one process each, as
    many run side by side as there are cores. The longest one comes first.
    """
    if not hosts:
        return [Row(tier, "any ComfyUI", not_run=NO_HOST) for tier in HOST_TIERS]
    if find_chromium() is None:
        install_chromium()
    newest = [None if everything or host is hosts[-1] else hosts[-1] for host in hosts]
    rows: list[list[Row]] = []
    for host, newer in zip(hosts, newest, strict=True):
        marks = f"host and {MARK}" if newer else "host"
        environ = {**ONE_THREAD, "COMFYUI_PATH": str(host.path)}
        where = f"ComfyUI {host.version}"
        rows.append([pytest("host", where, marks, [*WORKERS, *arguments], **environ)])
    with ThreadPoolExecutor(os.cpu_count()) as beside:
        outside: dict[tuple[str, Host], Future[Row]] = {}
        servers = [("server", host) for host in hosts]
        browsers = [("browser", host) for host in reversed(hosts)]
        for tier, host in (browsers[0], *servers, *browsers[1:]):
            newer = newest[hosts.index(host)]
            outside[tier, host] = beside.submit(_outside, arguments, tier, host, newer)
    for of_host, host, newer in zip(rows, hosts, newest, strict=True):
        of_host += [outside[tier, host].result() for tier in ("server", "browser")]
        if newer:
            for row, what in zip(of_host, OLDER_HOST, strict=True):
                row.note = f"{what}; all of them on {newer.version}, and here with --all"
    found = [row for of_host in rows for row in of_host]
    if len(hosts) == 1:
        found.append(Row("all host", "a second ComfyUI", not_run=ONE_HOST))
    return found


def changed_files(revision: str) -> list[str]:
    """What differs in the working tree against a revision, new ones included."""
    listed = (
        ("git", "diff", "--name-only", "-z", revision),
        ("git", "ls-files", "--others", "--exclude-standard", "-z"),
    )
    names = (subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout
             for words in listed)  # fmt: skip
    return sorted({name for text in names for name in text.split("\0") if name})


def tests_for(revision: str) -> list[str]:
    """The test files to run after a change, printed beside what leads to them."""
    heading(f"what changed since {revision}, and its tests")
    found = mirrored(changed_files(revision), ROOT)
    for file, tests in found.items():
        print(f"{file}: {', '.join(tests) or 'no test mirrors or imports it'}")
    return sorted({test for tests in found.values() for test in tests})


def table(rows: Sequence[Row], seconds: float) -> None:
    """What was and was not tested."""
    print(f"\n{' Summary ':=^80}")
    for row in rows:
        print(row)
    passed = sum(row.passed for row in rows)
    failed = sum(row.failed or row.bad for row in rows)  # a linter counts as one
    skipped = sum(row.skipped.total() for row in rows)
    for reason in dict.fromkeys(row.not_run for row in rows if row.not_run):
        gaps = (f"{row.tier} ({row.where})" for row in rows if row.not_run == reason)
        print(f"!!! NOT TESTED: {', '.join(gaps)}: {reason}")
    ending = f"{passed} passed, {skipped} skipped in {seconds:.0f}s"
    print(f"{f' {failed} failed, {ending} ' if failed else f' {ending} ':=^80}", flush=True)


def main() -> int:
    """All tiers in order; non-zero when anything failed."""
    started = time.monotonic()
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--changed", nargs="?", const="HEAD")
    parser.add_argument("--only", choices=PARTS)
    options, arguments = parser.parse_known_args()
    narrowed = bool(arguments) or options.changed is not None
    if options.all:
        arguments.append("--slow")
    try:
        if options.changed is not None:
            if not (tests := tests_for(options.changed)):
                return 0
            arguments += tests
        hosts = find_hosts()
    except subprocess.CalledProcessError as error:
        print(error.stderr.strip(), file=sys.stderr)
        return 2
    except HostError as error:
        print(error, file=sys.stderr)
        return 2
    parts = [options.only] if options.only else PARTS
    with ThreadPoolExecutor(1) as beside:  # of pure tests, which wait for processes of their own
        style = style_rows() if "lint" in parts else []
        types = [beside.submit(types_row)] if "lint" in parts else []
        pure = [pure_row(arguments)] if "pure" in parts else []
    rows = [*style, *(row.result() for row in types), *pure]
    if "hosts" in parts:
        rows += hosts_rows(hosts, arguments, everything=options.all)
    table(rows, time.monotonic() - started)
    nothing = not narrowed and any(row.not_run == NOTHING for row in rows)
    return int(nothing or any(row.bad for row in rows))


if __name__ == "__main__":
    share_bytecode()
    sys.exit(main())
