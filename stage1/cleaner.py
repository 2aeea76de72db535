"""A stage 1 as part of a larger network: pictures of one size in, the same pictures cleaned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from .restorer import BUNDLED_PADDING, load_bundled, unclamped

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor


class Cleaner(nn.Module):
    """Padded as its authors do, not clamped, untiled."""

    def __init__(self, descriptor: ImageModelDescriptor | None = None) -> None:
        """descriptor: of a network that keeps the size of a picture; None: the bundled one. Raises
        ValueError for one that enlarges."""
        super().__init__()
        padding = None
        if descriptor is None:
            descriptor, padding = load_bundled(), BUNDLED_PADDING
        if descriptor.scale != 1:
            raise ValueError(
                f"a {descriptor.architecture.name} that enlarges by {descriptor.scale}, and a "
                "cleaner keeps the size of a picture, such as DiffBIR's SwinIR"
            )
        self.network = descriptor.model
        self._run = unclamped(descriptor, padding)

    def forward(self, pixels: Tensor) -> Tensor:
        """B 3 H W in 0..1 -> the same size, float32."""
        return self._run(pixels.to(next(self.network.parameters()).dtype)).float()
