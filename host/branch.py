"""A control branch with extra attention as one patch of MODEL: the mechanism of PASD and SeeSR.

Around every model call the patch runs the branch, adds its residuals to those of other
ControlNets, and sets the extra blocks after layers of the UNet. All of it belongs to the call: no
state is left in the model, and an interrupt leaves nothing behind.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from comfy import model_management as mm
from comfy.patcher_extension import CallbacksMP, WrappersMP
from torch import Tensor
from torch.nn.functional import interpolate

from ..common.images import from_image
from .areas import AREAS_KEY, tell_areas
from .errors import claiming_wrapper
from .extra_blocks import Block, after
from .masks import blended_by_mask, scaled_by_mask, where_to_act, whole_mask
from .patching import (
    ModelCall,
    SharedByClones,
    announce_memory,
    around_model_calls,
    rows_of_bytes,
    unet_of,
    unique_key,
)
from .sampling import PercentRange, check_schedule, in_range
from .view import PIXELS_PER_CELL, PicturePart, RowLayout, Size, wrong_size

BRANCH_KEY = "diffusion_restoration_branch"
"""In `transformer_options`: {identity of a branch patch: its features}, for attention patches."""

Residuals = Sequence[Tensor]


@dataclass(frozen=True)
class BranchCall:
    """One model call as a branch sees it. Rows are ordered as the host's (see `RowLayout`)."""

    x: Tensor
    """Rows C h w, variance-preserving scale, in the precision the UNet computes in."""
    hint: Tensor
    """Rows C' h w: what `embed` made of the part of the picture that each row shows."""
    timesteps: Tensor
    """Rows, 0..999, float32."""
    context: Tensor
    """Rows N D: text features."""
    y: Tensor | None
    """Rows D': SDXL's size and pooled text features."""
    layout: RowLayout
    options: Mapping[str, Any]
    """The call's `transformer_options`."""
    pixel_masks: Mapping[str, Tensor]
    """Rows 1 H W at picture resolution: the branch's `pixel_masks`, cut to each row's part."""
    mask: Tensor | None
    """Rows 1 h w in 0..1: where the whole patch acts. The mechanism applies it to the residuals
    and to the blocks; features for attention patches are the branch's to weigh."""


@dataclass(frozen=True)
class BranchResult:
    residuals: Residuals
    """One for every input block of the UNet, to add to its skip."""
    middle: Tensor
    """To add after the middle block."""
    blocks: Mapping[str, Block] = field(default_factory=dict)
    """What runs after layers of the UNet (see `extra_blocks.layer_at`)."""
    features: Any = True
    """What the branch's attention patches find through `features_of`."""


class ImageBranch(ABC):
    """What a method brings: its networks with the picture's settings, for one node's execution.

    The object is shared by all clones of the patched model and never changes during a run.
    """

    patchers: Sequence[Any]
    """Model patchers of its networks; the host loads them with the UNet."""
    residuals_per_cell: float
    """Values in all residuals for each cell of the latent, for the memory estimate."""
    pixel_masks: Mapping[str, Tensor] = {}
    """Further masks, B 1 H W of any resolution; resized to the picture by nearest sampling."""

    @abstractmethod
    def embed(self, pixels: Tensor) -> Tensor:
        """Features of (a part of) the picture that do not depend on the timestep: run once a
        picture and tile. pixels: B 3 H W in 0..1, device and precision of the call. Returns
        B C H/8 W/8."""
        ...

    @abstractmethod
    def run(self, call: BranchCall) -> BranchResult:
        """One evaluation of the branch."""
        ...


def features_of(extra_options: Mapping[str, Any], identity: str) -> Any:
    """For attention patches: the branch's features in this call; None while it is off."""
    return extra_options.get(BRANCH_KEY, {}).get(identity)


