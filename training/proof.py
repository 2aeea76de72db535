"""`proof`: every part learns, shown on generated pictures in minutes on a CPU.

A branch is trained beside a frozen base, and a random one restores nothing. So a tiny base is trained
first, on the same pictures, with fixed orthonormal patches in the VAE's place; then each branch on it,
by the loop that trains the real ones. All figures are of pictures that no training has seen.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d
from torch.utils.data import Dataset

from ..common import metrics
from ..common.diffusion import ForwardProcess
from ..common.draws import normal, rows_of
from ..common.sampling import spaced_ddpm, step_noise
from .base import Base, open_comfyui
from .config import Config, make_config
from .damage import damage_of
from .data.pairs import Order, Sample
from .loop import make_accelerator, train
from .opened import Opened
from .parts import part_module

SIDE, PATCH, KEPT, TEXT = 64, 8, 2, 16
SCALE = 0.25
"""Of the patches' coefficients, for about unit spread."""
DAMAGE = "diffbir_v2"
UNSEEN = 10**6
"""Seed of the first picture that no training sees."""


class Patches(nn.Module):
    """The lowest coefficients of a cosine transform of every 8 x 8: orthonormal, and known to all
    parts as the VAE's posterior."""

    def __init__(self) -> None:
        super().__init__()
        place = (torch.arange(PATCH) + 0.5) * math.pi / PATCH
        rows = torch.stack([torch.cos(k * place) for k in range(KEPT)])
        rows = rows / rows.norm(dim=1, keepdim=True)
        waves = torch.einsum("iy,jx->ijyx", rows, rows).flatten(0, 1)
        basis = torch.zeros(3, len(waves), 3, PATCH, PATCH)
        for color in range(3):
            basis[color, :, color] = waves
        self.basis: Tensor
        self.register_buffer("basis", basis.flatten(0, 1))

    @property
    def channels(self) -> int:
        return len(self.basis)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """B 3 H W in -1..1 -> mean, and a logvar of nearly nothing."""
        mean = conv2d(pixels, self.basis, stride=PATCH)
        return mean, torch.full_like(mean, -30.0)

    def decoded(self, latent: Tensor) -> Tensor:
        """B C h w in the model's scale -> B 3 H W in 0..1."""
        return (conv_transpose2d(latent / SCALE, self.basis, stride=PATCH) + 1) / 2


class NoText(nn.Module):
    """In the text encoder's place."""

    def forward(self, captions: list[str]) -> Tensor:
        return torch.zeros(len(captions), 1, TEXT)


class Eyes(nn.Module):
    """In the tagger's place: the mean color of every quarter."""

    def forward(self, pixels: Tensor) -> Tensor:
        means = nn.functional.adaptive_avg_pool2d(pixels, 2).flatten(1)
        return nn.functional.pad(means, (0, 512 - means.shape[1]))[:, None]


class Stored(Dataset):
    """Generated pictures and their damaged forms, made once."""

    def __init__(self, first: int, count: int) -> None:
        from .stage1.generate import generate

        damage = damage_of(DAMAGE)
        assert damage is not None
        self.order = Order(count, first)
        self.samples: list[Sample] = []
        for seed in range(first, first + count):
            pixels = torch.from_numpy(generate(seed, SIDE)).movedim(-1, 0).float() / 255
            hq, lq = damage(pixels, seed)
            self.samples.append({"hq": hq, "lq": lq, "captions": "", "names": f"picture {seed}"})

    def __getitem__(self, sample: int) -> Sample:
        return self.samples[self.order(sample)]

    def __len__(self) -> int:
        return len(self.samples)

    def batch(self) -> dict[str, Any]:
        """All of them."""
        columns = {key: [each[key] for each in self.samples] for key in self.samples[0]}
        return columns | {key: torch.stack(columns[key]) for key in ("hq", "lq")}


@dataclass(frozen=True)
class Lesson:
    """How long everything learns, and from what."""

    folder: Path
    base_steps: int = 1500
    steps: int = 500
    pictures: int = 512
    unseen: int = 64
    batch: int = 8
    width: int = 32
    rate: float = 1e-3
    parts: tuple[str, ...] = ("stage1", "diffbir", "pasd", "seesr")


