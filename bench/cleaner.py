# ruff: noqa: T201
"""Holds the bundled light models to their bars, on photographs they were never trained on.

A bar is what the model promises (a test holds it there) and beside it what is aimed at.

    python bench/cleaner.py                        # the whole table, with classic methods beside it
    python bench/cleaner.py --quick                # ours only
    python bench/cleaner.py --weights FILE --x2 FILE --x4 FILE --save DIR
    python bench/cleaner.py --photos one.png two.jpg

The photographs are those that come inside the scikit-image package, cut to at most 512 x 512 around
their middle. Each is degraded at the two ends of each range with a seed of its own. Figures are
PSNR in dB over all channels, of 8-bit images; flat areas are even colors, and their figure is how
far a model moves them, in levels of 255. The rows x2 and x4 are those of the enlarging networks, which
get the clean photo at a half or a quarter of its size; their input's figure is bicubic's. "enlarged" is
what the restoration model makes of that bicubic enlargement.
"""

from __future__ import annotations

import argparse
import runpy
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
runpy.run_path(str(ROOT / "tools" / "package.py"))["register_pack"]()

from _photos import (  # noqa: E402
    LARGEST,
    PHOTOS,
    Array,
    degradations,
    load_photo,
    psnr,
    resized,
    round8,
)

from restoration.stage1.restorer import BUNDLED_WEIGHTS as WEIGHTS  # noqa: E402
from restoration.stage1.restorer import ENLARGERS as BUNDLED_ENLARGERS  # noqa: E402

Method = Callable[[Array], Array]

ENLARGERS = {f"x{factor}": file for factor, file in BUNDLED_ENLARGERS.items()}
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
    "noise": Promise(9.3, 8.2),
    "jpeg": Promise(0.7, 1.0),
    "mixed": Promise(1.3, 2.0),
    "blur": Promise(0.15, 1.5),
    "enlarged light": Promise(0.0, 0.8),
    "enlarged strong": Promise(0.1, 0.8),
}
OVER_NON_LOCAL_MEANS = Promise(0.9, 0.7)
WORST = Promise(-0.2, -0.2)
"""Gain of the photo that loses most, of every kind."""
CLEAN = Promise(39.0, 36.0)
FLAT_AREAS = Promise(-2.0, -0.5)
ENLARGING = {"x2": Promise(0.8, 0.8), "x4": Promise(0.8, 0.8)}
"""Mean gain over bicubic."""
WORST_ENLARGED = {"x2": Promise(-0.3, -0.2), "x4": Promise(-0.2, -0.2)}
FLAT_ENLARGED = Promise(-0.5, -0.5)


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


def enlarging_network(path: Path) -> Method:
    """A network of `ENLARGERS` as a function on HWC uint8."""
    from spandrel import ModelLoader

    from restoration.stage1.restorer import with_edge, without_edge

    network = ModelLoader().load_from_file(path).model.eval()

    @torch.no_grad()
    def enlarge(image: Array) -> Array:
        pixels = torch.from_numpy(np.array(image)).movedim(2, 0)[None].float() / 255
        output = without_edge(network(with_edge(pixels)), network.upscale)
        return round8(output[0].movedim(0, 2).numpy() * 255)

    return enlarge


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
            rows.append(Row(Path(name).stem, kind, level, {"input": psnr(bad, photo), **figures}))
            if save:
                strip = np.concatenate([photo, bad, outputs["ours"]], axis=1)
                Image.fromarray(strip).save(
                    save / f"{Path(name).stem}-{kind}{level and '-' + level}.png"
                )
    return rows


