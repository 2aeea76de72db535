"""What papers print for the test sets, read off the tables themselves and never computed here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

COLUMNS = {
    "psnr": "PSNR (Y) ↑",
    "ssim": "SSIM (Y) ↑",
    "lpips": "LPIPS ↓",
    "dists": "DISTS ↓",
    "fid": "FID ↓",
    "niqe": "NIQE ↓",
    "musiq": "MUSIQ ↑",
    "maniqa": "MANIQA ↑",
    "clipiqa": "CLIP-IQA ↑",
}
"""Metric -> the head of its column, in the papers' order. We do not compute all of them."""


@dataclass(frozen=True)
class Line:
    """One method's figures on one test set."""

    method: str
    figures: Mapping[str, str]
    """Metric -> figure, with the digits that the paper prints."""
    source: str


@dataclass(frozen=True)
class PublishedSet:
    """A published set of pairs."""

    title: str
    pictures: int
    """Of 128x128, with originals of 512x512."""
    lines: tuple[Line, ...]


def _lines(source: str, *rows: str) -> tuple[Line, ...]:
    """rows: a method, a colon, and a figure for each of COLUMNS, `-` where there is none."""
    lines = []
    for row in rows:
        method, _, text = row.partition(":")
        figures = zip(COLUMNS, text.split(), strict=True)
        lines.append(Line(method, {name: each for name, each in figures if each != "-"}, source))
    return tuple(lines)


_DIFFUSION = "Wu et al. 2024 (OSEDiff), arXiv 2406.08177, table 1"
_GAN = "Wu et al. 2024 (OSEDiff), arXiv 2406.08177, table 7"
_CCSR = "Sun et al. 2024 (CCSR), arXiv 2401.00877, table 1"

SETS = {
    "realsr": PublishedSet(
        "RealSR",
        100,
        (
            *_lines(
                _DIFFUSION,
                "StableSR, 200 steps: 24.70 0.7085 0.3018 0.2288 128.51 5.9122 65.78 0.6221 0.6178",
                "DiffBIR, 50 steps:   24.75 0.6567 0.3636 0.2312 128.99 5.5346 64.98 0.6246 0.6463",
                "SeeSR, 50 steps:     25.18 0.7216 0.3009 0.2223 125.55 5.4081 69.77 0.6442 0.6612",
                "PASD, 20 steps:      25.21 0.6798 0.3380 0.2260 124.29 5.4137 68.75 0.6487 0.6620",
                "ResShift, 15 steps:  26.31 0.7421 0.3460 0.2498 141.71 7.2635 58.43 0.5285 0.5444",
                "SinSR, 1 step:       26.28 0.7347 0.3188 0.2353 135.93 6.2872 60.80 0.5385 0.6122",
                "OSEDiff, 1 step:     25.15 0.7341 0.2921 0.2128 123.49 5.6476 69.09 0.6326 0.6693",
            ),
            *_lines(
                _CCSR,
                "CCSR, 15 steps:      26.24 0.7365 0.2559 0.1985 105.55 5.74   63.64 -      0.5287",
            ),
            *_lines(
                _GAN,
                "BSRGAN:              26.39 0.7654 0.2670 0.2121 141.28 5.6567 63.21 0.5399 0.5001",
                "Real-ESRGAN:         25.69 0.7616 0.2727 0.2063 135.18 5.8295 60.18 0.5487 0.4449",
                "LDL:                 25.28 0.7567 0.2766 0.2121 142.71 6.0024 60.82 0.5485 0.4477",
                "FeMASR:              25.07 0.7358 0.2942 0.2288 141.05 5.7885 58.95 0.4865 0.5270",
            ),
        ),
    ),
    "drealsr": PublishedSet(
        "DRealSR",
        93,
        (
            *_lines(
                _DIFFUSION,
                "StableSR, 200 steps: 28.03 0.7536 0.3284 0.2269 148.98 6.5239 58.51 0.5601 0.6356",
                "DiffBIR, 50 steps:   26.71 0.6571 0.4557 0.2748 166.79 6.3124 61.07 0.5930 0.6395",
                "SeeSR, 50 steps:     28.17 0.7691 0.3189 0.2315 147.39 6.3967 64.93 0.6042 0.6804",
                "PASD, 20 steps:      27.36 0.7073 0.3760 0.2531 156.13 5.5474 64.87 0.6169 0.6808",
                "ResShift, 15 steps:  28.46 0.7673 0.4006 0.2656 172.26 8.1249 50.60 0.4586 0.5342",
                "SinSR, 1 step:       28.36 0.7515 0.3665 0.2485 170.57 6.9907 55.33 0.4884 0.6383",
                "OSEDiff, 1 step:     27.92 0.7835 0.2968 0.2165 135.30 6.4902 64.65 0.5899 0.6963",
            ),
            *_lines(
                _CCSR,
                "CCSR, 15 steps:      28.96 0.7710 0.2922 0.2146 132.73 5.91   58.82 -      0.5467",
            ),
            *_lines(
                _GAN,
                "BSRGAN:              28.75 0.8031 0.2883 0.2142 155.63 6.5192 57.14 0.4878 0.4915",
                "Real-ESRGAN:         28.64 0.8053 0.2847 0.2089 147.62 6.6928 54.18 0.4907 0.4422",
                "LDL:                 28.21 0.8126 0.2815 0.2132 155.53 7.1298 53.85 0.4914 0.4310",
                "FeMASR:              26.90 0.7572 0.3169 0.2235 157.78 5.9073 53.74 0.4420 0.5464",
            ),
        ),
    ),
}
"""By the word of the command line."""


def set_called(folder: str) -> PublishedSet | None:
    """The set that a folder is called after, as `benchmark_drealsr` or `RealSRVal_crop128`."""
    letters = "".join(filter(str.isalnum, folder.lower()))
    # The longest first: DRealSR has RealSR in its name.
    found = [word for word in sorted(SETS, key=len, reverse=True) if word in letters]
    return SETS[found[0]] if found else None


def comparison(published: PublishedSet, name: str, ours: Mapping[str, str]) -> str:
    """Our line above the published ones, as text, with the sources below.

    name: of what was measured. ours: metric -> figure as it is to be printed.
    """
    sources = list(dict.fromkeys(line.source for line in published.lines))
    rows = [("", *COLUMNS.values(), "")]
    rows.append((name, *(ours.get(each, "-") for each in COLUMNS), "here"))
    rows += [
        (
            line.method,
            *(line.figures.get(each, "-") for each in COLUMNS),
            f"[{sources.index(line.source) + 1}]",
        )
        for line in published.lines
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    text = [
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([*text, *(f"[{number}] {each}" for number, each in enumerate(sources, 1))])