def merged(
    control: Mapping[str, list[Tensor | None]] | None, residuals: Residuals, middle: Tensor
) -> dict[str, list[Tensor | None]]:
    """What another ControlNet hands to the UNet, plus ours; neither is changed.

    The host takes residuals from the end of its lists, so they are matched from there.
    """
    total = {name: list(values) for name, values in (control or {}).items()}
    for name, ours in (("output", list(residuals)), ("middle", [middle])):
        theirs = total.get(name, [])
        count = max(len(ours), len(theirs))
        padded = ([None] * (count - len(values)) + values for values in (ours, theirs))
        total[name] = [_sum(a, b) for a, b in zip(*padded, strict=True)]
    total.setdefault("input", [])
    return total


def _sum(ours: Tensor | None, theirs: Tensor | None) -> Tensor | None:
    if ours is None or theirs is None:
        return theirs if ours is None else ours
    return ours + theirs.to(ours)


class BranchPatch(SharedByClones):
    """One branch applied to a model: what runs around its calls, and what a run has computed."""

    def __init__(
        self, branch: ImageBranch, pixels: Tensor, percent: PercentRange, mask: Tensor | None
    ) -> None:
        # A new one for each execution: a compiled UNet is chosen by it, and the blocks that one
        # was compiled with are those of one branch only.
        self.identity = unique_key(BRANCH_KEY)
        self.branch, self.pixels, self.percent, self.mask = branch, pixels, percent, mask
        self._embedded: dict[tuple[PicturePart, torch.dtype], Tensor] = {}

    def forget(self, *_: Any) -> None:
        """Drops what was computed for a run."""
        self._embedded.clear()

    @cached_property
    def size(self) -> Size:
        """The size of the picture's latent."""
        return self.pixels.shape[-2] // PIXELS_PER_CELL, self.pixels.shape[-1] // PIXELS_PER_CELL

    @cached_property
    def whole_mask(self) -> Tensor | None:
        """B 1 h w over the picture's latent."""
        return None if self.mask is None else whole_mask(self.mask, self.size)

    @cached_property
    def whole_pixel_masks(self) -> dict[str, Tensor]:
        size = self.pixels.shape[-2:]
        masks = self.branch.pixel_masks.items()
        return {name: interpolate(mask.float().cpu(), size) for name, mask in masks}

    def more_rows(self, model: Any, shape: Sequence[int]) -> int:
        """What the residuals of conditional and unconditional rows take, as rows of the latent."""
        values = 2 * shape[0] * shape[-2] * shape[-1] * self.branch.residuals_per_cell
        return rows_of_bytes(values * mm.dtype_size(model.model_dtype()), model, shape)

    def run(self, executor: Any, call: ModelCall) -> Tensor:
        """One call of the UNet, with the branch where it acts."""
        base = executor.class_obj
        check_schedule(base.model_sampling)
        if not in_range(base.model_sampling, float(call.options["sigmas"][0]), self.percent):
            return call.run(executor)
        layout = RowLayout.of(
            call.x, call.options, call.more.get(AREAS_KEY) or (None,) * call.chunks
        )
        self._check_size(layout)
        mask = None
        if self.whole_mask is not None:
            mask = layout.cut(self.whole_mask, "mask")
            if not mask.any():
                return call.run(executor)
            mask = mask.to(call.x.device, _compute_dtype(base))

        result = self.branch.run(self._branch_call(base, call, layout, mask))
        control = merged(
            call.control,
            [scaled_by_mask(residual, mask) for residual in result.residuals],
            scaled_by_mask(result.middle, mask),
        )
        blocks = {site: _masked(block, mask) for site, block in result.blocks.items()}
        # A compiled UNet is reused by what it can see, and it cannot see hooks: the key of our own
        # tells calls with them from calls without.
        known = {**call.options.get(BRANCH_KEY, {}), self.identity: result.features}
        call = replace(call, control=control).with_options({BRANCH_KEY: known, self.identity: True})
        # The UNet drops every residual once it is added: nothing here may keep them alive.
        del result, control
        with after(unet_of(base), blocks):
            return call.run(executor)

    def _branch_call(
        self, base: Any, call: ModelCall, layout: RowLayout, mask: Tensor | None
    ) -> BranchCall:
        device, dtype = call.x.device, _compute_dtype(base)
        x = base.model_sampling.calculate_input(call.t, call.x).to(dtype)
        y = call.more.get("y")
        return BranchCall(
            x=x,
            hint=layout.rows(lambda part: self._embed(part, layout, x), "image").to(device),
            timesteps=base.model_sampling.timestep(call.t).float(),
            context=call.c_crossattn.to(device, dtype),
            y=None if y is None else y.to(device, dtype),
            layout=layout,
            options=call.options,
            pixel_masks={
                name: layout.cut(whole, name, PIXELS_PER_CELL).to(device)
                for name, whole in self.whole_pixel_masks.items()
            },
            mask=mask,
        )

    def _embed(self, part: PicturePart, layout: RowLayout, x: Tensor) -> Tensor:
        """The features of a part of all pictures, computed at its first call, as many at once as
        the call has images. Those of tiles wait in the CPU's memory: together they are many times
        the latent. x: gives device and precision."""
        key = (part, x.dtype)
        if key not in self._embedded:
            features = []
            for pixels in part.crop(self.pixels, PIXELS_PER_CELL).split(len(layout.frames.indices)):
                mm.throw_exception_if_processing_interrupted()
                found = self.branch.embed(pixels.to(x))
                features.append(found if part.tile is None else found.to("cpu"))
            self._embedded[key] = torch.cat(features)
        return self._embedded[key]

    def _check_size(self, layout: RowLayout) -> None:
        full = layout.full_size
        if full is not None and full != self.size:
            height, width = self.size
            raise wrong_size(
                f"The image of the restoration patch belongs to a latent of {width}x{height} "
                "cells (width x height)",
                full,
                "Connect the very picture that is sampled, "
                f"{PIXELS_PER_CELL * full[1]}x{PIXELS_PER_CELL * full[0]} pixels "
                "(Prepare Restoration, then VAE Encode for the latent)",
            )


