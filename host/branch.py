"""A control branch with extra attention as one patch of MODEL: the mechanism of PASD and SeeSR.

Around every model call the patch runs the branch, adds its residuals to those of other
ControlNets, and sets the extra blocks after layers of the UNet. All of it belongs to the call: no
state is left in the model, and an interrupt leaves nothing behind.
"""

from __future__ import annotations

import math
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from comfy import model_management as mm
from comfy.patcher_extension import CallbacksMP, WrappersMP
from torch import Tensor
from torch.nn.functional import interpolate

from ..common.images import from_image, from_mask
from .areas import AREAS_KEY, AreaCond
from .extra_blocks import Block, after
from .sampling import PercentRange, in_range
from .view import Area, Place, View

KEY = "diffusion_restoration_branch"
"""In `transformer_options`: {identity of a branch patch: its features}, for attention patches."""

PIXELS = 8
"""Pixels a latent cell, along one axis."""

Residuals = Sequence[Tensor]


@dataclass(frozen=True)
class BranchCall:
    """One model call as a branch sees it. Rows are ordered as the host's (see `View`)."""

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
    view: View
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
    return extra_options.get(KEY, {}).get(identity)


def scaled_by_mask(value: Tensor, mask: Tensor | None) -> Tensor:
    """value (rows C h w) times the mask (rows 1 H W). Area averages keep ones at exactly one, at
    every resolution."""
    if mask is None:
        return value
    return value * interpolate(mask, value.shape[-2:], mode="area")


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


