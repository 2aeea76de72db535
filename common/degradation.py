"""Synthetic damage as the papers make their training pairs: Real-ESRGAN's second-order model (Wang et
al. 2021, section 3) with the tables of each method, and DiffBIR's single pass (after CodeFormer).

A seed first draws a plan (a tuple of steps, whatever the picture), then the plan is carried out.
Differences from the authors' code: JPEG is a real file with a whole-number quality where they
imitate one without entropy coding, and every random number comes from a generator of our own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .blur import KINDS, blur_kernel, filter2d, sinc_kernel
from .resample import resize

Rng = np.random.Generator
Range = tuple[float, float]
Jpeg = Callable[[Tensor, int], Tensor]
"""(B 3 H W in 0..1, quality 1..100) -> the same picture after writing and reading a JPEG."""
ResizeMode = Literal["area", "bilinear", "bicubic"]
OutputSize = Literal["quarter_size", "input_size"]

SCALE = 4  # all the methods train for x4
MODES: tuple[ResizeMode, ...] = ("area", "bilinear", "bicubic")
LUMA = (0.2989, 0.587, 0.114)  # of gray Poisson noise, as torchvision weighs the channels


# -- steps -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scene:
    """What the steps share while one picture is damaged."""

    height: int
    """Height of the picture before all steps, as `width` is its width."""
    width: int
    rng: Rng
    jpeg: Jpeg


class Step(Protocol):
    """One step of a plan; `str` says what it does."""

    def __call__(self, pixels: Tensor, scene: Scene) -> Tensor: ...


@dataclass(frozen=True)
class Blur:
    kind: str
    size: int
    sigma_x: float
    sigma_y: float
    angle: float
    beta: float

    def __call__(self, pixels: Tensor, scene: Scene) -> Tensor:
        return filter2d(
            pixels,
            blur_kernel(self.kind, self.size, self.sigma_x, self.sigma_y, self.angle, self.beta),
        )

    def __str__(self) -> str:
        sigma = f"{self.sigma_x:.2f}"
        if self.sigma_y != self.sigma_x:
            sigma += f" x {self.sigma_y:.2f}"
        shape = "" if self.kind in ("iso", "aniso") else f", beta {self.beta:.2f}"
        return f"blur {self.kind} {self.size} px, sigma {sigma}{shape}"


@dataclass(frozen=True)
class Sinc:
    size: int
    cutoff: float

    def __call__(self, pixels: Tensor, scene: Scene) -> Tensor:
        return filter2d(pixels, sinc_kernel(self.size, self.cutoff))

    def __str__(self) -> str:
        return f"sinc {self.size} px, cutoff {self.cutoff / math.pi:.2f} pi"


@dataclass(frozen=True)
class Resize:
    mode: ResizeMode
    factor: float
    of_input: bool = False
    """Relative to the picture before all steps instead of the present one."""

    def __call__(self, pixels: Tensor, scene: Scene) -> Tensor:
        base = (scene.height, scene.width) if self.of_input else pixels.shape[-2:]
        size = [max(1, int(side * self.factor)) for side in base]
        return F.interpolate(pixels, size, mode=self.mode)  # no antialiasing, as in the code

    def __str__(self) -> str:
        return f"resize {self.mode} x{self.factor:.2f}{' of the input' if self.of_input else ''}"


@dataclass(frozen=True)
class GaussianNoise:
    sigma: float
    """In 8-bit levels."""
    gray: bool

    def __call__(self, pixels: Tensor, scene: Scene) -> Tensor:
        shape = (1, 1 if self.gray else pixels.shape[1], *pixels.shape[-2:])
        noise = torch.from_numpy(scene.rng.standard_normal(shape, dtype=np.float32)).to(pixels)
        return (pixels + noise * (self.sigma / 255)).clamp(0, 1)

    def __str__(self) -> str:
        return f"{'gray' if self.gray else 'color'} noise {self.sigma:.1f}"


@dataclass(frozen=True)
class PoissonNoise:
    scale: float
    gray: bool

    def __call__(self, pixels: Tensor, scene: Scene) -> Tensor:
        """Photons are counted at as many levels as the picture has, to the next power of two."""
        signal = pixels
        if self.gray:
            signal = (pixels * pixels.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
        signal = signal.mul(255).round().clamp(0, 255).div(255)
        levels = 2 ** math.ceil(math.log2(signal.unique().numel()))
        counted = scene.rng.poisson(signal.cpu().double().numpy() * levels)
        noise = torch.from_numpy(counted).to(pixels) / levels - signal
        return (pixels + noise * self.scale).clamp(0, 1)

    def __str__(self) -> str:
        return f"{'gray' if self.gray else 'color'} Poisson noise x{self.scale:.2f}"


@dataclass(frozen=True)
class JpegFile:
    quality: int

    def __call__(self, pixels: Tensor, scene: Scene) -> Tensor:
        return scene.jpeg(pixels.clamp(0, 1), self.quality)

    def __str__(self) -> str:
        return f"JPEG {self.quality}"


# -- recipes ---------------------------------------------------------------------------------------


def _chance(rng: Rng, probability: float) -> bool:
    return bool(rng.random() < probability)


def _uniform(rng: Rng, span: Range) -> float:
    return float(rng.uniform(*span))


def _draw_blur(
    rng: Rng, shares: Sequence[float], size: int, sigma: Range, beta_g: Range, beta_p: Range
) -> Blur:
    kind = KINDS[int(rng.choice(len(shares), p=shares))]
    sigma_x = sigma_y = _uniform(rng, sigma)
    angle, beta = 0.0, 1.0
    if kind.endswith("aniso"):
        sigma_y, angle = _uniform(rng, sigma), _uniform(rng, (-math.pi, math.pi))
    if kind not in ("iso", "aniso"):  # as often flatter as steeper than the Gaussian
        low, high = beta_p if kind.startswith("plateau") else beta_g
        beta = _uniform(rng, (low, 1.0) if _chance(rng, 0.5) else (1.0, high))
    return Blur(kind, size, sigma_x, sigma_y, angle, beta)


@dataclass(frozen=True)
class Stage:
    """One of the two passes of the second-order model."""

    blur_sigma: Range
    resize_shares: tuple[float, float, float]
    """How often it enlarges, shrinks and keeps."""
    resize_range: Range
    noise_sigma: Range
    poisson_scale: Range
    jpeg_quality: Range
    blur_probability: float = 1.0
    kernel_shares: tuple[float, ...] = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
    """How often each of KINDS is drawn, when the kernel is not a sinc."""
    kernel_sizes: tuple[int, ...] = tuple(range(7, 22, 2))
    sinc_probability: float = 0.1
    beta_generalized: Range = (0.5, 4.0)
    beta_plateau: Range = (1.0, 2.0)
    gaussian_probability: float = 0.5
    """Else the noise is Poisson's."""
    gray_probability: float = 0.4

    def draw_kernel(self, rng: Rng) -> Blur | Sinc:
        size = int(rng.choice(self.kernel_sizes))
        if _chance(rng, self.sinc_probability):
            return Sinc(size, _uniform(rng, (math.pi / (3 if size < 13 else 5), math.pi)))
        return _draw_blur(
            rng,
            self.kernel_shares,
            size,
            self.blur_sigma,
            self.beta_generalized,
            self.beta_plateau,
        )

    def draw_factor(self, rng: Rng) -> float:
        way = int(rng.choice(3, p=self.resize_shares))
        low, high = self.resize_range
        return (_uniform(rng, (1.0, high)), _uniform(rng, (low, 1.0)), 1.0)[way]

    def draw_noise(self, rng: Rng) -> GaussianNoise | PoissonNoise:
        gray = _chance(rng, self.gray_probability)
        if _chance(rng, self.gaussian_probability):
            return GaussianNoise(_uniform(rng, self.noise_sigma), gray)
        return PoissonNoise(_uniform(rng, self.poisson_scale), gray)

    def draw_jpeg(self, rng: Rng) -> JpegFile:
        return JpegFile(round(_uniform(rng, self.jpeg_quality)))


