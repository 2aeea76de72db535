"""DiffBIR's control branch as a ControlNet of the host.

It travels as CONTROL_NET in CONDITIONING like every other one: chained, scheduled and loaded by
the host. What differs: the hint is a latent of exactly the picture's size, never squeezed, cropped
by tile and by area, and it may be masked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import comfy.controlnet
import comfy.latent_formats
import comfy.ops
import comfy.sample
import comfy.utils
import torch
from comfy import model_management as mm
from comfy.controlnet import ControlBase
from torch import Tensor

from ..common.diffusion import q_sample
from ..common.latents import from_latent
from ..common.resample import resize
from ..common.schedule import signal
from ..host.areas import AREAS_KEY, AreaCond, Conditioning
from ..host.errors import claiming, running_node
from ..host.masks import averaged, size_of, where_to_act, whole_mask
from ..host.sampling import check_schedule, training_table
from ..host.view import PIXELS_PER_CELL, RowLayout, Size, wrong_size
from .networks import DiffBIRControlNet

log = logging.getLogger(__name__)

Control = dict[str, list[Tensor]]


class DiffBIRControl(comfy.controlnet.ControlNet):
    """What travels as CONTROL_NET. Two kinds of hint, with the same result:

    an IMAGE and a VAE from core's Apply ControlNet (`latent_format` is set, the picture is encoded
    at the first step), or a latent in the model's scale (`set_latent_hint` clears it).
    """

    control_model: DiffBIRControlNet
    latent_format: comfy.latent_formats.LatentFormat | None
    cond_hint_original: Tensor | None
    cond_hint: Tensor | None
    """Only foreign tilers set this: their own part of the hint, one row for each row of x."""
    knows_tiles = True
    """For our tiler: it crops by `TILES_KEY`, nothing needs to be cut for it."""
    share_per_call = 1.0
    """Part of the latent in one model call; the tiler sets it while memory is reserved."""

    def __init__(
        self,
        control_model: DiffBIRControlNet | None,
        load_device: torch.device | None,
        manual_cast_dtype: torch.dtype | None,
    ) -> None:
        super().__init__(
            control_model,
            compression_ratio=1,  # of a latent hint; foreign tilers cut it by this
            latent_format=comfy.latent_formats.SD15(),
            load_device=load_device,
            manual_cast_dtype=manual_cast_dtype,
            extra_conds=[],
        )
        self.mask: Tensor | None = None
        self.noise_level = 0
        self.noise: Tensor | None = None
        self.node = ""
        """Display name of the node that gave the hint."""
        self._forget()

    def _forget(self) -> None:
        self._hint: Tensor | None = None
        self._mask: Tensor | None = None

    def set_latent_hint(
        self,
        latent: Tensor,
        strength: float = 1.0,
        percent_range: tuple[float, float] = (0.0, 1.0),
        mask: Tensor | None = None,
        noise_level: int = 0,
        noise: Tensor | None = None,
    ) -> DiffBIRControl:
        """latent: B C h w as a LATENT socket carries it. mask: B H W in 0..1, any resolution.
        noise_level: timestep (0: none) to which `noise`, of the latent's shape, is added once the
        run's own noise schedule is known."""
        scaled = comfy.latent_formats.SD15().process_in(latent.float())
        self.latent_format = None
        self.set_cond_hint(scaled, strength, percent_range)
        self.mask, self.noise_level, self.noise = mask, noise_level, noise
        self.node = running_node()
        return self

    def copy(self) -> DiffBIRControl:
        other = DiffBIRControl(None, self.load_device, self.manual_cast_dtype)
        other.control_model = self.control_model
        other.control_model_wrapped = self.control_model_wrapped
        self.copy_to(other)
        other.mask, other.noise_level, other.noise = self.mask, self.noise_level, self.noise
        other.node = self.node
        return other

    def pre_run(self, model: Any, percent_to_timestep_function: Any) -> None:
        claiming(check_schedule, self.node)(model.model_sampling)
        # A run that was interrupted never came to its cleanup.
        self.cond_hint = None
        self._forget()
        super().pre_run(model, percent_to_timestep_function)

    def cleanup(self) -> None:
        self._forget()
        super().cleanup()

    def inference_memory_requirements(self, dtype: torch.dtype) -> float:
        """The residuals of conditional and unconditional rows: they live while the UNet runs. The
        branch's own activations are gone by then, and smaller than the UNet's."""
        previous = super().inference_memory_requirements(dtype)
        if self.cond_hint_original is None:
            return previous
        rows, _, height, width = self.cond_hint_original.shape
        cells = height * width / (1 if self.latent_format is None else PIXELS_PER_CELL**2)
        values = 2 * rows * cells * self.control_model.residuals_per_cell()
        return previous + self.share_per_call * values * mm.dtype_size(dtype)

    def get_control(
        self,
        x_noisy: Tensor,
        t: Tensor,
        cond: dict[str, Any],
        batched_number: int,
        transformer_options: dict[str, Any],
    ) -> Control | None:
        previous = None
        if self.previous_controlnet is not None:
            previous = self.previous_controlnet.get_control(
                x_noisy, t, cond, batched_number, transformer_options
            )
        if self.timestep_range is not None:
            first, last = self.timestep_range
            if t[0] > first or t[0] < last:
                return previous
        own = claiming(self._own_control, self.node)(
            x_noisy, t, cond, batched_number, transformer_options
        )
        return previous if own is None else self.control_merge(own, previous, output_dtype=None)

    def _own_control(
        self,
        x_noisy: Tensor,
        t: Tensor,
        cond: dict[str, Any],
        batched_number: int,
        transformer_options: dict[str, Any],
    ) -> Control | None:
        """The residuals of one call; None where the mask leaves nothing of them."""
        areas = cond.get(AREAS_KEY, (None,) * batched_number)
        layout = RowLayout.of(x_noisy, transformer_options, areas)
        mask = None
        hint = self._foreign_part(x_noisy, layout)
        if hint is None:
            whole = self._whole_hint(x_noisy.device, layout)
            hint = layout.cut(whole, "the condition latent")
            if size_of(hint) != size_of(x_noisy):
                raise _wrong_size(whole, size_of(x_noisy))
            if self.mask is not None:
                if self._mask is None:
                    self._mask = whole_mask(self.mask, size_of(whole))
                mask = layout.cut(self._mask, "the mask")
                if not mask.any():
                    return None

        dtype = self.manual_cast_dtype or self.control_model.dtype
        context = cond.get("crossattn_controlnet", cond["c_crossattn"])
        self._check_text(context)
        sampling = self.model_sampling_current
        x = sampling.calculate_input(t, x_noisy).to(dtype)
        residuals, middle = self.control_model(
            x=torch.cat([x, hint.to(x)], 1),
            timesteps=sampling.timestep(t).float(),
            context=mm.cast_to_device(context, x_noisy.device, dtype),
            options=transformer_options,
        )
        control = {"output": residuals, "middle": [middle]}
        if mask is not None:
            mask = mask.to(x_noisy.device, dtype)
            for residuals in control.values():
                for residual in residuals:
                    residual *= averaged(mask, size_of(residual))
        return control

    def _foreign_part(self, x: Tensor, layout: RowLayout) -> Tensor | None:
        """The part of the hint that another pack's tiler has put in place for this call."""
        hint = self.cond_hint
        if hint is None or layout.tiles:
            return None
        if (hint.shape[0], *hint.shape[-2:]) != (x.shape[0], *x.shape[-2:]):
            return None
        if self.mask is not None or self.noise_level:
            raise ValueError(
                "Another pack's tiled sampling cuts the DiffBIR condition itself and cannot cut "
                "its mask or its noise augmentation. Use Tiled Restoration, or remove the mask "
                "and set noise_aug to 0."
            )
        return hint

    def _whole_hint(self, device: torch.device, layout: RowLayout) -> Tensor:
        """B C H W for the whole picture, in the model's scale."""
        full = layout.full_size
        if self._hint is None:
            hint = self.cond_hint_original
            assert hint is not None, "a control without a hint was attached"
            if self.latent_format is not None:
                hint = self.latent_format.process_in(self._encoded(hint[:, :3], full))
            if self.noise_level:
                assert self.noise is not None
                alpha_bar = signal(training_table(self.model_sampling_current), self.noise_level)
                hint = q_sample(hint, self.noise.to(hint), alpha_bar)
            self._hint = hint.to(device)
        if full is not None and size_of(self._hint) != full:
            raise _wrong_size(self._hint, full)
        return self._hint

    def _encoded(self, pixels: Tensor, full: Size | None) -> Tensor:
        """The latent of core's Apply ControlNet's picture (B 3 H W in 0..1), unscaled."""
        if self.vae is None:
            raise ValueError(
                "The DiffBIR control works on a latent: connect a VAE to Apply ControlNet, or use "
                "Apply LA Control with the latent of the picture (VAE Encode)."
            )
        cell = self.vae.spacial_compression_encode()
        height, width = pixels.shape[-2:]
        if full is not None and (height // cell, width // cell) != full:
            target = (full[0] * cell, full[1] * cell)
            # Less than one cell of distortion: else it is another picture or another crop.
            stretch = (height * target[1] / width, width * target[0] / height)
            if any(abs(a - b) >= cell for a, b in zip(stretch, target, strict=True)):
                raise ValueError(
                    f"The picture for the DiffBIR control is {width}x{height} (width x height), "
                    f"the latent belongs to one of {target[1]}x{target[0]}: the proportions "
                    "differ, and squeezing it would show the wrong picture. Use the picture that "
                    "the latent was made from."
                )
            pixels = resize(pixels, *target)
        # Encoding may push the networks of this run off the device.
        loaded = mm.loaded_models(only_currently_used=True)
        latent = self.vae.encode(pixels.movedim(1, -1))
        mm.load_models_gpu(loaded)
        return latent

    def _check_text(self, context: Tensor) -> None:
        wanted = self.control_model.config.context_dim
        if context.shape[-1] != wanted:
            raise ValueError(
                f"The text features are {context.shape[-1]} wide, the DiffBIR control needs "
                f"{wanted}: it belongs to Stable Diffusion 2.1. Load an SD 2.1 checkpoint "
                "(v2-1_512-ema-pruned, or DiffBIR's own base for v2.1) with its CLIP."
            )


def _wrong_size(hint: Tensor, size: Size) -> ValueError:
    height, width = size_of(hint)
    return wrong_size(
        f"The condition latent of the DiffBIR control is {width}x{height} (width x height, in "
        "latent cells)",
        size,
        "Connect the latent of the very picture that is sampled (Prepare Restoration, then VAE "
        "Encode)",
    )


def apply_latent_control(
    positive: Conditioning,
    negative: Conditioning,
    control_net: object,
    latent: dict[str, Any],
    strength: float,
    start_percent: float,
    end_percent: float,
    mask: Tensor | None = None,
    noise_aug: int = 0,
    noise_aug_seed: int = 0,
) -> tuple[Conditioning, Conditioning]:
    """Both conditionings, controlled by a latent (what Apply ControlNet does with a picture)."""
    if not isinstance(control_net, DiffBIRControl):
        raise ValueError(
            f"`control_net` is a {type(control_net).__name__}, not the DiffBIR control network. "
            "Connect Load DiffBIR ControlNet; for other ControlNets use Apply ControlNet."
        )
    if strength == 0:
        return positive, negative
    samples = from_latent(latent, channels=control_net.control_model.config.hint_channels)
    mask = where_to_act(mask)
    if not samples.any():
        log.warning(
            "Apply LA Control got an empty latent, so the control sees no picture. Connect VAE "
            "Encode of the photo; Empty Latent Image belongs to the sampler."
        )
    noise = None
    if noise_aug:
        noise = comfy.sample.prepare_noise(samples, noise_aug_seed, latent.get("batch_index"))

    def make() -> DiffBIRControl:
        return control_net.copy().set_latent_hint(
            samples, strength, (start_percent, end_percent), mask, noise_aug, noise
        )

    positive, negative = attach_control([positive, negative], make)
    return positive, negative


def attach_control(
    conditionings: list[Conditioning], make: Callable[[], ControlBase]
) -> list[Conditioning]:
    """Copies of the conditionings with a control behind whatever control each entry has.

    Entries with the same chain share one object: only then does the host run conditional and
    unconditional rows as one batch.
    """
    made: dict[ControlBase | None, ControlBase] = {}

    def controlled(options: dict[str, Any]) -> dict[str, Any]:
        previous = options.get("control")
        if previous not in made:
            made[previous] = make().set_previous_controlnet(previous)
        return {
            **options,
            "control": made[previous],
            "control_apply_to_uncond": False,
            "model_conds": {**options.get("model_conds", {}), AREAS_KEY: AreaCond()},
        }

    return [
        [[text, controlled(options)] for text, options in conditioning]
        for conditioning in conditionings
    ]
