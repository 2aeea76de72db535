"""What the benches of the methods share: ComfyUI without its program, and steps side by side."""

from __future__ import annotations

import runpy
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent


def import_pack(host: Path, cpu: bool = True) -> None:
    """ComfyUI on the CPU or on its own device, and this pack as the package `restoration`."""
    runpy.run_path(str(ROOT / "tools" / "package.py"))["register_pack"]()
    from restoration.tools.comfyui.inprocess import import_comfyui

    import_comfyui(host, pytorch_attention=True, cpu=cpu)


def randomize(network: torch.nn.Module) -> torch.nn.Module:
    """Weights that keep activations finite: no zeros, no denormals, which would cost differently."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
            else:
                parameter.fill_(1.0 if name.endswith(".weight") else 0.0)
    return network.eval()


def operations(step: Callable[[], object]) -> int:
    """Floating-point operations of one step; also its warm-up."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def measure(variants: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of CPU time, `rounds` a variant, interleaved."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, step in variants.items():
            start = time.process_time()
            step()
            seconds[name].append(time.process_time() - start)
    return seconds


def with_range(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
