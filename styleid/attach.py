"""StyleID's injection as a MODEL patch.

The self-attention's projections are linear and have no bias, so queries of the content and keys
and values of the style all follow from the hidden states before them. An `attn1_patch` hands these
in, other nodes' patches (a hypernetwork) treat them as the model's own, and the host's attention
does the rest. A wrapper around each model call decides what is injected: kept features, or rows
that run beside the stylized ones (lockstep).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Protocol
from uuid import UUID, uuid4

import torch
from torch import Tensor

from ..common.images import match_batch
from ..host.frames import Frames
from ..host.patching import (
    ModelCall,
    SharedByClones,
    announce_memory,
    around_model_calls,
    unique_key,
)
from ..host.report import announce, size_text
from ..host.sampling import LatentDict, PercentRange, check_schedule, in_range
from ..host.view import Options
from .features import StyleFeatures
from .injection import adain, adain_eps, blend_query
from .inversion import denoising_timesteps
from .run import STYLEID_KEY, check_layers, check_tokens, decoder_block, decoder_layers

INJECTIONS_KEY = f"{STYLEID_KEY}.injections"
"""In `transformer_options`: the `Injection`s of a call, of every StyleID applied to the model."""


class Injection(Protocol):
    """What one model call injects, carried to the attentions in `transformer_options`."""

    @property
    def tokens(self) -> Mapping[int, int]:
        """Of the blocks to inject in: how many each has."""
        ...

    def __call__(self, n: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Query input and key-and-value input of the self-attention, for its own input."""
        ...


@dataclass(frozen=True)
class Style:
    """Settings of Apply StyleID."""

    gamma: float
    temperature: float
    layers: tuple[int, ...]
    percent: PercentRange


def apply_styleid(
    model: Any, content: StyleFeatures, style: StyleFeatures, settings: Style, with_adain: bool
) -> tuple[Any, LatentDict, Tensor]:
    """(patched clone, LATENT to start from without noise, SIGMAS)."""
    for name, features in (("content", content), ("style", style)):
        if not isinstance(features, StyleFeatures):
            raise ValueError(
                f"`{name}` is a {type(features).__name__}, not what DDIM Invert remembers. Connect "
                "its output `style_features`."
            )
    check_pair(content, style)
    known = decoder_layers(model)
    for features, name in ((content, "content"), (style, "style")):
        where = f"`{name}` has features of the blocks"
        check_layers(settings.layers, tuple(known) if features.lockstep else features.layers, where)

    patched = model.clone()
    if settings.layers and settings.percent[1] > 0:
        tokens = {layer: known[layer].tokens(*content.size) for layer in settings.layers}
        StylePatch(content, style, settings, tokens).attach(patched)
    if content.lockstep:
        rows, *rest = content.end.shape
        work = model.model.memory_required([3 * rows, *rest])
        announce(
            f"StyleID in lockstep runs {3 * rows} rows a step (one more for each picture with cfg "
            f"above 1), about {size_text(work)} of working memory instead of "
            f"{size_text(work / 3)}."
        )

    z = content.end
    if with_adain:
        by = match_batch(style.end, z.shape[0], "style")
        z = adain(z, by, adain_eps(content.convention))
    descending = denoising_timesteps(content.steps, content.convention)
    # The paper's code decodes z at level 0, the diffusers script the last prediction of x0.
    last = content.table[:1] if content.convention == "ldm" else torch.zeros(1)
    sigmas = torch.cat([content.table[descending], last])
    x = z * math.hypot(1, float(sigmas[0]))
    start = model.get_model_object("latent_format").process_out(x)
    return patched, {"samples": start}, sigmas


def check_pair(content: StyleFeatures, style: StyleFeatures) -> None:
    for what in ("steps", "convention", "lockstep"):
        theirs, ours = getattr(style, what), getattr(content, what)
        if theirs != ours:
            raise ValueError(
                f"The content was inverted with {what} {ours}, the style with {theirs}. Use the "
                "same steps, convention and features in both DDIM Invert nodes."
            )
    if content.lockstep and content.size != style.size:
        raise ValueError(
            f"In lockstep content and style must have one size; the latents are "
            f"{content.size[1]}x{content.size[0]} and {style.size[1]}x{style.size[0]} "
            "(width x height). Resize the style picture or set `features` to cpu_fp16."
        )


