# ruff: noqa: T201
"""What StyleID costs: a stylized step over a plain one, and whole runs in the memory modes.

    python bench/styleid.py                     # latent 32x32, runs of 4 steps, 3 rounds
    python bench/styleid.py --latent 64 --steps 2 --rounds 2

Full-size Stable Diffusion 1.5 UNet with random weights, float32 (about 5 GB of memory), through
the real host's samplers. Process CPU time of one thread, the variants interleaved in every round,
PyTorch attention; medians over the rounds with their range. Ratios are taken within a round.
Differences under 5 % cannot be resolved this way. A whole run is two inversions and the stylized
sampling, cfg 1. Memory is that of tensors alone: what is kept between inversion and sampling, and
the most that lives at once while sampling, without the weights.
"""

from __future__ import annotations

import argparse
import statistics
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _measuring import import_pack, randomize
from torch.utils._python_dispatch import TorchDispatchMode

ROOT = Path(__file__).resolve().parent.parent

SD15_UNET: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "channel_mult": [1, 2, 4, 4],
    "num_res_blocks": [2, 2, 2, 2],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "num_heads": 8,
    "num_head_channels": -1,
    "context_dim": 768,
    "use_linear_in_transformer": False,
    "use_spatial_transformer": True,
    "adm_in_channels": None,
    "legacy": False,
}
LAYERS = "6,7,8,9,10,11"
MODES = ("cpu_fp16", "cpu_fp32", "lockstep")


class Allocations(TorchDispatchMode):
    """Counts the bytes of the tensors that operations inside it make: alive now, and at most."""

    def __init__(self, network: torch.nn.Module) -> None:
        """network: its weights are not counted."""
        super().__init__()
        self.alive = self.most = 0
        self._known = {weight.untyped_storage().data_ptr() for weight in network.parameters()}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else (out,):
            if isinstance(value, torch.Tensor):
                self._count(value.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        address, size = storage.data_ptr(), storage.nbytes()
        if not size or address in self._known:
            return
        self._known.add(address)
        self.alive += size
        self.most = max(self.most, self.alive)
        weakref.finalize(storage, self._forget, address, size)

    def _forget(self, address: int, size: int) -> None:
        self._known.discard(address)
        self.alive -= size


class Bench:
    """A model, two pictures, and the parts of a run."""

    def __init__(self, side: int, steps: int) -> None:
        from restoration.tests.host.networks import conditioning, empty_unet

        self.model = empty_unet(SD15_UNET)
        randomize(self.model.model.diffusion_model)
        self.empty = conditioning(torch.randn(1, 77, 768))
        self.pictures = [{"samples": torch.randn(1, 4, side, side)} for _ in range(2)]
        self.steps = steps

    def inverted(self, features: str) -> list[Any]:
        """STYLE_FEATURES of content and style."""
        from restoration.nodes.style import StyleIDInvert

        return [
            StyleIDInvert.execute(
                self.model, self.empty, picture, self.steps, "diffusers", LAYERS, features
            ).result[1]
            for picture in self.pictures
        ]

    def applied(self, ends: list[Any]) -> tuple[Any, dict[str, Any], torch.Tensor]:
        from restoration.nodes.style import StyleIDApply

        return StyleIDApply.execute(self.model, *ends, 0.75, 1.5, LAYERS, True, 0.0, 1.0).result

    def sample(self, model: Any, start: dict[str, Any], sigmas: torch.Tensor) -> torch.Tensor:
        import comfy.sample
        import comfy.samplers

        return comfy.sample.sample_custom(
            model,
            torch.zeros_like(start["samples"]),
            1.0,
            comfy.samplers.sampler_object("euler"),
            sigmas,
            self.empty,
            self.empty,
            start["samples"],
            disable_pbar=True,
        )


def kept_bytes(ends: list[Any]) -> int:
    tensors = [
        tensor
        for end in ends
        for tensor in (
            *end.inputs.values(),
            *(t for at in end.hidden.values() for t in at.values()),
        )
    ]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def seconds_of(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    out = run()
    return time.process_time() - start, out


def median(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def mebibytes(number: float) -> str:
    return f"{number / 2**20:.1f} MiB"


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of StyleID's steps and memory modes.")
    parser.add_argument("--latent", type=int, default=32, help="side of the latent, in cells")
    parser.add_argument("--steps", type=int, default=4, help="of every inversion and sampling")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--host", type=Path, default=Path.home() / "comfy" / "ComfyUI")
    options = parser.parse_args()
    import_pack(options.host)
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)

    import comfy.utils

    comfy.utils.PROGRESS_BAR_ENABLED = False
    bench = Bench(options.latent, options.steps)
    network = bench.model.model.diffusion_model
    kept: dict[str, int] = {}
    work: dict[str, int] = {}
    for mode in MODES:  # also the warm-up
        ends = bench.inverted(mode)
        kept[mode] = kept_bytes(ends)
        patched, start, sigmas = bench.applied(ends)
        with Allocations(network) as counted:
            bench.sample(patched, start, sigmas[-2:])
        work[mode] = counted.most
        if "plain" not in work:
            with Allocations(network) as counted:
                bench.sample(bench.model, start, sigmas[-2:])
            work["plain"] = counted.most

    names = ("plain", *MODES)
    sampling: dict[str, list[float]] = {name: [] for name in names}
    whole: dict[str, list[float]] = {name: [] for name in MODES}
    for _ in range(options.rounds):
        for mode in MODES:
            inverting, ends = seconds_of(lambda mode=mode: bench.inverted(mode))
            patched, start, sigmas = bench.applied(ends)
            took, _ = seconds_of(lambda p=patched, x=start, s=sigmas: bench.sample(p, x, s))
            sampling[mode].append(took)
            whole[mode].append(inverting + took)
            if mode == MODES[0]:
                took, _ = seconds_of(lambda x=start, s=sigmas: bench.sample(bench.model, x, s))
                sampling["plain"].append(took)

    print(
        f"latent {options.latent}x{options.latent}, {options.steps} steps, float32, one thread, "
        f"torch {torch.__version__}"
    )
    for name in names:
        ratios = [a / b for a, b in zip(sampling[name], sampling["plain"], strict=True)]
        step = [value / options.steps for value in sampling[name]]
        print(
            f"{name:>9}: a step {median(step)} s, over plain {median(ratios)}, "
            f"at most {mebibytes(work[name])} at once"
        )
    for mode in MODES:
        ratios = [a / b for a, b in zip(whole[mode], whole[MODES[0]], strict=True)]
        print(
            f"{mode:>9}: whole run {median(whole[mode])} s, over {MODES[0]} {median(ratios)}, keeps "
            f"{mebibytes(kept[mode])}, of 50 steps {mebibytes(50 * kept[mode] / options.steps)}"
        )


if __name__ == "__main__":
    main()
