"""Guidance as MODEL patches: classifier-free guidance over a part of the run, and DiffBIR's
restoration guidance of the predicted x0."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from comfy import model_management as mm
from comfy.patcher_extension import CallbacksMP, WrappersMP
from torch import Tensor
from torch.nn.functional import interpolate

from ..common.images import match_batch
from ..common.schedule import growing_cfg, unrounded
from ..diffbir.guidance import (
    LatentLoss,
    RgbLoss,
    edge_weights,
    guide_rgb,
    latent_mse_weight,
    mean_coef,
)
from .sampling import PercentRange, check_prediction, in_range

KEY = "diffusion_restoration_guidance"

BACKWARD_MEMORY = 4
"""Memory of a decode with its backward pass, in units of the host's estimate of a decode: the
tensors kept for the backward pass alone are 2.6 (counted for Stable Diffusion's decoder)."""

Args = dict[str, Any]
"""What the host hands to a pre- or post-CFG function."""


def guide_only(patched: Any, percent: PercentRange, growing: bool) -> None:
    """Patches a clone: CFG only inside `percent`; outside it is 1 and the unconditional branch is
    not run at all. growing: the scale follows DiffBIR's `rescale_cfg`.

    Both work by moving the unconditional prediction, before the guider combines the two: so they
    go with every CFG formula and every post-CFG patch, in any order of nodes.
    """

    def outside(model: Any, sigma: Tensor) -> bool:
        return not in_range(model.model_sampling, float(sigma.flatten()[0]), percent)

    def calc_cond_batch(
        executor: Callable[..., list[Tensor]],
        model: Any,
        conds: list[Any],
        x: Tensor,
        sigma: Tensor,
        model_options: Args,
    ) -> list[Tensor]:
        # Guiders with three branches order them as they like; theirs all run.
        if len(conds) == 2 and outside(model, sigma):
            conds = [conds[0], None]
        return executor(model, conds, x, sigma, model_options)

    def pre_cfg(args: Args) -> list[Tensor]:
        conds, scale = args["conds"], args["cond_scale"]
        out = list(args["conds_out"])
        if len(out) != 2 or conds[1] is None:
            return out
        cond, uncond = out
        model_sampling = args["model"].model_sampling
        if outside(args["model"], args["sigma"]):
            out[1] = cond.clone()
        elif growing and scale > 1:
            # uncond + w (cond - uncond), for a guider that will use `scale` instead of w.
            timestep = float(model_sampling.timestep(args["sigma"].flatten()[:1])[0])
            share = (growing_cfg(scale, timestep) - 1) / (scale - 1)
            out[1] = torch.lerp(cond, uncond, share)
        return out

    patched.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, KEY, calc_cond_batch)
    patched.set_model_sampler_pre_cfg_function(pre_cfg)


def next_sigma(sample_sigmas: Tensor, sigma: float) -> float:
    """The next lower noise level of the run: also right between two of them, where samplers of
    second order call the model."""
    lower = sample_sigmas[sample_sigmas < sigma * (1 - 1e-6)]
    return float(lower.max()) if len(lower) else 0.0


class RestorationGuidance(ABC):
    """Post-CFG function that moves x0 toward a target over a part of the run."""

    def __init__(
        self, scale: float, repeat: int, percent: PercentRange, mask: Tensor | None
    ) -> None:
        self.scale, self.repeat, self.percent = scale, repeat, percent
        self.mask = mask if mask is None or mask.ndim == 3 else mask.reshape(-1, *mask.shape[-2:])

    def __deepcopy__(self, memo: dict[int, Any]) -> RestorationGuidance:
        # The oldest host deep-copies patches with every clone of the model.
        return self

    def __call__(self, args: Args) -> Tensor:
        x0, model = args["denoised"], args["model"]
        check_prediction(model.model_sampling)
        sigma = float(args["sigma"].flatten()[0])
        if not in_range(model.model_sampling, sigma, self.percent):
            return x0
        sigmas = args["model_options"].get("transformer_options", {}).get("sample_sigmas")
        following = 0.0 if sigmas is None else next_sigma(sigmas, sigma)
        coef = mean_coef(unrounded(sigma), unrounded(following))
        return self.guide(x0, coef, model)

    @abstractmethod
    def guide(self, x0: Tensor, coef: float, model: Any) -> Tensor:
        """x0 after the guidance of one step, B C h w in the model's latent scale. coef: see
        `mean_coef`."""
        ...

    def where(self, x0: Tensor) -> Tensor | float:
        """The mask at the size of x0, B 1 h w; 1 without one."""
        if self.mask is None:
            return 1.0
        mask = match_batch(self.mask[:, None].to(x0), x0.shape[0], "mask")
        return interpolate(mask, x0.shape[-2:], mode="area")


class LatentGuidance(RestorationGuidance):
    """Mean squared error to a latent, in closed form: one multiplication and addition."""

    def __init__(self, target: Tensor, loss: LatentLoss, *settings: Any) -> None:
        """target: B C h w in the model's latent scale. settings: as RestorationGuidance."""
        super().__init__(*settings)
        self.target = target
        self.loss: LatentLoss = loss

    def guide(self, x0: Tensor, coef: float, model: Any) -> Tensor:
        if self.target.shape[1:] != x0.shape[1:]:
            raise ValueError(
                f"The guidance latent has the shape {tuple(self.target.shape[1:])}, the picture "
                f"being sampled {tuple(x0.shape[1:])}. Encode the prepared picture that is "
                "restored, at the same size."
            )
        target = match_batch(self.target.to(x0), x0.shape[0], "latent")
        elements = x0[0].numel()
        weight = latent_mse_weight(self.scale, elements, coef, self.repeat, self.loss)
        return torch.lerp(x0, target, torch.as_tensor(weight * self.where(x0)).to(x0))