def _draw_mode(rng: Rng) -> ResizeMode:
    return MODES[int(rng.integers(len(MODES)))]


@dataclass(frozen=True)
class SecondOrder:
    """Blur, resize, noise and JPEG, twice; the second resize ends near a quarter of the input, and
    the last JPEG stands before or after the resize to exactly a quarter and its sinc filter."""

    first: Stage
    second: Stage
    final_sinc_probability: float = 0.8

    def draw(self, rng: Rng) -> tuple[Step, ...]:
        first, second = self.first, self.second
        steps: list[Step] = []
        if _chance(rng, first.blur_probability):
            steps.append(first.draw_kernel(rng))
        steps.append(Resize(_draw_mode(rng), first.draw_factor(rng)))
        steps += [first.draw_noise(rng), first.draw_jpeg(rng)]
        if _chance(rng, second.blur_probability):
            steps.append(second.draw_kernel(rng))
        steps.append(Resize(_draw_mode(rng), second.draw_factor(rng) / SCALE, of_input=True))
        steps.append(second.draw_noise(rng))
        sharpened: list[Step] = [Resize(_draw_mode(rng), 1 / SCALE, of_input=True)]
        if _chance(rng, self.final_sinc_probability):
            size = int(rng.choice(second.kernel_sizes))
            sharpened.append(Sinc(size, _uniform(rng, (math.pi / 3, math.pi))))
        file = second.draw_jpeg(rng)
        return (*steps, file, *sharpened) if _chance(rng, 0.5) else (*steps, *sharpened, file)


