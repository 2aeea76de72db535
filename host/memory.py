"""Running out of memory, as the host sees it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from comfy import model_management as mm

from .report import announce

SMALLEST_TILE_PIXELS = 64
T = TypeVar("T")


def is_out_of_memory(error: Exception) -> bool:
    """Whether the host counts this as out of memory (0.18 knows more kinds than one class)."""
    raise_non_oom = getattr(mm, "raise_non_oom", None)
    if raise_non_oom is None:
        return isinstance(error, mm.OOM_EXCEPTION)
    try:
        raise_non_oom(error)
    except Exception:
        return False
    return True


def with_shrinking_tile(
    run: Callable[[int], T], tile: int, what: str, smallest: int = SMALLEST_TILE_PIXELS
) -> tuple[T, int]:
    """Calls run(tile); on out of memory halves the tile, says so in the log and on the node that
    runs, and tries again.

    Returns the result and the tile that worked, so that the next picture starts there. With
    `tile` at `smallest` the host's own error gets through.
    """
    while True:
        try:
            return run(tile), tile
        except Exception as error:
            if tile // 2 < smallest or not is_out_of_memory(error):
                raise
        # Outside the handler: its traceback would keep the failed attempt's tensors alive.
        mm.soft_empty_cache()
        text = f"{what}: out of memory with tiles of {tile}, trying {tile // 2}."
        announce(text, level=logging.WARNING)
        tile //= 2


def with_room(run: Callable[[], T], patcher: Any, needed: float, what: str) -> T:
    """Calls run() with the patcher's network loaded and `needed` bytes asked for. For work that has
    no tiles: on out of memory once more, alone on the device."""
    mm.load_models_gpu([patcher], memory_required=needed)
    try:
        return run()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    mm.unload_all_models()
    mm.soft_empty_cache()
    text = f"{what}: out of memory; trying again with all other models unloaded."
    announce(text, level=logging.WARNING)
    mm.load_models_gpu([patcher], memory_required=needed)
    return run()
