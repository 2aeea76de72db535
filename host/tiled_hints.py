"""ControlNets in tiles: core's get their hint cut for each call, ours know tiles themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import comfy.utils
import torch
from torch import Tensor

from ..common.tiling import Tile
from .frames import Frames
from .tiled_conds import Cond


def controls_of(conds: Iterable[Sequence[Cond] | None]) -> list[Any]:
    """Every control of every chain, once."""
    found: dict[int, Any] = {}
    for cond in conds:
        for entry in cond or ():
            control = entry.get("control")
            while control is not None and id(control) not in found:
                found[id(control)] = control
                control = control.previous_controlnet
    return list(found.values())


def _knows_tiles(control: Any) -> bool:
    return getattr(control, "knows_tiles", False)


@contextmanager
def announcing(conds: dict[str, list[Cond]], share: float) -> Iterator[None]:
    """Inside, our controls announce the memory for this part of the latent."""
    controls = [control for control in controls_of(conds.values()) if _knows_tiles(control)]
    for control in controls:
        control.share_per_call = share
    try:
        yield
    finally:
        for control in controls:
            control.share_per_call = 1.0


class ForeignHints:
    """The hints of controls that know no tiles (core's), cut for each batch of tiles.

    A control keeps its prepared hint between calls and cannot see that the tile has changed, so
    what it holds is exchanged around each call and kept here for the run.
    """

    HELD = ("cond_hint_original", "extra_concat_orig", "cond_hint", "control_input")

    def __init__(self) -> None:
        self._whole: dict[int, tuple[Tensor, list[Tensor]]] = {}
        self._held: dict[tuple[int, tuple[Tile, ...], Frames], dict[str, Any]] = {}

    def clear(self) -> None:
        self._whole.clear()
        self._held.clear()

    @contextmanager
    def cut(self, controls: Sequence[Any], tiles: Sequence[Tile], frames: Frames) -> Iterator[None]:
        """Inside, the controls hold what belongs to these tiles of these images."""
        saved: list[tuple[Any, dict[str, Any]]] = []
        try:
            for control in controls:
                if control.cond_hint_original is None or _knows_tiles(control):
                    continue
                saved.append((control, self._values(control)))
                key = id(control), tuple(tiles), frames
                if key not in self._held:
                    self._held[key] = self._part(control, tiles, frames)
                for name, value in self._held[key].items():
                    setattr(control, name, value)
            yield
            for control, _ in saved:
                held = self._values(control)
                if len(frames.indices) * len(tiles) > 1 and "control_input" in held:
                    # An adapter's output has the rows of the call that made it, and the next one
                    # may have fewer (no negative prompt).
                    held["control_input"] = None
                self._held[id(control), tuple(tiles), frames] = held
        finally:
            for control, values in saved:
                for name, value in values.items():
                    setattr(control, name, value)

    def _values(self, control: Any) -> dict[str, Any]:
        return {name: getattr(control, name) for name in self.HELD if hasattr(control, name)}

    def _part(self, control: Any, tiles: Sequence[Tile], frames: Frames) -> dict[str, Any]:
        factor = control.compression_ratio
        if control.vae is not None:
            factor *= control.vae.spacial_compression_encode()
        if id(control) not in self._whole:
            # As the control would for the whole latent: its own resampling is then the identity.
            size = tiles[0].full_width * factor, tiles[0].full_height * factor
            self._whole[id(control)] = (
                _resized(control.cond_hint_original, size, control.upscale_algorithm),
                [
                    _resized(mask, size, control.upscale_algorithm)
                    for mask in control.extra_concat_orig
                ],
            )

        def rows(whole: Tensor) -> Tensor:
            parts = [tile.scaled(factor).crop(whole) for tile in tiles]
            if len(parts) == 1 and frames.are_all:
                return parts[0]
            return torch.cat([frames.around(part) for part in parts])

        hint, masks = self._whole[id(control)]
        fresh = dict.fromkeys(self._values(control))
        return fresh | {
            "cond_hint_original": rows(hint),
            "extra_concat_orig": [rows(mask) for mask in masks],
        }


def _resized(image: Tensor, size: tuple[int, int], algorithm: str) -> Tensor:
    return comfy.utils.common_upscale(image, *size, algorithm, "center")
