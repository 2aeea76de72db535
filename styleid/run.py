"""DDIM inversion by the host's own sampling, keeping what StyleID needs of every step: what the
decoder's self-attentions saw, or the latents from which to compute it again."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import comfy.model_sampling as ms
import comfy.utils
import latent_preview
import torch
from comfy import model_management as mm
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import Upsample
from comfy.samplers import KSAMPLER, CFGGuider, calc_cond_batch
from torch import Tensor
from tqdm.auto import tqdm

from ..common.latents import from_latent
from ..host.patching import ModelCall, SharedByClones, around_model_calls, unet_of
from ..host.report import announce, size_text
from ..host.sampling import LatentDict, training_table
from ..host.view import Options
from .features import FeatureMode, StyleFeatures
from .injection import DECODER_BLOCKS
from .inversion import Convention, Prediction, Step, ddim_step, inversion_steps

STYLEID_KEY = "diffusion_restoration_styleid"
"""In `transformer_options` of an inversion: {block: hidden states, or None where they are computed
again}, filled by the attentions."""


@dataclass(frozen=True)
class DecoderAttention:
    """A decoder block with a self-attention."""

    channels: int
    downscale: int
    """Latent cells a token, along each side."""

    def tokens(self, height: int, width: int) -> int:
        return math.ceil(height / self.downscale) * math.ceil(width / self.downscale)


def decoder_layers(model: Any) -> dict[int, DecoderAttention]:
    """The decoder's self-attentions by block; ValueError unless it is that of SD 1.x or 2.x."""
    blocks = getattr(unet_of(model.model), "output_blocks", ())
    layers: dict[int, DecoderAttention] = {}
    depths: set[int] = set()
    downscale = 1
    for index in reversed(range(len(blocks))):
        # The upsampling of a block comes after its attention.
        downscale *= 2 ** sum(isinstance(part, Upsample) for part in blocks[index])
        for part in blocks[index]:
            if isinstance(part, SpatialTransformer):
                depths.add(len(part.transformer_blocks))
                (channels,) = part.transformer_blocks[0].norm1.normalized_shape
                layers[index] = DecoderAttention(channels, downscale)
    if len(blocks) != DECODER_BLOCKS or depths != {1}:
        raise ValueError(
            f"This model's decoder has {len(blocks)} blocks with {sorted(depths) or 'no'} "
            f"transformer layers; StyleID needs {DECODER_BLOCKS} with one each. Use a Stable "
            "Diffusion 1.x or 2.x checkpoint (not SDXL, a distilled or a flow model)."
        )
    return layers


def check_text(model: Any, conditioning: list[Any]) -> None:
    """ValueError unless the text features are as wide as the model's attention reads them."""
    wanted = model.model.model_config.unet_config.get("context_dim")
    for features, _ in conditioning:
        if wanted is not None and features.shape[-1] != wanted:
            raise ValueError(
                f"`conditioning` has text features {features.shape[-1]} wide, this model reads "
                f"{wanted}. Connect the CLIP of the same checkpoint."
            )


def check_layers(wanted: Sequence[int], known: Sequence[int], where: str) -> None:
    missing = sorted(set(wanted) - set(known))
    if missing:
        raise ValueError(
            f"`layers` names {', '.join(map(str, missing))}, but {where} {sorted(known)}. "
            "Choose from these; 6,7,8,9,10,11 are the authors'."
        )


def prediction_of(model: Any) -> Prediction:
    """ValueError from `training_table` comes first where it is neither."""
    v = isinstance(model.get_model_object("model_sampling"), ms.V_PREDICTION)
    return "v" if v else "eps"


def stored_bytes(
    shape: Sequence[int], steps: int, layers: Sequence[DecoderAttention], features: FeatureMode
) -> int:
    """Bytes of what an inversion will keep. shape: of the latent."""
    rows, _, height, width = shape
    if features == "lockstep":
        return math.prod(shape) * torch.float32.itemsize * steps
    itemsize = 2 if features == "cpu_fp16" else 4
    cells = sum(layer.tokens(height, width) * layer.channels for layer in layers)
    return rows * cells * itemsize * steps


@dataclass(frozen=True)
class Inversion:
    """Settings of DDIM Invert."""

    steps: int
    convention: Convention
    layers: tuple[int, ...]
    """Decoder blocks whose features are kept."""
    features: FeatureMode