@dataclass(frozen=True)
class FirstOrder:
    """Blur, shrink, noise, JPEG and back to the input's size, each always, all bilinear."""

    blur_sigma: Range
    shrink: Range
    """Uniform in the divisor, not in the factor."""
    noise_sigma: Range
    jpeg_quality: Range
    kernel_size: int = 41
    kernel_shares: tuple[float, ...] = (0.5, 0.5)

    def draw(self, rng: Rng) -> tuple[Step, ...]:
        return (
            _draw_blur(rng, self.kernel_shares, self.kernel_size, self.blur_sigma, (1, 1), (1, 1)),
            Resize("bilinear", 1 / _uniform(rng, self.shrink)),
            GaussianNoise(_uniform(rng, self.noise_sigma), gray=False),
            JpegFile(int(_uniform(rng, self.jpeg_quality))),  # cut off, as OpenCV is called
            Resize("bilinear", 1.0, of_input=True),
        )


Preset = SecondOrder | FirstOrder

REAL_ESRGAN = SecondOrder(
    Stage((0.2, 3), (0.2, 0.7, 0.1), (0.15, 1.5), (1, 30), (0.05, 3), (30, 95)),
    Stage((0.2, 1.5), (0.3, 0.4, 0.3), (0.3, 1.2), (1, 25), (0.05, 2.5), (30, 95), 0.8),
)
"""Real-ESRGAN's training options for x4. DiffBIR v1 (general) and v2.1 and SeeSR repeat this table;
SeeSR's file names a second kernel size of 11, which its code never reads."""


def _streams(seed: int) -> tuple[Rng, Rng]:
    """(for the plan, for the noise): so the plan is the same whatever the size of the picture."""
    plan, noise = np.random.default_rng(seed).spawn(2)
    return plan, noise


def draw_plan(preset: Preset, seed: int) -> tuple[Step, ...]:
    """What `degrade` will do to a picture with this seed (0 or more)."""
    return preset.draw(_streams(seed)[0])


def degrade(
    pixels: Tensor,
    preset: Preset,
    seeds: Sequence[int],
    size: OutputSize,
    jpeg: Jpeg,
    done: Callable[[], None] = lambda: None,
) -> Tensor:
    """Damages every picture by the plan of its own seed, whatever else is in the batch.

    pixels: B 3 H W in 0..1, any size. seeds: B of them, 0 or more. Returns B 3 h w in 0..1 in steps
    of 1/255, as a file would hold it, of the input's size or of a quarter (rounded down, at least
    1). `done` is called after each picture. Raises ValueError for a wrong number of seeds.
    """
    height, width = pixels.shape[-2:]
    if len(seeds) != pixels.shape[0]:
        raise ValueError(f"{pixels.shape[0]} pictures need as many seeds, found {len(seeds)}.")
    divisor = SCALE if size == "quarter_size" else 1
    target = max(1, height // divisor), max(1, width // divisor)
    rows = []
    for image, seed in zip(pixels.split(1), seeds, strict=True):
        scene = Scene(height, width, _streams(seed)[1], jpeg)
        for step in draw_plan(preset, seed):
            image = step(image, scene)
        if size == "input_size":  # DiffBIR's way back up
            image = F.interpolate(image, target, mode="bicubic")
        rows.append(resize(image, *target).mul(255).round().clamp(0, 255).div(255))
        done()
    return torch.cat(rows)
