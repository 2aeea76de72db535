"""Masks of the picture at the resolutions of a network's layers.

Every mask says where something acts, and how strongly: 1 fully, 0 not at all. They shrink by area
averages, which keep ones at exactly one and zeros at exactly zero: a white mask is then no mask,
and a black one no patch, bit for bit.
"""

from __future__ import annotations

import logging

from torch import Tensor, lerp
from torch.nn.functional import interpolate

from ..common.images import from_mask
from .errors import running_node
from .view import Size

log = logging.getLogger(__name__)


def where_to_act(mask: object | None) -> Tensor | None:
    """The `mask` of a node, B H W, after checking it; None: everywhere. A node that a black mask
    leaves nothing to do says so in the log, because its picture does not."""
    if mask is None:
        return None
    painted = from_mask(mask)
    if not painted.any():
        log.warning(
            "%s: `mask` is black everywhere, so this node does nothing. Paint white where it should "
            "act, or take the mask away and it acts everywhere.",
            running_node(),
        )
    return painted


def averaged(mask: Tensor, size: Size) -> Tensor:
    """B 1 H W -> B 1 h w."""
    return interpolate(mask, size, mode="area")


def whole_mask(mask: Tensor, size: Size) -> Tensor:
    """B H W of any resolution -> B 1 h w over the whole latent, float32, on the CPU, where asking
    for zeros costs nothing."""
    return averaged(mask.float().cpu().reshape(-1, 1, *mask.shape[-2:]), size)


def scaled_by_mask(value: Tensor, mask: Tensor | None) -> Tensor:
    """value (rows C h w) times the mask (rows 1 H W; None: ones)."""
    return value if mask is None else value * averaged(mask, size_of(value))


def blended_by_mask(before: Tensor, after: Tensor, mask: Tensor) -> Tensor:
    """`after` (rows C h w) where the mask (rows 1 H W) is one, `before` where it is zero, both
    exactly."""
    return lerp(before, after, averaged(mask, size_of(before)).to(before))


def size_of(value: Tensor) -> Size:
    """Height and width of ... H W."""
    return value.shape[-2], value.shape[-1]