def invert(
    model: Any, conditioning: list[Any], latent: LatentDict, settings: Inversion
) -> tuple[LatentDict, StyleFeatures]:
    """Runs the model up the noise levels without guidance, from a clean LATENT.

    Returns the LATENT at the noisiest level, in the host's scale (give it to a sampler without
    noise), and the features.
    """
    steps, layers, features = settings.steps, settings.layers, settings.features
    table = training_table(model.get_model_object("model_sampling"))
    known = decoder_layers(model)
    check_layers(layers, tuple(known), "this model has self-attention in the blocks")
    check_text(model, conditioning)
    plan = inversion_steps(steps, settings.convention)
    samples = from_latent(latent, channels=model.get_model_object("latent_format").latent_channels)
    if not samples.count_nonzero():
        raise ValueError(
            "`latent` is that of an empty picture; inversion needs an encoded one. Connect VAE "
            "Encode."
        )
    needed = stored_bytes(samples.shape, steps, [known[layer] for layer in layers], features)
    free = mm.get_free_memory(torch.device("cpu"))
    text = f"StyleID inversion: {steps} steps keep {size_text(needed)} in RAM ({features})"
    if needed > free:
        text += f", but {size_text(free)} are free: set features to lockstep or take fewer steps"
    announce(f"{text}.", level=logging.WARNING if needed > free else logging.INFO)
    patched = model.clone()
    tokens = {layer: known[layer].tokens(*samples.shape[-2:]) for layer in layers}
    record = Recorder(tokens, tuple(samples.shape), features)
    record.attach(patched)
    sampler = KSAMPLER(_inversion_sampler(table.tolist(), plan, prediction_of(model), record))
    guider = PlainGuider(patched, record)
    guider.inner_set_conds({"positive": conditioning})
    # KSAMPLER scales noise, of which there is none, by the first level.
    levels = table[[plan[0].before, *(step.after for step in plan)]]
    inverted = guider.sample(
        torch.zeros_like(samples),
        samples,
        sampler,
        levels,
        callback=latent_preview.prepare_callback(patched, steps),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=0,
    ).to(mm.intermediate_device())
    x = model.get_model_object("latent_format").process_in(inverted.float())
    kept = StyleFeatures(
        settings.convention,
        steps,
        layers,
        table,
        (x / math.hypot(1, float(levels[-1]))).cpu(),
        record.hidden,
        record.inputs,
        record.context,
    )
    out = {key: value for key, value in latent.items() if key != "noise_mask"}
    return out | {"samples": inverted}, kept


class Recorder(SharedByClones):
    """Keeps what the network sees in every step of one inversion."""

    def __init__(
        self, tokens: Mapping[int, int], shape: tuple[int, ...], features: FeatureMode
    ) -> None:
        """tokens: of the decoder blocks that are injected in later, how many each has."""
        self.tokens, self.shape = tokens, shape
        self.lockstep = features == "lockstep"
        self.dtype = torch.float32 if features == "cpu_fp32" else torch.float16
        self.hidden: dict[int, dict[int, Tensor]] = {}
        self.inputs: dict[int, Tensor] = {}
        self.context: Tensor | None = None
        self._timestep = -1
        self._calls = 0
        self._left_out = True

    def begin(self, timestep: int) -> None:
        """Enters a step; everything until `end` belongs to it."""
        self._timestep, self._calls, self._left_out = timestep, 0, True

    def ask(self) -> None:
        """The sampler's question goes on to the model."""
        self._left_out = False

    def end(self) -> None:
        if self._left_out:
            raise ValueError(
                "Another node of this model left the network out in a step of the inversion, which "
                "needs all of them: a cache such as EasyCache or LazyCache. Connect DDIM Invert "
                "to the model before that node; Apply StyleID can come before or after it."
            )
        if self._calls != 1:
            raise ValueError(
                f"Inversion needs one whole call of the model a step, but there were {self._calls}: "
                "use one plain prompt (the empty one, without areas, masks or a part of the run) "
                "and no tiled diffusion."
            )

    def attach(self, patched: Any) -> None:
        """Patches a clone that lives for this inversion alone."""
        around_model_calls(patched, STYLEID_KEY, self.run)

    def run(self, executor: Any, call: ModelCall) -> Tensor:
        self._calls += 1
        if tuple(call.x.shape) != self.shape:
            raise ValueError(
                f"Inversion was called with {tuple(call.x.shape)} instead of {self.shape}. Use one "
                "plain prompt without areas, and no tiled diffusion."
            )
        if self.lockstep:
            check_plain(call)
            z = call.x / (1 + call.t[:, None, None, None] ** 2).sqrt()
            self.inputs[self._timestep] = z.float().cpu()
            self.context = call.c_crossattn.float().cpu()
        seen: dict[int, Tensor | None] = {}
        call = call.with_options({STYLEID_KEY: seen})
        call = call.with_patch("attn1_patch", self.remember, first=True)
        out = call.with_patch("attn1_patch", self.check).run(executor)
        # A cache of another node may have answered for the network.
        self._left_out = seen.keys() != self.tokens.keys()
        if not self.lockstep:
            self.hidden[self._timestep] = {
                layer: hidden.to("cpu", self.dtype)
                for layer, hidden in seen.items()
                if hidden is not None
            }
        return out

    def remember(self, n: Tensor, context: Tensor, value: Tensor, extra: Options) -> tuple:
        """The first `attn1_patch`: those of other nodes act again on what is injected."""
        layer = decoder_block(extra)
        if layer in self.tokens:
            extra[STYLEID_KEY][layer] = None if self.lockstep else n
        return n, context, value

    def check(self, n: Tensor, context: Tensor, value: Tensor, extra: Options) -> tuple:
        """The last `attn1_patch`."""
        layer = decoder_block(extra)
        if layer is not None and layer in self.tokens:
            check_tokens(n, self.tokens[layer])
        return n, context, value


