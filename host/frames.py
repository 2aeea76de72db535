"""Images of a run's batch, frames of a video: which of them the rows of a model call are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from comfy.context_windows import IndexListContextWindow
from torch import Tensor

from ..common.images import check_rows, match_batch

WINDOW_KEY = "context_window"
"""In the host's `transformer_options`: the window of the present call, whose indices say which
frames its rows are."""


@dataclass(frozen=True)
class Frames:
    """The images of a model call. What belongs to images has one row for all of them or one each,
    or fewer that are repeated over the run's batch: a call with some of the images, as context
    windows make it, gets the rows of those."""

    indices: tuple[int, ...]
    """In the run's batch, in the order of the call's rows."""
    total: int | None
    """Images in the run's batch; None where the host does not tell (0.3.64, in windows)."""

    @classmethod
    def of(cls, images: int, options: Mapping[str, Any]) -> Frames:
        """images: of the call. options: its `transformer_options`."""
        window = _window(options)
        # The host leaves the last window of a step in place: with other rows it is over.
        if window is None or window.dim != 0 or len(window.index_list) != images:
            return cls(tuple(range(images)), images)
        return cls(tuple(window.index_list), getattr(window, "total_frames", None))

    @property
    def are_all(self) -> bool:
        return len(self.indices) == self.total

    def pick(self, rows: Tensor, name: str) -> Tensor:
        """Of rows that belong to the run's images, those of this call. name: for the error when
        they do not go around."""
        count, last = rows.shape[0], max(self.indices)
        if self.are_all:
            return match_batch(rows, len(self.indices), name)
        if self.total is not None:
            check_rows(count, self.total, name)
        elif 1 < count <= last:
            raise ValueError(
                f"`{name}` has {count} images, but Context Windows has come to image {last + 1}, "
                "and this ComfyUI does not say how many there are. Give it 1 image or one for "
                "each frame."
            )
        return self.around(rows)

    def around(self, rows: Tensor) -> Tensor:
        """The rows of these images, however many there are: after the last comes the first."""
        return rows[[index % rows.shape[0] for index in self.indices]]


def check_windows(options: Mapping[str, Any]) -> None:
    """ValueError where context windows cut the picture instead of the batch: what belongs to the
    picture cannot follow."""
    window = _window(options)
    if window is not None and window.dim != 0:
        raise ValueError(
            f"Context Windows is set to dim {window.dim}, which cuts the picture itself, and this "
            "patch would see the wrong part of it. Set dim to 0, the images of the batch; for "
            "parts of a picture use Tiled Restoration."
        )


def _window(options: Mapping[str, Any]) -> IndexListContextWindow | None:
    window = options.get(WINDOW_KEY)
    return window if isinstance(window, IndexListContextWindow) else None
