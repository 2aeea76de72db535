"""Builds the local environment (.venv) that the demo, the tests and the benches run in.

    python3 scripts/setup_env.py demo     torch and the requirements of every ComfyUI found
    python3 scripts/setup_env.py test     the same, the test tools, and each host's front end

Done once; a later call compares a stamp and returns at once. Standard library only. Variables:

    RESTORATION_TORCH            what to install as torch (default: the three packages below)
    RESTORATION_NO_HOST_INSTALL  1: do not try to install ComfyUI where none is found
    RESTORATION_HOST_VERSION     the version to install then
    COMFYUI_PATH, COMFYUI_PATH_LATEST   hosts to use, see docs/testing.md

pip's own variables and configuration (index, proxies, local wheels) are respected.
"""

# ruff: noqa: T201
from __future__ import annotations

import contextlib
import hashlib
import os
import re
import runpy
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
runpy.run_path(str(ROOT / "tools" / "package.py"))["register_pack"]()

from restoration.tools.comfyui.find import (  # noqa: E402
    FRONTEND_PACKAGE,
    LOCAL_HOSTS,
    Host,
    HostError,
    find_frontend,
    find_hosts,
    read_host,
)

VENV = ROOT / ".venv"
SCRIPTS = ROOT / "scripts"
TORCH = "torch==2.11.0 torchvision==0.26.0 torchaudio==2.11.0"
OLDEST_HOST = "0.3.64"
PER_HOST = ("comfyui-frontend-package", "comfyui-workflow-templates", "comfyui-embedded-docs")
"""Pinned to another version by every host; none of them is needed to run a workflow."""
UNLISTED: Sequence[str] = ("requests",)
"""What 0.3.64 imports without listing it: it counted on older transformers to bring it."""
INSTALL_SECONDS = 600


class SetupError(RuntimeError):
    """The environment cannot be built; the message says what to do."""


def say(text: str) -> None:
    """One line of progress."""
    print(f"[set-up] {text}", flush=True)