class StylePatch(SharedByClones):
    """One application of StyleID to a model."""

    def __init__(
        self,
        content: StyleFeatures,
        style: StyleFeatures,
        settings: Style,
        tokens: Mapping[int, int],
    ) -> None:
        self.content, self.style, self.settings, self.tokens = content, style, settings, tokens
        self.entries = uuid4(), uuid4()
        """Names of the rows of content and of style in lockstep, the same at every step: a cache of
        the network (EasyCache) keeps what it knows of a row under its name."""

    def attach(self, patched: Any) -> None:
        """Patches a clone."""
        key = unique_key(STYLEID_KEY)
        around_model_calls(patched, key, self.run)
        if self.content.lockstep:
            # The host reserves for two chunks; lockstep runs up to four.
            announce_memory(patched, key, lambda _model, shape: shape[0])

    def run(self, executor: Any, call: ModelCall) -> Tensor:
        """One model call, told what it injects where the patch acts."""
        sigma = float(call.t[0])
        check_schedule(executor.class_obj.model_sampling)
        if not in_range(executor.class_obj.model_sampling, sigma, self.settings.percent):
            return call.run(executor)
        check_size(call.x, self.content)
        timestep = self.content.timestep(sigma)
        if self.content.lockstep:
            wide = in_lockstep(call, self.content, self.style, timestep, self.entries)
            injection = LockstepInjection(call.images, self.settings, self.tokens)
            return injecting(wide, injection).run(executor)[: call.x.shape[0]]
        stored = StoredInjection(
            stored_rows(self.content, "content", call, timestep, self.tokens),
            stored_rows(self.style, "style", call, timestep, self.tokens),
            self.settings,
            self.tokens,
        )
        return injecting(call, stored).run(executor)


def injecting(call: ModelCall, injection: Injection) -> ModelCall:
    """The call with one more injection, which acts on what earlier ones give. What others do to the
    input of the attentions they do to the injected one."""
    earlier = call.options.get(INJECTIONS_KEY, ())
    call = call.with_options({INJECTIONS_KEY: (*earlier, injection)})
    if earlier:
        return call  # the patches are set
    return call.with_patch("attn1_patch", inject, first=True).with_patch("attn1_patch", checked)


def inject(n: Tensor, context: Tensor, value: Tensor, extra: Options) -> tuple:
    """The first `attn1_patch`."""
    layer = decoder_block(extra)
    for injection in extra[INJECTIONS_KEY]:
        if layer in injection.tokens:
            check_tokens(n, injection.tokens[layer])
            n, context = injection(n, layer)
            value = context
    return n, context, value


def checked(n: Tensor, context: Tensor, value: Tensor, extra: Options) -> tuple:
    """The last `attn1_patch`: others may have merged or split the queries."""
    layer = decoder_block(extra)
    for injection in extra[INJECTIONS_KEY]:
        if layer in injection.tokens:
            check_tokens(n, injection.tokens[layer])
    return n, context, value


def check_size(x: Tensor, content: StyleFeatures) -> None:
    height, width = x.shape[-2:]
    if (height, width) != content.size:
        raise ValueError(
            f"The model is called with a latent of {width}x{height}, but the content was inverted "
            f"at {content.size[1]}x{content.size[0]} (width x height). Sample the LATENT of Apply "
            "StyleID, without areas in the prompt and without tiled diffusion."
        )


def stored_rows(
    features: StyleFeatures, name: str, call: ModelCall, timestep: int, layers: Iterable[int]
) -> dict[int, Tensor]:
    """Kept features of one timestep by layer, for all rows of a call."""
    frames = Frames.of(call.images, call.options)
    return {
        layer: frames.pick(features.hidden[timestep][layer], name)
        .to(call.x.device)
        .repeat(call.chunks, 1, 1)
        for layer in layers
    }