class RgbGuidance(RestorationGuidance):
    """(Weighted) mean squared error to a picture, through the VAE's decoder.

    A decode and its backward pass for every repeat, step and image. The copy of the decoder that
    this needs lives for one run.
    """

    def __init__(self, target: Tensor, vae: Any, loss: RgbLoss, *settings: Any) -> None:
        """target: B 3 H W in -1..1. settings: as RestorationGuidance."""
        super().__init__(*settings)
        self.target, self.vae = target, vae
        self.weights = edge_weights(target) if loss == "rgb_weighted_mse" else None
        self._decoder: Any = None

    def memory_required(self, height: int, width: int) -> float:
        """Bytes for one image of height x width latent cells, one image being in work at a time."""
        weights = sum(w.numel() for w in self.vae.first_stage_model.parameters())
        decode = self.vae.memory_used_decode((1, 4, height, width), torch.float32)
        return BACKWARD_MEMORY * decode + weights * torch.float32.itemsize

    def release(self, patcher: Any = None) -> None:
        """Forgets what belongs to a run."""
        self._decoder = None

    def guide(self, x0: Tensor, coef: float, model: Any) -> Tensor:
        if self._decoder is None:
            self._decoder = private_decoder(self.vae.first_stage_model, x0.device)
        decoder = self._decoder

        def decode(latent: Tensor) -> Tensor:
            mm.throw_exception_if_processing_interrupted()
            pixels = decoder.decode(model.process_latent_out(latent))
            if pixels.shape[1:] != self.target.shape[1:]:
                found, expected = self.target.shape[-2:], pixels.shape[-2:]
                raise ValueError(
                    f"The guidance image is {found[1]}x{found[0]}, the picture being sampled "
                    f"{expected[1]}x{expected[0]}. Use the prepared picture that is restored."
                )
            return pixels

        targets = match_batch(self.target, x0.shape[0], "image").to(x0)
        weights = self.weights
        if weights is not None:
            weights = match_batch(weights, x0.shape[0], "image").to(x0)
        # One image at a time: the backward pass holds all of the decoder's activations.
        guided = [
            guide_rgb(
                row,
                decode,
                targets[i : i + 1],
                self.scale,
                coef,
                self.repeat,
                None if weights is None else weights[i : i + 1],
            )
            for i, row in enumerate(x0.float().split(1))
        ]
        return torch.lerp(x0, torch.cat(guided).to(x0), torch.as_tensor(self.where(x0)).to(x0))


def private_decoder(first_stage: Any, device: torch.device) -> Any:
    """A float32 copy of a VAE without its encoder, on `device`, that gradients can pass through.

    The host's own weights cannot serve: nodes load them in inference mode, often in half
    precision, and dynamic memory management may swap them out behind a module's back.
    """
    memo: dict[int, Any] = {id(getattr(first_stage, "encoder", None)): None}
    with torch.inference_mode(False), torch.no_grad():
        for module in first_stage.modules():
            for name in ("_v", "_pin", "_pin_hostbuf"):  # the host's handles of swapped weights
                if hasattr(module, name):
                    memo[id(getattr(module, name))] = None
        for name, weight in first_stage.named_parameters():
            if not name.startswith("encoder."):
                value = weight.to(device, torch.float32, copy=True)
                memo[id(weight)] = torch.nn.Parameter(value, requires_grad=False)
        decoder = copy.deepcopy(first_stage, memo).to(device, torch.float32)
    for module in decoder.modules():
        for name in ("_v", "_pin", "_pin_hostbuf"):
            module.__dict__.pop(name, None)
    return decoder


def reserving(guidance: RgbGuidance) -> Callable[..., Any]:
    """A PREPARE_SAMPLING wrapper that keeps memory free for the decoder: the host counts the
    weights of additional models, not their work. It takes its estimate from the latent's rows."""

    def prepare(
        executor: Callable[..., Any], model: Any, shape: Sequence[int], *args: Any, **kwargs: Any
    ) -> Any:
        rows, *rest = shape
        needed = guidance.memory_required(rest[-2], rest[-1])
        # The host reserves for conditional and unconditional rows.
        per_row = model.model.memory_required([2, *rest])
        return executor(model, [rows + math.ceil(needed / per_row), *rest], *args, **kwargs)

    return prepare


def add_guidance(patched: Any, guidance: RestorationGuidance) -> None:
    """Patches a clone. Guidance through a decoder brings its VAE along and forgets its copy when
    the run ends, however it ends."""
    patched.set_model_sampler_post_cfg_function(guidance)
    if isinstance(guidance, RgbGuidance):
        key = f"{KEY}_{id(guidance)}"
        patched.set_additional_models(key, [guidance.vae.patcher])
        patched.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, key, reserving(guidance))
        patched.add_callback_with_key(CallbacksMP.ON_CLEANUP, key, guidance.release)