class PlainGuider(CFGGuider):
    """The model's own prediction for one prompt. An inversion has no guidance, and what nodes set to
    act on it (PAG, SAG, Perp-Neg, a CFG function) has no part in it."""

    def __init__(self, patched: Any, record: Recorder) -> None:
        super().__init__(patched)
        self.record = record

    def predict_noise(
        self, x: Tensor, timestep: Tensor, model_options: Options | None = None, seed: Any = None
    ) -> Tensor:
        self.record.ask()
        conds = [self.conds["positive"]]
        (x0,) = calc_cond_batch(self.inner_model, conds, x, timestep, model_options or {})
        return x0


def check_plain(call: ModelCall) -> None:
    """ValueError unless this call of an inversion can run again beside others, in lockstep."""
    further = [call.c_concat, call.control, *filter(torch.is_tensor, call.more.values())]
    if any(each is not None for each in further):
        raise ValueError(
            "Lockstep inverts with the prompt alone, but this model call has a ControlNet or "
            "further inputs (an inpainting or unCLIP checkpoint). Set `features` to cpu_fp16, or "
            "take these away from the inversion."
        )


def decoder_block(extra: Options) -> int | None:
    """The decoder block whose first transformer layer this is."""
    name, index = extra.get("block", ("", 0))
    return index if name == "output" and extra.get("block_index") == 0 else None


def check_tokens(n: Tensor, expected: int) -> None:
    """ValueError unless a self-attention sees as many tokens as the plain network's."""
    if n.shape[1] != expected:
        raise ValueError(
            f"StyleID found {n.shape[1]} tokens in a self-attention of {expected}: another patch "
            "merges or splits them, or shrinks the picture inside the network. Remove token "
            "merging (ToMe), HyperTile and PatchModelAddDownscale (Kohya Deep Shrink) from this "
            "model."
        )


def _inversion_sampler(
    table: list[float], plan: list[Step], prediction: Prediction, record: Recorder
) -> Callable[..., Tensor]:
    """The inversion as a function that the host's KSAMPLER calls."""

    @torch.no_grad()
    def sample(
        model: Any,
        x: Tensor,
        sigmas: Tensor,
        extra_args: Options | None = None,
        callback: Callable[[Options], None] | None = None,
        disable: bool | None = None,
    ) -> Tensor:
        ones = x.new_ones(x.shape[0])
        # The clean latent is declared to be z at the first level.
        x = x * math.hypot(1, table[plan[0].before])
        for i, step in enumerate(tqdm(plan, disable=disable)):
            mm.throw_exception_if_processing_interrupted()
            before, told = table[step.before], table[step.timestep]
            z = x / math.hypot(1, before)
            seen = z * math.hypot(1, told)  # so that the network sees z, whatever it is told
            record.begin(step.timestep)
            x0 = model(seen, told * ones, **(extra_args or {}))
            record.end()
            if callback is not None:
                sigma = sigmas[i]
                callback({"x": x, "i": i, "sigma": sigma, "sigma_hat": sigma, "denoised": x0})
            if prediction == "v":
                output = (z - x0 * math.hypot(1, told)) / told
            else:
                output = (seen - x0) / told
            x = ddim_step(x, output, before, table[step.after], prediction)
        return x

    return sample
