"""Axes with curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw

from ...tools.panel import BACK, INK
from .look import FAINT, FRAME, TEXT, WIDTH, font

Points = Sequence[tuple[float, float]]


class Chart:
    """Axes with curves, drawn at twice the size and made small, which smooths the lines."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], left: int = 90) -> None:
        self.x, self.y, self.height = x, y, 420
        self.box: tuple[int, int, int, int] = (left, 52, WIDTH - 28, self.height - 76)
        self.image = Image.new("RGB", (2 * WIDTH, 2 * self.height), BACK)
        self.draw = ImageDraw.Draw(self.image)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point lies in the large drawing."""
        left, top, right, bottom = self.box
        across, up = (
            (x - self.x[0]) / (self.x[1] - self.x[0]),
            (y - self.y[0]) / (self.y[1] - self.y[0]),
        )
        return 2 * (left + across * (right - left)), 2 * (bottom - up * (bottom - top))

    def text(self, x: float, y: float, text: str, color: Any = INK, anchor: str = "lm") -> None:
        """Text at a place of the finished picture."""
        self.draw.text((2 * x, 2 * y), text, color, font(2 * TEXT), anchor=anchor)

    def grid(self, xs: dict[float, str], ys: dict[float, str], title: str, below: str = "") -> None:
        """Lines and names of the axes' values."""
        left, _, right, bottom = self.box
        for x, name in xs.items():
            self.draw.line([self.at(x, self.y[0]), self.at(x, self.y[1])], FRAME, 2)
            self.text(self.at(x, 0)[0] / 2, bottom + 20, name, FAINT, "mm")
        for y, name in ys.items():
            self.draw.line([self.at(self.x[0], y), self.at(self.x[1], y)], FRAME, 2)
            self.text(left - 8, self.at(0, y)[1] / 2, name, FAINT, "rm")
        self.text(8, 22, title)
        self.text((left + right) / 2, self.height - 20, below, FAINT, "mm")

    def line(self, points: Points, color: Any) -> None:
        """A curve."""
        self.draw.line([self.at(*point) for point in points], color, 8, joint="curve")

    def label(self, x: float, y: float, text: str, color: Any, anchor: str = "lm") -> None:
        """Text at a place of the axes."""
        left, top = self.at(x, y)
        self.text(left / 2, top / 2, text, color, anchor)

    def dots(self, points: Points, color: Any, radius: float = 4) -> None:
        """A dot at each point."""
        for x, y in (self.at(*point) for point in points):
            r = 2 * radius
            self.draw.ellipse((x - r, y - r, x + r, y + r), color)

    def done(self) -> Image.Image:
        """The chart at its size."""
        return self.image.resize((WIDTH, self.height), Image.Resampling.LANCZOS)