def python_in(venv: Path) -> Path:
    """The interpreter of a virtual environment."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def call(command: Sequence[str | Path], timeout: float | None = None) -> None:
    """Runs a command; raises SetupError naming it when it fails."""
    words = [str(word) for word in command]
    try:
        subprocess.run(words, check=True, timeout=timeout, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise SetupError(f"{words[0]} is not installed.") from None
    except subprocess.TimeoutExpired:
        raise SetupError(f"`{' '.join(words)}` took more than {timeout:.0f} s.") from None
    except subprocess.CalledProcessError as error:
        raise SetupError(f"`{' '.join(words)}` failed (exit code {error.returncode}).") from None


def pip(*arguments: str | Path) -> None:
    """pip of the local environment, quiet; byte code is written at first import instead."""
    call([python_in(VENV), "-m", "pip", "install", "-qq", "--no-compile",
          "--disable-pip-version-check", *arguments])  # fmt: skip


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Lets a second set-up of the same tree wait for the first."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    VENV.mkdir(exist_ok=True)
    with (VENV / ".setup.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("another set-up is at work in this tree; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def install_host() -> str | None:
    """Installs ComfyUI under .comfy with comfy-cli; returns why it could not, or None.

    Only the source is fetched: its requirements go into our own environment with the others.
    """
    target = LOCAL_HOSTS / "ComfyUI"
    version = os.environ.get("RESTORATION_HOST_VERSION", OLDEST_HOST)
    if os.environ.get("RESTORATION_NO_HOST_INSTALL", "0") not in ("", "0"):
        return "RESTORATION_NO_HOST_INSTALL is set"
    if shutil.which("git") is None:
        return "git is not installed"
    say(f"no ComfyUI found: trying to install {version} under .comfy")
    probe = ["git", "ls-remote", "https://github.com/comfyanonymous/ComfyUI", "HEAD"]
    try:
        # Before anything is downloaded for it: is the source reachable at all?
        subprocess.run(
            probe, check=True, timeout=20, capture_output=True, stdin=subprocess.DEVNULL,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
        )  # fmt: skip
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return "its source repository is not reachable from here"
    tools = LOCAL_HOSTS / "tools"
    try:
        call([sys.executable, "-m", "venv", tools])
        call([python_in(tools), "-m", "pip", "install", "--quiet", "comfy-cli"], INSTALL_SECONDS)
        call(
            [python_in(tools).with_name("comfy"), "--skip-prompt", "--workspace", target,
             "install", "--cpu", "--skip-manager", "--skip-torch-or-directml",
             "--skip-requirement", "--version", version],
            INSTALL_SECONDS,
        )  # fmt: skip
    except SetupError as error:
        shutil.rmtree(target, ignore_errors=True)
        return str(error)
    if read_host(target, "") is None:
        return f"comfy-cli left no ComfyUI in {target}"
    return None


def host_requirements(hosts: Sequence[Host]) -> str:
    """Every line of the hosts' requirements but torch's own and the packages pinned per host."""
    skipped = (*PER_HOST, "torch", "torchvision", "torchaudio")
    lines: list[str] = [*UNLISTED]
    for host in hosts:
        for line in host.requirements.read_text("utf-8").splitlines():
            requirement = line.split("#")[0].strip()
            name = re.split(r"[\s=<>~!\[;]", requirement, maxsplit=1)[0].lower()
            if requirement and name not in skipped:
                lines.append(requirement)
    return "\n".join(dict.fromkeys(lines)) + "\n"


def requirements(level: str, hosts: Sequence[Host]) -> str:
    """What a level needs besides torch, as a requirements file."""
    needs = host_requirements(hosts) if hosts else (SCRIPTS / "requirements-pack.txt").read_text()
    return needs + ((SCRIPTS / "requirements-test.txt").read_text() if level == "test" else "")


def is_installed(level: str, hosts: Sequence[Host], torch: Sequence[str]) -> bool:
    """Whether this level, or the test level that contains it, was installed as it is wanted now."""
    stamps = {name: VENV / ".stamps" / f"{name}.txt" for name in (level, "test")}
    return python_in(VENV).exists() and any(
        stamp.is_file() and stamp.read_text() == digest_of(name, hosts, torch)
        for name, stamp in stamps.items()
    )


def digest_of(level: str, hosts: Sequence[Host], torch: Sequence[str]) -> str:
    """A hash over all that decides what an environment holds."""
    parts = (sys.version, str(ROOT), *torch, requirements(level, hosts))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def install_packages(level: str, hosts: Sequence[Host]) -> None:
    """One pip call for everything, so that the hosts' needs are resolved together."""
    torch = os.environ.get("RESTORATION_TORCH", TORCH).split()
    if is_installed(level, hosts, torch):
        return
    if not python_in(VENV).exists():
        say(f"creating {VENV.name} with Python {sys.version.split()[0]}")
        try:
            call([sys.executable, "-m", "venv", VENV])
        except SetupError as error:
            shutil.rmtree(VENV / "bin", ignore_errors=True)
            raise SetupError(f"{error} On Debian and Ubuntu: apt install python3-venv.") from None
    started = time.monotonic()
    names = " and ".join(host.version for host in hosts)
    whose = f"ComfyUI {names}" if names else "the pack"
    say(f"installing {' '.join(torch)} and what {whose} requires (minutes the first time)")
    stamps = VENV / ".stamps"
    stamps.mkdir(exist_ok=True)
    listing = stamps / f"{level}-requirements.txt"
    listing.write_text(requirements(level, hosts), "utf-8")
    pip(*torch, "-r", listing)
    (stamps / f"{level}.txt").write_text(digest_of(level, hosts, torch))
    say(f"installed in {time.monotonic() - started:.0f} s")


def install_frontends(hosts: Sequence[Host]) -> None:
    """Each host's own front end beside the environment; without one only the browser tier skips."""
    for host in hosts:
        version = host.pinned(FRONTEND_PACKAGE)
        if version is None or find_frontend(host, VENV):
            continue
        target = VENV / "frontends" / version
        say(f"installing the front end {version} of ComfyUI {host.version}")
        try:
            pip("--no-deps", "--target", target, f"{FRONTEND_PACKAGE}=={version}")
        except SetupError as error:
            shutil.rmtree(target, ignore_errors=True)
            say(f"NO FRONT END for ComfyUI {host.version}: {error}")


def main() -> int:
    """Sets up one level, given as the only argument."""
    level = sys.argv[1] if len(sys.argv) > 1 else "demo"
    if level not in ("demo", "test"):
        print(f"unknown level {level!r}: demo or test", file=sys.stderr)
        return 2
    try:
        with locked():
            hosts = find_hosts()
            if not hosts:
                reason = install_host()
                hosts = find_hosts()
                if reason:
                    say(f"going on without ComfyUI ({reason}); set COMFYUI_PATH to use yours")
            install_packages(level, hosts)
            if level == "test":
                install_frontends(hosts)
    except (SetupError, HostError) as error:
        print(f"[set-up] {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
