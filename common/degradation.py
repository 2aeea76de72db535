"""Synthetic damage as the papers make their training pairs: Real-ESRGAN's second-order model (Wang et
al. 2021, section 3) with the tables of each method, and DiffBIR's single pass (after CodeFormer).

A seed first draws a plan (a tuple of steps, whatever the picture), then the plan is carried out.
Every random number comes from a generator of our own, with one plan for every picture where the
authors share some draws within a batch; else `exact` presets are their code. The others came first
and stay as they are: JPEG is a real file with a whole-number quality, and the first resize samples
the picture by sizes where theirs goes by the factor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .blur import KINDS, blur_kernel, filter2d, sinc_kernel, usm_sharpened
from .jpeg import jpeg_arithmetic
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
    by_factor: bool = False
    """Sampled in steps of 1/factor, as the authors' first resize, and not of side/size, which
    differ by up to a pixel at the far border since sizes are whole numbers."""

    def __call__(self, pixels: Tensor, scene: Scene) -> Tensor:
        if self.by_factor and min(pixels.shape[-2:]) * self.factor >= 1:
            return F.interpolate(pixels, scale_factor=self.factor, mode=self.mode)
        base = (scene.height, scene.width) if self.of_input else pixels.shape[-2:]
        size = [max(1, int(side * self.factor)) for side in base]
        return F.interpolate(pixels, size, mode=self.mode)  # no antialiasing, as in the code

    def __str__(self) -> str:
        return f"resize {self.mode} x{self.factor:.2f}{' of the input' if self.of_input else ''}"


@dataclass(frozen=True)
class Return:
    """Back to the size of the picture before all steps; only where that size is asked for."""

    mode: ResizeMode

    def __call__(self, pixels: Tensor, scene: Scene) -> Tensor:
        return F.interpolate(pixels, (scene.height, scene.width), mode=self.mode)

    def __str__(self) -> str:
        return f"back by {self.mode}"


@dataclass(frozen=True)
class GaussianNoise:
    sigma: float
    """In 8-bit levels."""
    gray: bool

    def __call__(self, pixels: Tensor, scene: Scene) -> Tensor:
        shape = (1, 1 if self.gray else pixels.shape[1], *pixels.shape[-2:])
        return self.add(
            pixels, torch.from_numpy(scene.rng.standard_normal(shape, dtype=np.float32))
        )

    def add(self, pixels: Tensor, noise: Tensor) -> Tensor:
        """noise: unit noise, of the picture's shape or with one channel."""
        return (pixels + noise.to(pixels) * (self.sigma / 255)).clamp(0, 1)

    def __str__(self) -> str:
        return f"{'gray' if self.gray else 'color'} noise {self.sigma:.1f}"


