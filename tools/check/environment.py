"""What this machine is: Python, libraries, device and driver, room, and what ComfyUI would choose."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import torch

from ..comfyui.facts import ask
from ..comfyui.find import Host

PACKAGES = (
    "torch", "torchvision", "numpy", "safetensors", "spandrel", "kornia", "einops", "xformers",
    "sageattention", "flash-attn", "triton",
)  # fmt: skip
"""Libraries whose versions decide about numbers or speed."""


def environment(host: Host | None, cpu: bool) -> dict[str, Any]:
    """Facts by name; those of the host only where there is one. Nothing in it names a person, and
    `problem` says what could not be found out."""
    found: dict[str, Any] = {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": dict(_packages()),
        "cpus": os.cpu_count(),
        "accelerator": accelerator(),
        "driver": _driver(),
    }
    if host is None:
        return {**found, "problem": "No ComfyUI was found: name its folder with --comfyui."}
    found |= {"comfyui": host.version, "disk_free": shutil.disk_usage(host.path).free}
    try:
        return {**found, "host": ask(host.path, cpu)}
    except OSError as error:
        return {**found, "problem": str(error)}


def accelerator() -> str:
    """The kind of device beside the CPU that torch sees: cuda (also AMD's), mps, xpu; empty: none."""
    found = torch.accelerator.current_accelerator() if hasattr(torch, "accelerator") else None
    if found is not None and torch.accelerator.is_available():
        return found.type
    return "cuda" if torch.cuda.is_available() else "mps" if _metal() else ""


def _metal() -> bool:
    return torch.backends.mps.is_available()


def _packages() -> Iterator[tuple[str, str]]:
    for name in PACKAGES:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue


def _driver() -> str:
    """NVIDIA's driver by its own program, or the version of HIP; empty: neither is there."""
    if torch.version.hip:
        return f"HIP {torch.version.hip}"
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().splitlines()[0] if done.returncode == 0 and done.stdout else ""