def evaluate_enlarging(
    networks: dict[str, Method],
    names: Iterable[str] = PHOTOS,
    save: Path | None = None,
    largest: int = LARGEST,
) -> list[Row]:
    """Every photo at 1/factor of its size, enlarged again by the network of that factor. The input's
    figure is that of bicubic.

    networks: by "x" and the factor. save, largest: as in `evaluate`; the sides are cut to multiples
    of the factor.
    """
    rows = []
    for name in names:
        whole = load_photo(name, largest)
        for kind, enlarge in networks.items():
            factor = int(kind[1:])
            height, width = (n // factor * factor for n in whole.shape[:2])
            photo = whole[:height, :width]
            small = resized(photo, width // factor, height // factor)
            usual, ours = resized(small, width, height), enlarge(small)
            figures = {"input": psnr(usual, photo), "ours": psnr(ours, photo)}
            rows.append(Row(Path(name).stem, kind, "", figures))
            if save:
                strip = np.concatenate([photo, usual, ours], axis=1)
                Image.fromarray(strip).save(save / f"{Path(name).stem}-{kind}.png")
    return rows


def flat_areas(ours: Method, side: int = 128) -> dict[str, float]:
    """How far a model moves even colors: the largest change of a pixel in levels of 255, by color.

    It is largest in the corners, where a network sees the end of the picture.
    """
    moved = {}
    for name, color in FLAT.items():
        area = np.full((side, side, 3), color, np.uint8)
        moved[name] = float(np.abs(ours(area).astype(float) - color).max())
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
        result.append(Bar(text, worst.gain, WORST))
    clean = [row.psnr["ours"] for row in rows if row.kind == "clean"]
    result.append(Bar("clean: lowest PSNR between input and output", min(clean), CLEAN))
    most = max(moved, key=lambda name: moved[name])
    text = f"flat areas: moved most ({most})"
    result.append(Bar(text, -moved[most], FLAT_AREAS, "levels"))
    return result


def enlarging_bars(rows: list[Row], networks: dict[str, Method]) -> list[Bar]:
    """The promises of the enlarging networks. rows: of `evaluate_enlarging`."""
    result = []
    for kind, network in networks.items():
        own = [row for row in rows if row.kind == kind]
        mean = float(np.mean([row.gain for row in own]))
        result.append(Bar(f"{kind}: mean gain over bicubic", mean, ENLARGING[kind]))
        worst = min(own, key=lambda row: row.gain)
        text = f"{kind}: worst photo's gain ({worst.photo})"
        result.append(Bar(text, worst.gain, WORST_ENLARGED[kind]))
        moved = flat_areas(network, 64)
        most = max(moved, key=lambda name: moved[name])
        text = f"{kind}: flat areas: moved most ({most})"
        result.append(Bar(text, -moved[most], FLAT_ENLARGED, "levels"))
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
    return Row("mean", kind, level or ("both" if chosen[0].level else ""), figures)


def table(rows: list[Row]) -> str:
    """All rows as Markdown, kind by kind, each with its means. Rows of one kind have the same methods."""
    lines = []
    for kind in dict.fromkeys(row.kind for row in rows):
        shown = [row for row in rows if row.kind == kind]
        methods = list(shown[0].psnr)
        lines += [
            "",
            f"### {kind}",
            "",
            "| photo | level | " + " | ".join(methods) + " | gain |",
            "| --- | --- |" + " ---: |" * (len(methods) + 1),
        ]
        levels = (*LEVELS, None) if kind in KINDS else () if kind == "clean" else (None,)
        means = [mean_row(rows, kind, level) for level in levels]
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
    for kind, path in ENLARGERS.items():
        parser.add_argument(f"--{kind}", type=Path, default=path, help="the network for it")
    parser.add_argument("--only-enlarging", action="store_true", help="the rows x2 and x4 alone")
    parser.add_argument(
        "--photos", nargs="+", default=list(PHOTOS), metavar="NAME", help="of them, or your files"
    )
    parser.add_argument("--save", type=Path, help="folder for clean | input | output pictures")
    args = parser.parse_args()
    if args.save:
        args.save.mkdir(parents=True, exist_ok=True)
    networks = {kind: enlarging_network(getattr(args, kind)) for kind in ENLARGERS}
    times, rows, results = dict(networks), [], []
    if not args.only_enlarging:
        ours = bundled_model(args.weights)
        methods = {"ours": ours, **({} if args.quick else CLASSIC)}
        rows = evaluate(methods, args.photos, args.save)
        results = bars(rows, flat_areas(ours))
        times["ours"] = ours
    enlarged = evaluate_enlarging(networks, args.photos, args.save)
    print(table([*rows, *enlarged]))
    print()
    results += enlarging_bars(enlarged, networks)
    for bar in results:
        verdict = "FAIL" if not bar.passed else "aim " if bar.reached else "pass"
        figures = f"promised {bar.promise.least:+.1f}, aim {bar.promise.aim:+.1f}"
        print(f"{verdict}  {bar.text}: {bar.value:+.2f} {bar.unit} ({figures})")
    threads = torch.get_num_threads()
    for name, method in times.items():
        seconds = seconds_for(method)
        print(f"{name}: {LARGEST} x {LARGEST} pixels in {seconds:.1f} s with {threads} CPU threads")
    return 0 if all(bar.passed for bar in results) else 1


if __name__ == "__main__":
    sys.exit(main())
