"""OSEDiff and PiSA-SR on a MODEL and a VAE: adapters as weight patches, the one step as its schedule."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import comfy.model_base
import torch
from comfy import model_management as mm
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ..host.adapters import (
    UNET,
    Pairs,
    add_pairs,
    check_pairs,
    gated,
    patched_vae,
    replace_weights,
    unet_names,
    vae_name,
)
from ..host.areas import AREAS_KEY, tell_areas
from ..host.errors import claiming_wrapper
from ..host.extra_blocks import beside
from ..host.loading import layers_for, placed
from ..host.masks import where_to_act, whole_mask
from ..host.memory import is_out_of_memory
from ..host.one_step import OneStepSampling, apply_one_step, check_free
from ..host.patching import (
    ModelCall,
    SharedByClones,
    announce_memory,
    around_model_calls,
    base_words,
    has_sizes,
    unet_of,
    unique_key,
)
from ..host.view import RowLayout
from .config import LORA_ALPHA, PIX, SEM, TITLES, Kind
from .keys import Adapters
from .load import OneStepModel
from .networks import SemanticLayers, semantic_weights
from .sampling import OneStep, osediff_step, pisasr_step

log = logging.getLogger(__name__)
BASE = "Stable Diffusion 2.1 base (v2-1_512-ema-pruned)"
CONV_IN = "conv_in"


def apply_osediff(
    model: Any, vae: Any, onestep: OneStepModel, strength: float, vae_strength: float
) -> tuple[Any, Any]:
    """(MODEL, VAE) that restore a photo in one step; encode it with that VAE.

    strength: of the adapters on both, 1 is OSEDiff; 0 gives both back as they came. vae_strength:
    times that, on the VAE alone. ValueError for another base or file.
    """
    _check(model, onestep, "osediff")
    if strength == 0:
        return model, vae
    weights = onestep.weights
    patched = model.clone()
    _warn_of_bfloat16(model)
    names = unet_names(model)
    conv_in = {
        f"{UNET}{names[f'{CONV_IN}.{part}']}": value for part, value in weights.conv_in.items()
    }
    pairs = _unet_pairs(patched, weights.sets[""], names)
    replace_weights(patched, conv_in, strength)
    add_pairs(patched, pairs, LORA_ALPHA, strength)
    _apply_step(patched, osediff_step(), "osediff")
    return patched, adapted_vae(vae, weights.vae, strength * vae_strength)


def apply_pisasr(
    model: Any, onestep: OneStepModel, lambda_pix: float, lambda_sem: float, mask: Tensor | None
) -> Any:
    """MODEL that restores a photo in one step: e = lambda_pix e_pix + lambda_sem (e_full - e_pix).

    mask: B H W in 0..1, any resolution, where and how much of lambda_sem acts; None or ones:
    everywhere. ValueError for another base or file.
    """
    _check(model, onestep, "pisasr")
    where = where_to_act(mask)
    if where is not None:
        lowest, highest = float(where.min()), float(where.max())
        if lowest == highest:  # everywhere the same: a dial, not a place
            lambda_sem, where = lambda_sem * lowest, None
    patched, names = model.clone(), unet_names(model)
    sets = {name: _unet_pairs(patched, each, names) for name, each in onestep.weights.sets.items()}
    add_pairs(patched, sets[PIX], LORA_ALPHA, 1.0)
    scale = lambda_pix
    if lambda_sem == 0:
        pass
    elif lambda_pix == lambda_sem and where is None:
        add_pairs(patched, sets[SEM], LORA_ALPHA, 1.0)
    else:
        scale = 1.0
        _apply_dials(patched, sets[SEM], lambda_pix, lambda_sem, where)
    _apply_step(patched, pisasr_step(scale), "pisasr")
    return patched


def _apply_step(patched: Any, step: OneStep, kind: Kind) -> None:
    sampling = OneStepSampling(
        TITLES[kind], step.timestep, step.sigmas, step.x0, step.variance_preserving
    )
    apply_one_step(patched, sampling)


def _check(model: Any, onestep: object, kind: Kind) -> None:
    """ValueError unless the file is the node's and MODEL is its base."""
    title = TITLES[kind]
    if not isinstance(onestep, OneStepModel):
        raise ValueError(
            f"`onestep_model` is a {type(onestep).__name__}. Connect Load One-Step Restorer."
        )
    if onestep.weights.kind != kind:
        raise ValueError(
            f"`onestep_model` is {onestep.title} ({onestep.file}), and this node applies {title}. "
            f"Use Apply {onestep.title}, or load the file of {title}."
        )
    wanted = f"{title} was trained on {BASE}: connect that checkpoint or a fine-tune of it."
    if not has_sizes(model, onestep.config.unet):
        raise ValueError(f"`model` is a {base_words(model)}. {wanted}")
    if model.model.model_type == comfy.model_base.ModelType.V_PREDICTION:
        raise ValueError(
            f"`model` predicts v, as the 768-pixel Stable Diffusion 2.1 does, not noise. {wanted}"
        )
    check_free(model)


