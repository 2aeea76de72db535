"""Finds ComfyUI installations on this machine; only the standard library is needed.

`python tools/comfyui/find.py` lists them.
"""

# ruff: noqa: T201
from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

# Not resolved: a pack linked into a custom_nodes folder still sees that folder as its own place.
PACK_ROOT = Path(os.path.abspath(__file__)).parents[2]
LOCAL_HOSTS = PACK_ROOT / ".comfy"
"""Where `scripts/setup_env.py` installs a host when the machine has none (ignored by git)."""

FRONTEND_PACKAGE = "comfyui-frontend-package"


class HostError(RuntimeError):
    """ComfyUI could not be found, started or reached; the message is one sentence and a log tail."""


@dataclass(frozen=True)
class Host:
    """One ComfyUI checkout."""

    path: Path
    version: str
    found_by: str
    """Which place of the search order it was found in, for messages."""

    @property
    def key(self) -> tuple[int, ...]:
        """The version as a sortable tuple."""
        return tuple(int(part) for part in re.findall(r"\d+", self.version)[:3])

    @property
    def requirements(self) -> Path:
        """The host's own requirements file."""
        return self.path / "requirements.txt"

    def pinned(self, package: str) -> str | None:
        """The version that the host's requirements pin a package to, or None."""
        match = re.search(
            rf"^{re.escape(package)}==([^\s;#]+)", self.requirements.read_text("utf-8"), re.M
        )
        return match[1] if match else None

    def __str__(self) -> str:
        return f"ComfyUI {self.version} ({self.path})"


def read_host(path: Path, found_by: str) -> Host | None:
    """The host in a folder, or None when the folder holds no ComfyUI."""
    if not (path / "main.py").is_file() or not (path / "comfy").is_dir():
        return None
    version_file = path / "comfyui_version.py"
    text = version_file.read_text("utf-8") if version_file.is_file() else ""
    match = re.search(r"__version__\s*=\s*[\"']([^\"']+)", text)
    return Host(path.resolve(), match[1] if match else "unknown version", found_by)


def find_host(pack_root: Path = PACK_ROOT, environ: Mapping[str, str] = os.environ) -> Host | None:
    """The first host in the search order of docs/testing.md, or None.

    Order: COMFYUI_PATH; the ComfyUI whose custom_nodes folder holds the pack; ~/comfy/ComfyUI; one
    installed by the set-up under .comfy. A COMFYUI_PATH without a ComfyUI raises HostError.
    """
    if named := environ.get("COMFYUI_PATH"):
        return _named_host("COMFYUI_PATH", named)
    places = [
        (_home(environ) / "comfy" / "ComfyUI", "comfy-cli's folder in the home directory"),
        (pack_root / ".comfy" / "ComfyUI", "installed by the set-up"),
    ]
    if pack_root.parent.name == "custom_nodes":
        places.insert(0, (pack_root.parent.parent, "the custom_nodes folder the pack lies in"))
    return next((host for place in places if (host := read_host(*place))), None)


def find_newer_host(environ: Mapping[str, str] = os.environ) -> Host | None:
    """The second host: COMFYUI_PATH_LATEST, else ~/comfy/ComfyUI-latest, or None."""
    if named := environ.get("COMFYUI_PATH_LATEST"):
        return _named_host("COMFYUI_PATH_LATEST", named)
    return read_host(_home(environ) / "comfy" / "ComfyUI-latest", "the home directory")


def find_hosts(pack_root: Path = PACK_ROOT, environ: Mapping[str, str] = os.environ) -> list[Host]:
    """All hosts found, each once, oldest version first."""
    found = [find_host(pack_root, environ), find_newer_host(environ)]
    unique = {host.path: host for host in reversed(found) if host}
    return sorted(unique.values(), key=lambda host: host.key)


def find_chromium() -> Path | None:
    """The system's Chromium (or Chrome), or None. CHROMIUM_PATH overrides."""
    if named := os.environ.get("CHROMIUM_PATH"):
        return Path(named)
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    mac = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
    found = next((path for name in names if (path := shutil.which(name))), None)
    return Path(found) if found else mac if mac.exists() else None


def find_frontend(host: Host, prefix: Path = Path(sys.prefix)) -> Path | None:
    """The folder with the front end that the host pins, or None when that version is missing.

    Looks beside the interpreter (`<venv>/frontends/<version>`, where the set-up puts one per host),
    then at the installed package.
    """
    wanted = host.pinned(FRONTEND_PACKAGE)
    if wanted is None:
        return None
    static = prefix / "frontends" / wanted / "comfyui_frontend_package" / "static"
    if (static / "index.html").is_file():
        return static
    with contextlib.suppress(metadata.PackageNotFoundError):
        installed = metadata.distribution(FRONTEND_PACKAGE)
        static = Path(str(installed.locate_file("comfyui_frontend_package"))) / "static"
        if installed.version == wanted and (static / "index.html").is_file():
            return static
    return None


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("HOME") or Path.home())


def _named_host(variable: str, value: str) -> Host:
    if host := read_host(Path(value).expanduser(), variable):
        return host
    raise HostError(
        f"{variable} is {value!r}, which holds no ComfyUI (no main.py and comfy folder there): "
        "set it to a ComfyUI checkout or unset it."
    )


def main() -> int:
    """Prints the hosts found, one per line: version, path, how it was found."""
    try:
        hosts = find_hosts()
    except HostError as error:
        print(error, file=sys.stderr)
        return 2
    for host in hosts:
        print(f"{host.version}\t{host.path}\t{host.found_by}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
