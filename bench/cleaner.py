# ruff: noqa: T201
"""Holds the bundled light restoration model to its bars, on photographs it was never trained on.

A bar is what the model promises (a test holds it there) and beside it what is aimed at.

    python bench/cleaner.py                        # the whole table, with classic methods beside it
    python bench/cleaner.py --quick                # ours only
    python bench/cleaner.py --weights FILE --save DIR

The photographs are those that come inside the scikit-image package, cut to at most 512 x 512 around
their middle. Each is degraded at the two ends of each range with a seed of its own. Figures are
PSNR in dB over all channels, of 8-bit images; flat areas are even colors, and their figure is how
far the model moves them, in levels of 255.
"""

from __future__ import annotations

import argparse
import io
import runpy
import sys
import time
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
KINDS = ("noise", "jpeg", "mixed", "blur", "enlarged")
LEVELS = ("light", "strong")
FLAT = {
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "gray": (128, 128, 128),
    "sky": (110, 160, 215),
    "wall": (225, 215, 195),
    "red": (200, 30, 40),
}


@dataclass(frozen=True)
class Promise:
    """The least gain (dB) or other figure that is promised, and the one that is aimed at."""

    least: float
    aim: float


GAINS = {
    "noise": Promise(3.0, 8.2),
    "jpeg": Promise(0.4, 1.0),
    "mixed": Promise(1.0, 2.0),
    "blur": Promise(-0.1, 1.5),
    "enlarged light": Promise(-0.1, 0.8),
    "enlarged strong": Promise(-0.1, 0.8),
}
OVER_NON_LOCAL_MEANS = Promise(-0.4, 0.7)
WORST = {
    "noise": Promise(-0.3, -0.2),
    "jpeg": Promise(-0.3, -0.2),
    "mixed": Promise(-0.3, -0.2),
    "blur": Promise(-2.4, -0.2),
    "enlarged": Promise(-1.6, -0.2),
}
CLEAN = Promise(34.0, 36.0)
FLAT_AREAS = Promise(-11.0, -0.5)


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
    promise: Promise
    unit: str = "dB"

    @property
    def passed(self) -> bool:
        """True where the measured value reaches the promise."""
        return self.value >= self.promise.least

    @property
    def reached(self) -> bool:
        """True where it reaches what is aimed at."""
        return self.value >= self.promise.aim


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


def blurred(photo: Array, sigma: float) -> Array:
    """Gaussian blur, rounded to 8 bits, nothing else."""
    from scipy.ndimage import gaussian_filter

    return round8(gaussian_filter(photo.astype(np.float32), (sigma, sigma, 0)))


def enlarged(photo: Array, factor: int) -> Array:
    """A clean photo at 1/factor of its size, enlarged again: what an upscaler starts from."""
    height, width, _ = photo.shape
    return resized(resized(photo, width // factor, height // factor), width, height)


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
        ("blur", "light"): blurred(photo, 1.0),
        ("blur", "strong"): blurred(photo, 2.0),
        ("enlarged", "light"): enlarged(photo, 2),
        ("enlarged", "strong"): enlarged(photo, 4),
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


def flat_areas(ours: Method, side: int = 128) -> dict[str, float]:
    """How far the model moves even colors: the largest change of a pixel in levels of 255, by color.

    It is largest in the corners, where a network sees the end of the picture.
    """
    moved = {}
    for name, color in FLAT.items():
        area = np.full((side, side, 3), color, np.uint8)
        moved[name] = float(np.abs(ours(area).astype(float) - area).max())
    return moved


def bars(rows: list[Row], moved: dict[str, float]) -> list[Bar]:
    """Every promise of the model with the measured value. moved: of `flat_areas`.

    The comparison with non-local means is there where its rows are.
    """
    result = []
    for name, promise in GAINS.items():
        kind, *level = name.split()
        gains = [r.gain for r in rows if r.kind == kind and (not level or r.level == level[0])]
        result.append(Bar(f"{name}: mean gain over the input", float(np.mean(gains)), promise))
    if "nl-means" in rows[0].psnr:
        over = [r.psnr["ours"] - r.psnr["nl-means"] for r in rows if r.kind == "noise"]
        mean = float(np.mean(over))
        result.append(Bar("noise: mean over non-local means", mean, OVER_NON_LOCAL_MEANS))
    for kind in KINDS:
        worst = min((row for row in rows if row.kind == kind), key=lambda row: row.gain)
        text = f"{kind}: worst photo's gain ({worst.photo}, {worst.level})"
        result.append(Bar(text, worst.gain, WORST[kind]))
    clean = [row.psnr["ours"] for row in rows if row.kind == "clean"]
    result.append(Bar("clean: lowest PSNR between input and output", min(clean), CLEAN))
    most = max(moved, key=lambda name: moved[name])
    text = f"flat areas: moved most ({most})"
    result.append(Bar(text, -moved[most], FLAT_AREAS, "levels"))
    return result


def seconds_for(ours: Method, side: int = LARGEST) -> float:
    """Seconds for a picture of side x side on this machine's CPU: the median of three runs."""
    picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        ours(picture)
        times.append(time.perf_counter() - start)
    return sorted(times)[1]


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
    ours = bundled_model(args.weights)
    methods = {"ours": ours, **({} if args.quick else CLASSIC)}
    rows = evaluate(methods, args.photos, args.save)
    print(table(rows))
    print()
    results = bars(rows, flat_areas(ours))
    for bar in results:
        verdict = "FAIL" if not bar.passed else "aim " if bar.reached else "pass"
        figures = f"promised {bar.promise.least:+.1f}, aim {bar.promise.aim:+.1f}"
        print(f"{verdict}  {bar.text}: {bar.value:+.2f} {bar.unit} ({figures})")
    threads = torch.get_num_threads()
    print(f"{LARGEST} x {LARGEST} pixels: {seconds_for(ours):.1f} s with {threads} CPU threads")
    return 0 if all(bar.passed for bar in results) else 1


if __name__ == "__main__":
    sys.exit(main())
