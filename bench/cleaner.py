# ruff: noqa: T201
"""Holds the bundled light restoration model to its bars, on photographs it was never trained on.

    python bench/cleaner.py                        # the whole table, with classic methods beside it
    python bench/cleaner.py --quick                # ours only
    python bench/cleaner.py --weights FILE --save DIR

The photographs are those that come inside the scikit-image package, cut to at most 512 x 512 around
their middle. Each is degraded at the two ends of each range with a seed of its own. Figures are
PSNR in dB over all channels, of 8-bit images.
"""

from __future__ import annotations

import argparse
import io
import runpy
import sys
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
runpy.run_path(str(ROOT / "tools" / "package.py"))["register_pack"]()

from restoration.common import metrics  # noqa: E402

Array = np.ndarray
Method = Callable[[Array], Array]

WEIGHTS = ROOT / "stage1" / "weights.safetensors"
LARGEST = 512
NAMED = ("astronaut", "chelsea", "coffee", "rocket", "camera")
OTHERS = (
    "motorcycle_left",
    "hubble_deep_field",
    "retina",
    "ihc",
    "moon",
    "coins",
    "brick",
    "grass",
    "gravel",
    "clock_motion",
)
PHOTOS = NAMED + OTHERS
KINDS = ("noise", "jpeg", "mixed")
LEVELS = ("light", "strong")

GAIN_BARS = {"noise": 3.0, "jpeg": 0.4, "mixed": 1.0}
WORST_BAR = -0.3
CLEAN_BAR = 34.0


@dataclass(frozen=True)
class Row:
    """One degraded (or clean) photo and the PSNR of every method on it."""

    photo: str
    kind: str
    level: str
    psnr: dict[str, float]

    @property
    def gain(self) -> float:
        """Ours over the input, dB."""
        return self.psnr["ours"] - self.psnr["input"]


@dataclass(frozen=True)
class Bar:
    """One promise and what was measured."""

    text: str
    value: float
    least: float

    @property
    def passed(self) -> bool:
        """True where the measured value reaches the promise."""
        return self.value >= self.least


def load_photo(name: str, largest: int = LARGEST) -> Array:
    """A photograph of scikit-image's package by file name, HWC uint8 RGB, its middle cut out."""
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    path = next(p for p in (folder / f"{name}.png", folder / f"{name}.jpg") if p.exists())
    photo = Image.open(path).convert("RGB")
    width, height = photo.size
    w, h = min(width, largest), min(height, largest)
    left, top = (width - w) // 2, (height - h) // 2
    return np.asarray(photo.crop((left, top, left + w, top + h)))


def round8(image: Array) -> Array:
    """0..255 float to uint8, rounded and clipped."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def noisy(photo: Array, sigma: float, seed: int) -> Array:
    """Independent Gaussian noise on every channel, rounded to 8 bits."""
    rng = np.random.default_rng(seed)
    return round8(photo + rng.normal(0, sigma, photo.shape))


def jpeg(photo: Array, quality: int) -> Array:
    """A JPEG file at a quality, with Pillow's usual halved color (4:2:0)."""
    with io.BytesIO() as file:
        Image.fromarray(photo).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file).convert("RGB"))


def resized(photo: Array, width: int, height: int) -> Array:
    """Antialiased bicubic, in 8 bits."""
    return np.asarray(Image.fromarray(photo).resize((width, height), Image.Resampling.BICUBIC))


def mixed(photo: Array, blur: float, scale: float, sigma: float, quality: int, seed: int) -> Array:
    """The chain of the restoration papers: blur, shrink, noise, JPEG, and back to the old size."""
    from scipy.ndimage import gaussian_filter

    height, width, _ = photo.shape
    soft = round8(gaussian_filter(photo.astype(np.float32), (blur, blur, 0)))
    small = resized(soft, round(width * scale), round(height * scale))
    return resized(jpeg(noisy(small, sigma, seed), quality), width, height)


def degradations(photo: Array, name: str) -> dict[tuple[str, str], Array]:
    """All degraded versions of a photo by (kind, level). HWC uint8 in and out, fixed seeds."""
    seed = zlib.crc32(name.encode())
    return {
        ("noise", "light"): noisy(photo, 10, seed),
        ("noise", "strong"): noisy(photo, 25, seed + 1),
        ("jpeg", "light"): jpeg(photo, 50),
        ("jpeg", "strong"): jpeg(photo, 30),
        ("mixed", "light"): mixed(photo, 0.6, 0.8, 6, 75, seed + 2),
        ("mixed", "strong"): mixed(photo, 1.0, 0.6, 12, 55, seed + 3),
    }


def psnr(image: Array, reference: Array) -> float:
    """PSNR of two HWC uint8 images, dB, over all channels."""
    pair = (torch.tensor(each).movedim(-1, 0)[None] for each in (image, reference))
    return metrics.psnr(*pair, peak=255).item()


def bundled_model(path: Path = WEIGHTS) -> Method:
    """Our network as a function on HWC uint8, run over the whole photo at once."""
    from spandrel import ModelLoader

    network = ModelLoader().load_from_file(path).model.eval()

    @torch.no_grad()
    def restore(image: Array) -> Array:
        high, wide = (-n % 8 for n in image.shape[:2])
        padded = np.pad(image, ((0, high), (0, wide), (0, 0)), mode="reflect")
        pixels = torch.from_numpy(padded).movedim(2, 0)[None].float() / 255
        output = network(pixels.contiguous(memory_format=torch.channels_last))[0].movedim(0, 2)
        return round8(output.numpy()[: image.shape[0], : image.shape[1]] * 255)

    return restore