@dataclass(frozen=True)
class PoissonNoise:
    scale: float
    gray: bool

    def __call__(self, pixels: Tensor, scene: Scene) -> Tensor:
        """Photons are counted at as many levels as the picture has, to the next power of two."""
        signal, levels = self._signal(pixels)
        counted = scene.rng.poisson(signal.cpu().double().numpy() * levels)
        return self.add(pixels, torch.from_numpy(counted))

    def add(self, pixels: Tensor, counted: Tensor) -> Tensor:
        """counted: photons, of the picture's shape; of one channel for gray noise."""
        signal, levels = self._signal(pixels)
        return (pixels + (counted.to(pixels) / levels - signal) * self.scale).clamp(0, 1)

    def _signal(self, pixels: Tensor) -> tuple[Tensor, int]:
        """(what is counted, photons of white)"""
        signal = pixels
        if self.gray:
            signal = (pixels * pixels.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
        signal = signal.mul(255).round().clamp(0, 255).div(255)
        return signal, 2 ** math.ceil(math.log2(signal.unique().numel()))

    def __str__(self) -> str:
        return f"{'gray' if self.gray else 'color'} Poisson noise x{self.scale:.2f}"


@dataclass(frozen=True)
class JpegFile:
    quality: int

    def __call__(self, pixels: Tensor, scene: Scene) -> Tensor:
        return scene.jpeg(pixels.clamp(0, 1), self.quality)

    def __str__(self) -> str:
        return f"JPEG {self.quality}"


@dataclass(frozen=True)
class JpegArithmetic:
    """JPEG without a file, as the authors imitate it, for any real quality."""

    quality: float

    def __call__(self, pixels: Tensor, scene: Scene) -> Tensor:
        return jpeg_arithmetic(pixels.clamp(0, 1), self.quality)

    def __str__(self) -> str:
        return f"JPEG {self.quality:.1f}"


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

    def draw_jpeg(self, rng: Rng, exact: bool) -> JpegFile | JpegArithmetic:
        quality = _uniform(rng, self.jpeg_quality)
        return JpegArithmetic(quality) if exact else JpegFile(round(quality))


def _draw_mode(rng: Rng) -> ResizeMode:
    return MODES[int(rng.integers(len(MODES)))]


@dataclass(frozen=True)
class SecondOrder:
    """Blur, resize, noise and JPEG, twice; the second resize ends near a quarter of the input, and
    the last JPEG stands before or after the resize to exactly a quarter and its sinc filter."""

    first: Stage
    second: Stage
    final_sinc_probability: float = 0.8
    exact: bool = False
    """See the head of this file; draws the same otherwise."""
    returns: tuple[ResizeMode, ...] = ("bicubic",)
    """How an exact one comes back to the input's size, each equally often."""
    sharpened: bool = False
    """The picture is sharpened first, and that is also what a network should learn."""

    def draw(self, rng: Rng) -> tuple[Step, ...]:
        first, second = self.first, self.second
        steps: list[Step] = []
        if _chance(rng, first.blur_probability):
            steps.append(first.draw_kernel(rng))
        mode = _draw_mode(rng)
        steps.append(Resize(mode, first.draw_factor(rng), by_factor=self.exact))
        steps += [first.draw_noise(rng), first.draw_jpeg(rng, self.exact)]
        if _chance(rng, second.blur_probability):
            steps.append(second.draw_kernel(rng))
        steps.append(Resize(_draw_mode(rng), second.draw_factor(rng) / SCALE, of_input=True))
        steps.append(second.draw_noise(rng))
        sharpened: list[Step] = [Resize(_draw_mode(rng), 1 / SCALE, of_input=True)]
        if _chance(rng, self.final_sinc_probability):
            size = int(rng.choice(second.kernel_sizes))
            sharpened.append(Sinc(size, _uniform(rng, (math.pi / 3, math.pi))))
        file = second.draw_jpeg(rng, self.exact)
        steps += [file, *sharpened] if _chance(rng, 0.5) else [*sharpened, file]
        if self.exact:
            steps.append(Return(self.returns[int(rng.integers(len(self.returns)))]))
        return tuple(steps)


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
    sharpened: bool = False

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
REAL_ESRGAN_EXACT = replace(REAL_ESRGAN, exact=True)


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
    if len(seeds) != pixels.shape[0]:
        raise ValueError(f"{pixels.shape[0]} pictures need as many seeds, found {len(seeds)}.")
    rows = []
    for image, seed in zip(pixels.split(1), seeds, strict=True):
        rows.append(_damaged(target_of(image, preset), preset, seed, size, jpeg))
        done()
    return torch.cat(rows)


def target_of(pixels: Tensor, preset: Preset) -> Tensor:
    """What a network should make of the damaged picture: the picture, with some presets sharpened.
    B 3 H W in 0..1 -> the same."""
    return usm_sharpened(pixels) if preset.sharpened else pixels


def training_pair(pixels: Tensor, preset: Preset, seed: int, jpeg: Jpeg) -> tuple[Tensor, Tensor]:
    """(target, the damaged picture back at its size), each 1 3 H W, of one picture in 0..1."""
    target = target_of(pixels, preset)
    return target, _damaged(target, preset, seed, "input_size", jpeg)


def _damaged(target: Tensor, preset: Preset, seed: int, size: OutputSize, jpeg: Jpeg) -> Tensor:
    height, width = target.shape[-2:]
    back = size == "input_size"
    scene, image = Scene(height, width, _streams(seed)[1], jpeg), target
    for step in draw_plan(preset, seed):
        if back or not isinstance(step, Return):
            image = step(image, scene)
    divisor = 1 if back else SCALE
    wanted = max(1, height // divisor), max(1, width // divisor)
    if back and image.shape[-2:] != wanted:  # DiffBIR's way up
        image = F.interpolate(image, wanted, mode="bicubic")
    return resize(image, *wanted).mul(255).round().clamp(0, 255).div(255)