def _compute_dtype(base_model: Any) -> torch.dtype:
    """The precision that the host's UNet computes in."""
    return base_model.manual_cast_dtype or base_model.get_dtype()


def _masked(block: Block, mask: Tensor | None) -> Block:
    """The block where the mask is one, its input where it is zero, both exactly."""
    if mask is None:
        return block

    return lambda h: blended_by_mask(h, block(h), mask)


def whole_cells(image: Tensor) -> Tensor:
    """B 3 H W of an IMAGE, its border cut to whole latent cells as the host's VAE cuts it."""
    pixels, _ = from_image(image)
    height, width = pixels.shape[-2:]
    if min(height, width) < PIXELS_PER_CELL:
        raise ValueError(
            f"`image` is {width}x{height} pixels; it needs at least {PIXELS_PER_CELL} a side, one latent "
            "cell. Connect the picture from Prepare Restoration."
        )
    for axis in (-2, -1):
        side = pixels.shape[axis] // PIXELS_PER_CELL * PIXELS_PER_CELL
        pixels = pixels.narrow(axis, (pixels.shape[axis] - side) // 2, side)
    return pixels


def apply_branch(
    model: Any,
    branch: ImageBranch,
    image: Tensor,
    start_percent: float,
    end_percent: float,
    mask: Tensor | None = None,
) -> tuple[Any, str]:
    """A clone of MODEL that runs the branch with every call between the two parts of the run.

    image: B H W C in 0..1, 8 times the latent's size (a rest of up to 7 pixels is cut from its
    border, as the host's VAE does). mask: B H W in 0..1, any resolution; None or ones: everywhere.
    Returns the clone and the patch's identity, by which attention patches find its features.
    ValueError for a noise schedule that `training_table` does not read.
    """
    check_schedule(model.get_model_object("model_sampling"))
    percent = (start_percent, end_percent)
    patch = BranchPatch(branch, whole_cells(image), percent, where_to_act(mask))
    patched, key = model.clone(), patch.identity
    patched.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, key, claiming_wrapper(tell_areas))
    announce_memory(patched, key, patch.more_rows)
    around_model_calls(patched, key, patch.run)
    patched.add_callback_with_key(CallbacksMP.ON_CLEANUP, key, patch.forget)
    patched.set_additional_models(key, list(branch.patchers))
    return patched, key