@dataclass(frozen=True)
class StoredInjection:
    """Injection from kept features of one timestep, on the model's device."""

    content: dict[int, Tensor]
    style: dict[int, Tensor]
    settings: Style
    tokens: Mapping[int, int]

    def __call__(self, n: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        content, style = self.content[layer].to(n), self.style[layer].to(n)
        return blend_query(n, content, self.settings.gamma, self.settings.temperature), style


@dataclass(frozen=True)
class LockstepInjection:
    """Injection from rows of the same call: stylized (every chunk), content, style."""

    images: int
    settings: Style
    tokens: Mapping[int, int]

    def __call__(self, n: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        *stylized, content, style = n.split(self.images)
        gamma, temperature = self.settings.gamma, self.settings.temperature
        queries = [blend_query(own, content, gamma, temperature) for own in stylized]
        sources = [style] * len(stylized)
        return torch.cat([*queries, content, style]), torch.cat([*sources, content, style])


def in_lockstep(
    call: ModelCall,
    content: StyleFeatures,
    style: StyleFeatures,
    timestep: int,
    entries: tuple[UUID, UUID],
) -> ModelCall:
    """The call with rows of content and style behind its own, each what its inversion saw: latent,
    timestep and prompt. entries: their names, in place of those that the host gives to the entries
    of a prompt."""
    if call.c_concat is not None or any(map(torch.is_tensor, call.more.values())):
        raise ValueError(
            "Lockstep runs Stable Diffusion 1.x and 2.x with a prompt, but this model call has "
            "further inputs (an inpainting or unCLIP checkpoint). Set `features` to cpu_fp16."
        )
    check_cache(call.options.get("easycache"))
    x, images = call.x, call.images
    sigma = content.table[timestep].to(call.t)
    scale = (1 + sigma**2).sqrt()
    frames = Frames.of(images, call.options)

    def latents(features: StyleFeatures, name: str) -> Tensor:
        return frames.pick(features.inputs[timestep], name).to(x) * scale

    def tokens(features: StyleFeatures) -> Tensor:
        assert features.context is not None, "kept in lockstep"
        return frames.pick(features.context, "conditioning").to(call.c_crossattn)

    # Each group of rows counts as one more positive chunk, for whoever reads the order of rows.
    options = {
        **call.options,
        "cond_or_uncond": [*call.options["cond_or_uncond"], 0, 0],
        "uuids": [*call.options["uuids"], *entries],
    }
    return replace(
        call,
        x=torch.cat([x, latents(content, "content"), latents(style, "style")]),
        t=torch.cat([call.t, sigma.expand(2 * images)]),
        c_crossattn=cat_tokens([call.c_crossattn, tokens(content), tokens(style)]),
        control=widen_control(call.control, x.shape[0], 2 * images),
        options=options,
    )


def check_cache(cache: Any) -> None:
    """ValueError where the host's EasyCache (0.3.64) adds what it keeps of every row to all rows."""
    if not hasattr(cache, "uuid_cache_diffs"):
        return
    trial = copy(cache)
    trial.uuid_cache_diffs = {0: torch.zeros(1, 1), 1: torch.ones(1, 1)}
    if trial.apply_cache_diff(torch.zeros(2, 1), [0, 1])[0]:
        raise ValueError(
            "EasyCache of this ComfyUI mixes the rows of one call of the model, and lockstep runs "
            "content and style as rows of their own. Update ComfyUI, take EasyCache away, or set "
            "`features` of both DDIM Invert nodes to cpu_fp16."
        )


def cat_tokens(contexts: list[Tensor]) -> Tensor:
    """Prompts below each other; shorter ones are repeated, which attention does not notice."""
    if len({context.shape[-1] for context in contexts}) > 1:
        raise ValueError(
            f"The prompts' tokens have {[context.shape[-1] for context in contexts]} channels: the "
            "pictures were inverted with another model. Invert them with the model that samples."
        )
    length = math.lcm(*(context.shape[1] for context in contexts))
    return torch.cat([c.repeat(1, length // c.shape[1], 1) for c in contexts])


def widen_control(control: Any, rows: int, more: int) -> Any:
    """A control for `rows` rows with residuals of 0 for `more` behind them: these were inverted
    without it. A single row (a T2I adapter's) is that of all, as where the host adds it."""

    def widen(residual: Tensor | None) -> Tensor | None:
        if residual is None:
            return None
        own = residual.expand(rows, *residual.shape[1:]) if len(residual) == 1 else residual
        return torch.cat([own, residual.new_zeros(more, *residual.shape[1:])])

    if control is None:
        return None
    return {name: [widen(residual) for residual in part] for name, part in control.items()}