class _Patch:
    """The wrappers of one applied branch."""

    def __init__(
        self, branch: ImageBranch, pixels: Tensor, percent: PercentRange, mask: Tensor | None
    ) -> None:
        # A new one for each execution: a compiled UNet is chosen by it, and the blocks that one
        # was compiled with are those of one branch only.
        self.identity = uuid.uuid4().hex
        self.branch, self.pixels, self.percent, self.mask = branch, pixels, percent, mask
        self._embedded: dict[tuple[Place, torch.dtype], Tensor] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> _Patch:
        return self  # the oldest host deep-copies what a model carries with every clone

    def forget(self, *_: Any) -> None:
        """Drops what was computed for a run."""
        self._embedded.clear()

    @cached_property
    def size(self) -> tuple[int, int]:
        """Of the picture's latent."""
        return self.pixels.shape[-2] // PIXELS, self.pixels.shape[-1] // PIXELS

    @cached_property
    def whole_mask(self) -> Tensor | None:
        """B 1 h w over the picture's latent, on the CPU, where asking for zeros costs nothing."""
        if self.mask is None:
            return None
        mask = self.mask.float().cpu().reshape(-1, 1, *self.mask.shape[-2:])
        return interpolate(mask, self.size, mode="area")

    @cached_property
    def whole_pixel_masks(self) -> dict[str, Tensor]:
        size = self.pixels.shape[-2:]
        masks = self.branch.pixel_masks.items()
        return {name: interpolate(mask.float().cpu(), size) for name, mask in masks}

    def tell_areas(
        self,
        executor: Callable[..., list[Tensor]],
        model: Any,
        conds: list[list[dict[str, Any]] | None],
        *args: Any,
        **kwargs: Any,
    ) -> list[Tensor]:
        """CALC_COND_BATCH: from here on the host hands every entry's area to the model call."""

        def told(cond: dict[str, Any]) -> dict[str, Any]:
            return {**cond, "model_conds": {**cond["model_conds"], AREAS_KEY: AreaCond()}}

        conds = [cond and [told(entry) for entry in cond] for cond in conds]
        return executor(model, conds, *args, **kwargs)

    def reserve(
        self, executor: Callable[..., Any], model: Any, shape: Sequence[int], *args: Any, **kw: Any
    ) -> Any:
        """PREPARE_SAMPLING: the host counts the weights of additional models, not their work. It
        takes its estimate from the latent's rows, so more rows announce more memory."""
        rows, *rest = shape
        cells = rest[-2] * rest[-1]
        values = 2 * rows * cells * self.branch.residuals_per_cell
        needed = values * mm.dtype_size(model.model_dtype())
        # The host reserves for conditional and unconditional rows.
        per_row = model.model.memory_required([2, *rest])
        return executor(model, [rows + math.ceil(needed / per_row), *rest], *args, **kw)

    def apply_model(
        self,
        executor: Any,
        x: Tensor,
        t: Tensor,
        c_concat: Tensor | None = None,
        c_crossattn: Tensor | None = None,
        control: Any = None,
        transformer_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """APPLY_MODEL: one call of the UNet, with the branch where it acts."""
        base, options = executor.class_obj, transformer_options or {}

        def without() -> Tensor:
            return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)

        if not in_range(base.model_sampling, float(options["sigmas"][0]), self.percent):
            return without()
        areas: Sequence[Area | None] = kwargs.get(AREAS_KEY) or [None] * len(
            options["cond_or_uncond"]
        )
        view = View.of(x, options, areas)
        self._check_size(x, view)
        mask = self.whole_mask
        if mask is not None:
            whole = mask
            mask = view.rows(lambda place: place.crop(whole), "mask")
            if not mask.any():
                return without()

        dtype = base.manual_cast_dtype or base.get_dtype()

        def cast(value: Tensor | None) -> Tensor | None:
            return None if value is None else value.to(x.device, dtype)

        mask = cast(mask)
        call = BranchCall(
            x=base.model_sampling.calculate_input(t, x).to(dtype),
            hint=view.rows(lambda place: self._embed(place, x.device, dtype), "image"),
            timesteps=base.model_sampling.timestep(t).float(),
            context=cast(c_crossattn),  # type: ignore[arg-type]
            y=cast(kwargs.get("y")),
            view=view,
            options=options,
            pixel_masks={
                name: view.rows(lambda place, m=m: place.crop(m, PIXELS), name).to(x.device)
                for name, m in self.whole_pixel_masks.items()
            },
            mask=mask,
        )
        result = self.branch.run(call)
        total = merged(
            control,
            [scaled_by_mask(residual, mask) for residual in result.residuals],
            scaled_by_mask(result.middle, mask),
        )
        # A compiled UNet is reused by what it can see, and it cannot see hooks: the key of our own
        # tells calls with them from calls without.
        options = {
            **options,
            KEY: {**options.get(KEY, {}), self.identity: result.features},
            f"{KEY}.{self.identity}": True,
        }
        unet = getattr(base.diffusion_model, "_orig_mod", base.diffusion_model)
        blocks = {site: _masked(block, mask) for site, block in result.blocks.items()}
        # The UNet drops every residual once it is added: nothing here may keep them alive.
        del call, result
        with after(unet, blocks):
            return executor(x, t, c_concat, c_crossattn, total, options, **kwargs)

    def _embed(self, place: Place, device: torch.device, dtype: torch.dtype) -> Tensor:
        """The features of a part of the picture, computed at its first call. Those of tiles wait
        in the CPU's memory: together they are many times the latent."""
        key = (place, dtype)
        if key not in self._embedded:
            mm.throw_exception_if_processing_interrupted()
            pixels = place.crop(self.pixels, PIXELS).to(device, dtype)
            features = self.branch.embed(pixels)
            self._embedded[key] = features if place.tile is None else features.to("cpu")
        return self._embedded[key].to(device)

    def _check_size(self, x: Tensor, view: View) -> None:
        full = view.full_size
        if full is None and not any(view.areas):
            full = (x.shape[-2], x.shape[-1])
        if full is not None and full != self.size:
            height, width = self.size
            raise ValueError(
                f"The image of the restoration patch belongs to a latent of {width}x{height} "
                f"cells (width x height), but the model works on {full[1]}x{full[0]}. Connect the "
                f"very picture that is sampled, {PIXELS * full[1]}x{PIXELS * full[0]} pixels "
                "(Prepare Restoration, then VAE Encode for the latent), and for tiled sampling use "
                "Tiled Restoration: other packs' tilers do not say which part they show."
            )


def _masked(block: Block, mask: Tensor | None) -> Block:
    """The block where the mask is one, its input where it is zero, both exactly."""
    if mask is None:
        return block

    def masked(h: Tensor) -> Tensor:
        return torch.lerp(h, block(h), interpolate(mask, h.shape[-2:], mode="area").to(h))

    return masked


def whole_cells(image: Tensor) -> Tensor:
    """B 3 H W of an IMAGE, its border cut to whole latent cells as the host's VAE cuts it."""
    pixels, _ = from_image(image)
    height, width = pixels.shape[-2:]
    if min(height, width) < PIXELS:
        raise ValueError(
            f"`image` is {width}x{height} pixels; it needs at least {PIXELS} a side, one latent "
            "cell. Connect the picture from Prepare Restoration."
        )
    for axis in (-2, -1):
        side = pixels.shape[axis] // PIXELS * PIXELS
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
    """
    mask = None if mask is None else from_mask(mask)
    patch = _Patch(branch, whole_cells(image), (start_percent, end_percent), mask)
    patched = model.clone()
    key = f"{KEY}.{patch.identity}"
    patched.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, key, patch.tell_areas)
    patched.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, key, patch.reserve)
    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, key, patch.apply_model)
    patched.add_callback_with_key(CallbacksMP.ON_CLEANUP, key, patch.forget)
    patched.set_additional_models(key, list(branch.patchers))
    return patched, patch.identity
