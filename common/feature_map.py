"""Feature maps too large for the device: kept in host memory, written and read box by box."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor


@dataclass(frozen=True)
class Box:
    """Rows `top` to `bottom` and columns `left` to `right` of a grid, the ends not included."""

    top: int
    bottom: int
    left: int
    right: int

    def grown(self, cells: int, height: int, width: int) -> Box:
        """With `cells` more on every side, as far as the grid of height x width reaches."""
        return Box(
            max(self.top - cells, 0),
            min(self.bottom + cells, height),
            max(self.left - cells, 0),
            min(self.right + cells, width),
        )

    def cut_from(self, values: Tensor, outer: Box) -> Tensor:
        """This box out of ... h w values that show `outer` (a view)."""
        return values[
            ...,
            self.top - outer.top : self.bottom - outer.top,
            self.left - outer.left : self.right - outer.left,
        ]


def cuts(length: int, side: int) -> list[tuple[int, int]]:
    """0..length in the fewest parts of at most `side`, all nearly equal: no cell twice, none left
    out, which statistics over all parts rely on."""
    parts = -(-length // side)
    edges = [index * length // parts for index in range(parts + 1)]
    return list(pairwise(edges))


def boxes(height: int, width: int, side: int) -> list[Box]:
    """A height x width grid as disjoint boxes, rows outer."""
    rows, columns = cuts(height, side), cuts(width, side)
    return [Box(*row, *column) for row in rows for column in columns]


@dataclass(frozen=True)
class Moments:
    """Moments of a feature map's channel groups: one value a group, float64, on the CPU."""

    mean: Tensor
    variance: Tensor
    """Over the number of values, as GroupNorm takes it, not over one less."""


class MomentSum:
    """Mean and variance of a whole map from its boxes (Chan, Golub, LeVeque 1983, eq. 2.1).

    Per box in float32 around the box's own mean, so that nothing cancels; merged in float64,
    weighted with the number of values.
    """

    def __init__(self, groups: int) -> None:
        self.groups = groups
        self._counts: list[int] = []
        self._parts: list[Tensor] = []

    def add(self, values: Tensor) -> None:
        """values: C h w; C divisible by the groups. Stays on its device: no waiting here."""
        grouped = values.unflatten(0, (self.groups, -1))
        self._counts.append(grouped[0].numel())
        self._parts.append(torch.stack(variance_and_mean(grouped)))

    def total(self) -> Moments:
        variance, mean = torch.stack(self._parts).cpu().double().unbind(1)  # boxes, groups
        weight = torch.tensor(self._counts, dtype=torch.float64)[:, None] / sum(self._counts)
        whole = (weight * mean).sum(0)
        return Moments(whole, (weight * (variance + (mean - whole) ** 2)).sum(0))


def variance_and_mean(rows: Tensor) -> tuple[Tensor, Tensor]:
    """rows: N ... -> variance and mean of every row, N each, float32."""
    if rows.device.type != "cpu":
        return torch.var_mean(rows.float().flatten(1), 1, correction=0)
    # On the CPU var_mean takes one value at a time and seven times as long as these two passes; a
    # few rows at once, because large temporaries cost more there than what is computed in them.
    found: list[tuple[Tensor, Tensor]] = []
    for part in rows.split(4):
        part = part.float().flatten(1)
        mean = part.mean(1, keepdim=True)
        found.append(((part - mean).square_().mean(1), mean[:, 0]))
    variance, mean = (torch.cat(parts) for parts in zip(*found, strict=True))
    return variance, mean


class FeatureMap:
    """C x height x width in bands of whole rows, which are dropped one by one once read."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        self.channels, self.height, self.width = channels, height, width
        self.moments: Moments | None = None
        self._bands: list[tuple[int, Tensor]] = []

    @classmethod
    def of(cls, values: Tensor) -> FeatureMap:
        """values: C H W, kept as they are."""
        whole = cls(*values.shape)
        whole.append(values)
        return whole

    @property
    def dtype(self) -> torch.dtype:
        return self._bands[0][1].dtype

    @property
    def numel(self) -> int:
        """Values of the whole map, wherever they are."""
        return self.channels * self.height * self.width

    def append(self, band: Tensor) -> None:
        """band: C rows W, below those that are there."""
        below = self._bands[-1][0] + self._bands[-1][1].shape[1] if self._bands else 0
        self._bands.append((below, band))

    def read(self, box: Box) -> Tensor:
        """1 C h w; a view where one band holds it all. The rows must not have been released."""
        parts = self._parts(box)
        return (parts[0] if len(parts) == 1 else torch.cat(parts, 1))[None]

    def copy(self, box: Box, target: Tensor) -> None:
        """Writes a box into `target`, 1 C h w on any device."""
        parts = self._parts(box)
        rows = [part.shape[1] for part in parts]
        for part, place in zip(parts, target[0].split(rows, 1), strict=True):
            place.copy_(part)

    def _parts(self, box: Box) -> list[Tensor]:
        """The box as views of the bands that hold its rows, from the top."""
        parts = [
            band[:, max(box.top - top, 0) : box.bottom - top, box.left : box.right]
            for top, band in self._bands
            if top < box.bottom and box.top < top + band.shape[1]
        ]
        found = sum(part.shape[1] for part in parts)
        assert found == box.bottom - box.top, "rows were released or are not there yet"
        return parts

    def release(self, row: int) -> None:
        """Drops the bands that lie above this row as a whole."""
        self._bands = [(top, band) for top, band in self._bands if top + band.shape[1] > row]

    def whole(self) -> Tensor:
        """C H W."""
        return self.read(Box(0, self.height, 0, self.width))[0]


def attend(queries: Tensor, parts: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """softmax(q k' / sqrt(C)) v over the keys of all parts, without all scores at once.

    queries: N C. parts: keys M C and values M C'. The running maximum and sum of Milakov and
    Gimelshein (2018, algorithm 3) make it exact up to rounding. Returns N C', float32.
    """
    queries = queries.float() * queries.shape[1] ** -0.5
    peak = queries.new_full((len(queries), 1), -torch.inf)
    total, mixed = torch.zeros_like(peak), torch.zeros_like(peak)
    for keys, values in parts:
        scores = queries @ keys.float().T
        higher = torch.maximum(peak, scores.amax(1, keepdim=True))
        scores = scores.sub_(higher).exp_()
        faded = (peak - higher).exp_()
        total = total * faded + scores.sum(1, keepdim=True)
        mixed = mixed * faded + scores @ values.float()
        peak = higher
    return mixed / total