def _warn_of_bfloat16(model: Any) -> None:
    if torch.bfloat16 in (model.model_dtype(), getattr(model.model, "manual_cast_dtype", None)):
        log.warning(
            "Apply OSEDiff: this model computes in bfloat16, and OSEDiff multiplies its rounding by "
            "14.6. Start ComfyUI with --fp16-unet or --fp32-unet for clean flat areas."
        )


def _unet_pairs(patched: Any, adapters: Adapters, names: dict[str, str]) -> Pairs:
    """By names of the patcher's weights, after checking that each is there and fits."""
    pairs: Pairs = {f"{UNET}{names[f'{layer}.weight']}": each for layer, each in adapters.items()}
    check_pairs(patched, pairs, "`model`", f"Connect {BASE} or a fine-tune of it.")
    return pairs


def adapted_vae(vae: Any, adapters: Adapters, strength: float) -> Any:
    """A VAE whose encoder has the adapters; ValueError for one of another family."""
    if strength == 0:
        return vae
    wanted = "Connect the VAE of the Stable Diffusion 1.x or 2.x family, not a tiny or an SDXL one."
    if getattr(vae, "patcher", None) is None:
        raise ValueError(f"`vae` is a {type(vae).__name__} without a network. {wanted}")
    clone = patched_vae(vae)
    pairs: Pairs = {f"{vae_name(layer)}.weight": each for layer, each in adapters.items()}
    check_pairs(clone.patcher, pairs, "`vae`", wanted)
    add_pairs(clone.patcher, pairs, LORA_ALPHA, strength)
    return clone


def _apply_dials(
    patched: Any, pairs: Pairs, lambda_pix: float, lambda_sem: float, mask: Tensor | None
) -> None:
    unet = unet_of(patched.model)
    pairs = {key.removeprefix(UNET): pair for key, pair in pairs.items()}
    weights = semantic_weights(pairs)
    network = placed(SemanticLayers(unet, pairs, **layers_for(weights)), weights)
    dials = Dials(network, lambda_pix, lambda_sem, mask)
    key = dials.identity
    if mask is not None:
        patched.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, key, claiming_wrapper(tell_areas))
    announce_memory(patched, key, dials.more_rows)
    around_model_calls(patched, key, dials.run)
    patched.set_additional_models(key, [network])


class Dials(SharedByClones):
    """PiSA-SR's two predictions for one call, weighed: the UNet has the pixel set merged, and the
    semantic set beside its layers for half of the rows."""

    def __init__(
        self, network: Any, lambda_pix: float, lambda_sem: float, mask: Tensor | None
    ) -> None:
        self.identity = unique_key("pisasr")
        self.network, self.mask = network, mask
        self.lambda_pix, self.lambda_sem = lambda_pix, lambda_sem

    def more_rows(self, model: Any, shape: Sequence[int]) -> int:
        """Both predictions at once are as many rows again."""
        return shape[0]

    def run(self, executor: Any, call: ModelCall) -> Tensor:
        """x0 of both predictions, and what lies between or beyond them by the dials."""
        call_of = self._with_layers
        weight: Tensor | float = self.lambda_sem
        if self.mask is not None:
            weight = self.lambda_sem * self._where(call)
        rows = call.x.shape[0]
        pix = full = None
        if self._fits(executor.class_obj, call):
            gate = torch.cat([call.x.new_zeros(rows), call.x.new_ones(rows)])
            try:
                pix, full = call_of(executor, call.twice(), gate).split(rows)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
        if pix is None or full is None:
            mm.soft_empty_cache()
            pix, full = call.run(executor), call_of(executor, call, None)
        # x0 = x - e for both.
        return call.x - self.lambda_pix * (call.x - pix) - weight * (pix - full)

    def _with_layers(self, executor: Any, call: ModelCall, gate: Tensor | None) -> Tensor:
        """One call with the semantic layers; gate: how much of them each row gets."""
        layers = self.network.model.by_site
        # A compiled UNet cannot see hooks: the key of our own tells calls with them from others.
        call = call.with_options({self.identity: "gated" if gate is not None else True})
        added = {site: gated(layer, gate) for site, layer in layers.items()}
        with beside(unet_of(executor.class_obj), added):
            return call.run(executor)

    def _fits(self, base: Any, call: ModelCall) -> bool:
        """By the host's own rule for rows in one call."""
        shape = [2 * call.x.shape[0], *call.x.shape[1:]]
        return base.memory_required(shape) * 1.5 < mm.get_free_memory(call.x.device)

    def _where(self, call: ModelCall) -> Tensor:
        """The mask, rows 1 h w."""
        areas = call.more.get(AREAS_KEY) or (None,) * call.chunks
        layout = RowLayout.of(call.x, call.options, areas)
        if layout.full_size is None:
            raise ValueError(
                "`mask` cannot be laid over prompts that have areas of their own. Take the areas or "
                "the mask away, or connect Tiled Restoration behind this node."
            )
        assert self.mask is not None
        return layout.cut(whole_mask(self.mask, layout.full_size), "mask").to(call.x)