def bicubic(image: Array) -> Array:
    """Half size and back, both bicubic: what shrinking alone does against noise."""
    height, width, _ = image.shape
    return resized(resized(image, max(1, width // 2), max(1, height // 2)), width, height)


def median(image: Array) -> Array:
    """Median of 3 x 3 in every channel."""
    from scipy.ndimage import median_filter

    return median_filter(image, size=(3, 3, 1))


def estimated_sigma(pixels: Array) -> float:
    """Noise level from the finest diagonal Haar details (Donoho & Johnstone 1994), mean of channels.

    scikit-image has the same with another wavelet, but needs PyWavelets for it.
    """
    height, width = (n // 2 * 2 for n in pixels.shape[:2])
    even, odd = pixels[:height:2, :width], pixels[1:height:2, :width]
    details = (even[:, ::2] - even[:, 1::2] - odd[:, ::2] + odd[:, 1::2]) / 2
    return float(np.mean(np.median(np.abs(details), axis=(0, 1)) / 0.6745))


def non_local_means(image: Array) -> Array:
    """scikit-image's non-local means with its examples' settings (h = 0.6 sigma), sigma estimated."""
    from skimage.restoration import denoise_nl_means

    pixels = image.astype(np.float32) / 255
    sigma = max(estimated_sigma(pixels), 1e-3)
    output = denoise_nl_means(
        pixels,
        patch_size=5,
        patch_distance=6,
        h=0.6 * sigma,
        sigma=sigma,
        fast_mode=True,
        channel_axis=2,
    )
    return round8(output * 255)


CLASSIC: dict[str, Method] = {
    "bicubic": bicubic,
    "median": median,
    "nl-means": non_local_means,
}


def evaluate(
    methods: dict[str, Method],
    names: Iterable[str] = PHOTOS,
    save: Path | None = None,
    largest: int = LARGEST,
) -> list[Row]:
    """Runs every method on every version of the named photos, the clean one included.

    `methods` must hold "ours". `largest` is the side that photos are cut to. `save` writes clean, input and output pictures into a folder.
    """
    rows = []
    for name in names:
        photo = load_photo(name, largest)
        versions = {**degradations(photo, name), ("clean", ""): photo}
        for (kind, level), bad in versions.items():
            outputs = {method: run(bad) for method, run in methods.items()}
            figures = {method: psnr(output, photo) for method, output in outputs.items()}
            rows.append(Row(name, kind, level, {"input": psnr(bad, photo), **figures}))
            if save:
                strip = np.concatenate([photo, bad, outputs["ours"]], axis=1)
                Image.fromarray(strip).save(save / f"{name}-{kind}{level and '-' + level}.png")
    return rows


def bars(rows: list[Row]) -> list[Bar]:
    """Every promise of the model with the measured value."""
    result = []
    for kind, least in GAIN_BARS.items():
        gains = [row.gain for row in rows if row.kind == kind]
        result.append(Bar(f"{kind}: mean gain over the input", float(np.mean(gains)), least))
    for kind in KINDS:
        gains = [row.gain for row in rows if row.kind == kind]
        result.append(Bar(f"{kind}: worst photo's gain", min(gains), WORST_BAR))
    clean = [row.psnr["ours"] for row in rows if row.kind == "clean"]
    result.append(Bar("clean: lowest PSNR between input and output", min(clean), CLEAN_BAR))
    return result


def mean_row(rows: list[Row], kind: str, level: str | None) -> Row:
    """The mean of every method over all photos of a kind."""
    chosen = [r for r in rows if r.kind == kind and (level is None or r.level == level)]
    figures = {m: float(np.mean([r.psnr[m] for r in chosen])) for m in chosen[0].psnr}
    return Row("mean", kind, level or "both", figures)


def table(rows: list[Row]) -> str:
    """All rows as Markdown, kind by kind, each with its means."""
    methods = list(rows[0].psnr)
    lines = []
    for kind in (*KINDS, "clean"):
        lines += [
            "",
            f"### {kind}",
            "",
            "| photo | level | " + " | ".join(methods) + " | gain |",
            "| --- | --- |" + " ---: |" * (len(methods) + 1),
        ]
        shown = [row for row in rows if row.kind == kind]
        means = (
            [mean_row(rows, kind, level) for level in (*LEVELS, None)] if kind != "clean" else []
        )
        for row in [*shown, *means]:
            figures = " | ".join(f"{row.psnr[m]:.2f}" for m in methods)
            gain = f"{row.gain:+.2f}" if kind != "clean" else ""
            lines.append(f"| {row.photo} | {row.level} | {figures} | {gain} |")
    return "\n".join(lines[1:])


def main() -> int:
    """Prints the table and the bars; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description="Holds the bundled model to its bars.")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--quick", action="store_true", help="without the classic methods")
    parser.add_argument("--photos", nargs="+", default=list(PHOTOS), choices=PHOTOS, metavar="NAME")
    parser.add_argument("--save", type=Path, help="folder for clean | input | output pictures")
    args = parser.parse_args()
    if args.save:
        args.save.mkdir(parents=True, exist_ok=True)
    methods = {"ours": bundled_model(args.weights), **({} if args.quick else CLASSIC)}
    rows = evaluate(methods, args.photos, args.save)
    print(table(rows))
    print()
    results = bars(rows)
    for bar in results:
        verdict = "pass" if bar.passed else "FAIL"
        print(f"{verdict}  {bar.text}: {bar.value:.2f} dB (bar {bar.least:+.1f})")
    return 0 if all(bar.passed for bar in results) else 1


if __name__ == "__main__":
    sys.exit(main())