class Given(ForwardProcess):
    """The process of one call whose noisy latent is given."""

    x: Tensor

    def noised(self, x0: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        return self.x


@torch.no_grad()
def predicted(part: Any, lq: Tensor, x: Tensor, timesteps: Tensor) -> Tensor:
    """The noise that a part, whatever it adds, finds in x. x: B C h w, variance-preserving."""
    found: list[Tensor] = []
    process, zero = part.process, torch.zeros_like(x)
    given = Given(process.signal, process.noise, process.prediction)
    object.__setattr__(given, "x", x)
    hook = part.unet.register_forward_hook(lambda _module, _given, output: found.append(output))
    part.process = given
    try:
        batch = {"lq": lq, "hq": lq, "mean": zero, "logvar": zero, "captions": [""] * len(x)}
        part(batch, {"posterior": zero, "noise": zero, "timesteps": timesteps})
    finally:
        part.process = process
        hook.remove()
    (noise,) = found
    return noise


def noise_loss(part: Any, unseen: Stored, patches: Patches) -> float:
    """Mean squared error of the found noise over fixed draws at ten noise levels."""
    batch = unseen.batch()
    z = SCALE * patches(batch["hq"] * 2 - 1)[0]
    errors = []
    for level in range(10):
        noise = normal(rows_of(1, level, 0, len(z)), "proof", *z.shape[1:])
        timesteps = torch.full((len(z),), 50 + 100 * level)
        x = part.process.noised(z, noise, timesteps)
        errors.append((predicted(part, batch["lq"], x, timesteps) - noise).square().mean())
    return float(torch.stack(errors).mean())


def restored_psnr(
    part: Any, unseen: Stored, patches: Patches, steps: int = 20
) -> tuple[float, float]:
    """(of the damaged, of the restored pictures), dB, both as the patches show them."""
    batch = unseen.batch()
    hq, lq = (SCALE * patches(batch[key] * 2 - 1)[0] for key in ("hq", "lq"))
    process = part.process
    table = (process.noise / process.signal).tolist()
    chosen = [round(999 * (1 - i / steps)) for i in range(steps)]
    sigmas = [*(table[t] for t in chosen), 0.0]

    def denoise(x: Tensor, i: int) -> Tensor:
        timesteps = torch.full((len(x),), chosen[i])
        noise = predicted(part, batch["lq"], x / math.sqrt(1 + sigmas[i] ** 2), timesteps)
        return x - sigmas[i] * noise

    start = sigmas[0] * step_noise(7, lq)(0)
    found = spaced_ddpm(denoise, start, sigmas, step_noise(8, lq))
    wanted = patches.decoded(hq)
    return _psnr(patches.decoded(lq), wanted), _psnr(patches.decoded(found), wanted)


def _psnr(found: Tensor, wanted: Tensor) -> float:
    return float(metrics.psnr(found.clamp(0, 1), wanted.clamp(0, 1), peak=1).mean())


# -- lessons ---------------------------------------------------------------------------------------


def sizes_of_base(lesson: Lesson, channels: int) -> dict[str, Any]:
    """The tiny UNet, in the host's words."""
    from ..common.unet import UNetSizes

    return UNetSizes(
        channels=(lesson.width, 2 * lesson.width),
        num_res_blocks=1,
        depths=(1, 1),
        middle_depth=1,
        context_dim=TEXT,
        use_linear=True,
        num_heads=-1,
        num_head_channels=16,
        in_channels=channels,
    ).unet_config()


def _config(lesson: Lesson, part: str, steps: int) -> Config:
    module = part_module(part)
    table = {
        "optimizer": {"lr": lesson.rate, "weight_decay": 0.0, "clip": 1.0, "warmup": 20},
        "run": {
            "folder": str(lesson.folder / part),
            "steps": steps,
            "batch": lesson.batch,
            "seed": 1,
        },
        "data": {"workers": 0, "size": SIDE},
        "save": {"every": 0, "export_every": 0},
    }
    return make_config(part, module.Model, {}, table, "proof")


def _learn(lesson: Lesson, name: str, part: Any, seen: Stored, steps: int) -> None:
    config = _config(lesson, name, steps)
    train(
        config, Opened(part, seen, len(seen), {"method": name}), make_accelerator(config, cpu=True)
    )


def _fresh(network: nn.Module) -> None:
    """Torch's own start; the host's layers have none."""
    torch.manual_seed(0)
    for module in network.modules():
        weight, bias = (getattr(module, name, None) for name in ("weight", "bias"))
        if isinstance(weight, Tensor):
            bound = 1 / math.sqrt(weight[0].numel())
            if weight.dim() > 1:
                nn.init.uniform_(weight, -bound, bound)
            else:
                nn.init.ones_(weight)
            if isinstance(bias, Tensor):
                reach = bound if weight.dim() > 1 else 0.0
                nn.init.uniform_(bias, -reach, reach)


def learn_base(lesson: Lesson, seen: Stored, patches: Patches) -> Base:
    """A UNet that knows the pictures and nothing of damage: DreamBooth's loop from nothing."""
    from ..host.trainable_unet import build_unet

    config = sizes_of_base(lesson, patches.channels)
    unet = build_unet(config, "cpu")
    _fresh(unet)
    base = Base(unet, config, patches, NoText(), "proof")
    _learn(lesson, "dreambooth", _base_part(base), seen, lesson.base_steps)
    return base


def learn_stage1(lesson: Lesson, seen: Stored, unseen: Stored) -> Iterator[str]:
    """A small SwinIR from nothing."""
    from ..stage1.start import SwinIRSizes
    from ..stage1.trainable import CleanerTrainable

    sizes = SwinIRSizes(
        img_size=SIDE // 4,
        embed_dim=60,
        depths=(2, 2),
        num_heads=(6, 6),
        start_unshuffle=4,
        upscale=4,
    )
    part = CleanerTrainable(sizes, seed=1)
    batch = unseen.batch()

    @torch.no_grad()
    def quality() -> float:
        return _psnr(part.network(batch["lq"]), batch["hq"])

    before, fresh = _psnr(batch["lq"], batch["hq"]), quality()
    _learn(lesson, "stage1", part, seen, lesson.steps)
    yield (
        f"| stage 1 | PSNR of the picture, dB | {before:.2f} (damaged), {fresh:.2f} (fresh) | "
        f"{quality():.2f} |"
    )


def branch(name: str, base: Base) -> Any:
    """A fresh branch beside the base, as its published script starts it."""
    process = ForwardProcess.scaled_linear()
    given: Any = {"moments": base.moments, "text": base.text, "scale_factor": SCALE}
    if name == "diffbir":
        from ..diffbir.config import ControlConfig
        from ..diffbir.trainable import DiffBIRTrainable

        sizes = base.sizes
        config = ControlConfig(
            model_channels=sizes.channels[0],
            channel_mult=(1, 2),
            num_res_blocks=1,
            attention_resolutions=(2, 1),
            num_head_channels=sizes.num_head_channels,
            context_dim=TEXT,
            in_channels=sizes.in_channels,
            hint_channels=sizes.in_channels,
        )
        part: Any = DiffBIRTrainable(base.unet, process, config, nn.Identity(), **given)
        part.start()
        return part
    if name == "pasd":
        from ..pasd.config import PASDConfig
        from ..pasd.trainable import PASDTrainable

        part = PASDTrainable(base.unet, process, PASDConfig(**vars(base.sizes)), **given)
    else:
        from ..seesr.config import SeeSRConfig
        from ..seesr.trainable import SeeSRTrainable

        sizes = base.sizes
        chosen = SeeSRConfig(
            channels=sizes.channels,
            num_res_blocks=1,
            transformers=(True, True),
            context_dim=TEXT,
            num_head_channels=sizes.num_head_channels,
            in_channels=sizes.in_channels,
        )
        part = SeeSRTrainable(base.unet, process, chosen, Eyes(), **given)
    part.start(1)
    return part


def learn_branch(
    lesson: Lesson, name: str, base: Base, alone: float, data: tuple[Stored, Stored]
) -> Iterator[str]:
    """One branch: its loss against the base alone, and the whole restoration."""
    seen, unseen = data
    patches: Any = base.moments
    part = branch(name, base)
    fresh = noise_loss(part, unseen, patches)
    _learn(lesson, name, part, seen, lesson.steps)
    loss = noise_loss(part, unseen, patches)
    before, after = restored_psnr(part, unseen, patches)
    yield (
        f"| {name} | error of the noise | {alone:.4f} (base alone), {fresh:.4f} (fresh) | {loss:.4f} |"
    )
    yield f"| {name} | PSNR of the restoration, dB | {before:.2f} (damaged) | {after:.2f} |"


def lessons(lesson: Lesson) -> Iterator[str]:
    """Rows of a table, as they come."""
    seen, unseen = Stored(0, lesson.pictures), Stored(UNSEEN, lesson.unseen)
    if "stage1" in lesson.parts:
        yield from learn_stage1(lesson, seen, unseen)
    branches = [name for name in lesson.parts if name != "stage1"]
    if not branches:
        return
    patches = Patches()
    base = learn_base(lesson, seen, patches)
    alone = noise_loss(_base_part(base), unseen, patches)
    yield f"| base | error of the noise | 1 (nothing known) | {alone:.4f} |"
    for name in branches:
        yield from learn_branch(lesson, name, base, alone, (seen, unseen))


def _base_part(base: Base) -> Any:
    from .dreambooth.trainable import DreamBoothTrainable

    return DreamBoothTrainable(
        base.unet,
        ForwardProcess.scaled_linear(),
        base.unet_config,
        moments=base.moments,
        text=base.text,
        scale_factor=SCALE,
    )


def add_command(commands: Any) -> None:
    """`proof`."""
    about = "trains a tiny form of every part on generated pictures and prints what it gained"
    parser = commands.add_parser("proof", help=about, description=about)
    parser.add_argument("folder", type=Path, help="a new folder for the runs")
    parser.add_argument("--base-steps", type=int, default=Lesson.base_steps)
    parser.add_argument("--steps", type=int, default=Lesson.steps, help="of every part")
    parser.add_argument("--parts", nargs="+", choices=Lesson.parts, default=Lesson.parts)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    logging.getLogger().setLevel(logging.WARNING)
    open_comfyui(torch.device("cpu"))
    lesson = replace(
        Lesson(options.folder),
        base_steps=options.base_steps,
        steps=options.steps,
        parts=tuple(options.parts),
    )
    print("| part | | before | after |\n| --- | --- | --- | --- |")
    for row in lessons(lesson):
        print(row, flush=True)
    return 0
