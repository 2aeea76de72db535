"""The authors' own samplers as the host's SAMPLER, and RePaint's time travel around any other."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import comfy.model_sampling as ms
import torch
from comfy.samplers import KSAMPLER
from torch import Tensor
from tqdm.auto import tqdm

from ..common.sampling import derived_seed, step_noise
from ..host.errors import claiming, running_node
from ..host.sampling import at_infinity, check_schedule, is_first_level, training_table
from .guide import LatentNullSpace, NullSpaceGuidance
from .operators import Spectral
from .sampling import (
    Levels,
    Measurement,
    Run,
    Step,
    ddim,
    ddnm,
    ddrm,
    ddrm_start,
    descend,
    jump_times,
    repaint,
)

log = logging.getLogger(__name__)
Method = Literal["ddnm", "ddrm", "repaint"]
Options = dict[str, Any]
GUIDANCE = "sampler_post_cfg_function"


@dataclass(frozen=True)
class ZeroShot:
    """Settings of a run."""

    method: Method
    eta: float = 0.85
    """Share of fresh noise in a step of ddnm or ddrm: 0 none, 1 all."""
    eta_b: float = 1.0
    """How closely ddrm follows a measurement that is surer than the level's noise."""
    jump_length: int = 1
    jump_repeats: int = 1


class Call:
    """The model as a run calls it, and what the run tells."""

    def __init__(
        self, model: Any, sigmas: Tensor, extra_args: Options, callback: Any, bar: Any
    ) -> None:
        self.model, self.sigmas, self.extra_args = model, sigmas, extra_args
        self.callback, self.bar = callback, bar

    @property
    def base(self) -> Any:
        """The host's BaseModel."""
        return self.model.inner_model.inner_model

    def __call__(self, x: Tensor, level: int) -> Tensor:
        sigma = self.sigmas[level]
        ask = claiming(self.model, "")
        x0 = ask(x, sigma * x.new_ones(x.shape[0]), **self.extra_args)
        if self.callback is not None:
            told = {"x": x, "i": level, "sigma": sigma, "sigma_hat": sigma, "denoised": x0}
            self.callback(told)
        self.bar.update()
        return x0

    def guided(self, guidance: Sequence[NullSpaceGuidance], x0: Tensor, level: int) -> Tensor:
        """x0 after the guidance that a run has taken over, which it asks as the host would."""
        args = {
            "denoised": x0,
            "sigma": self.sigmas[level].reshape(1),
            "model": self.base,
            "model_options": self.extra_args.get("model_options", {}),
        }
        for each in guidance:
            args["denoised"] = each(args)
        return args["denoised"]


def zero_shot_sampler(settings: ZeroShot) -> KSAMPLER:
    """SAMPLER by the authors' own updates. It takes the null-space guidance of the model over, and applies
    it where its method does; other guidance acts as always."""

    @torch.no_grad()
    def sample(
        model: Any,
        x: Tensor,
        sigmas: Tensor,
        extra_args: Options | None = None,
        callback: Callable[[Options], None] | None = None,
        disable: bool | None = None,
        noise_sampler: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> Tensor:
        base = model.inner_model.inner_model
        check_schedule(base.model_sampling)
        x, sigmas, arguments = at_infinity(model, x, sigmas, extra_args or {})
        levels = Levels.jumping(sigmas.tolist(), settings.jump_length, settings.jump_repeats)
        if settings.jump_repeats > 1 and settings.jump_length >= len(sigmas) - 1:
            log.warning(
                "Zero-Shot Sampler: `jump_length` %d is no part of %d steps, so the run never jumps.",
                settings.jump_length,
                len(sigmas) - 1,
            )
        seed = arguments.get("seed")
        own = step_noise(torch.initial_seed() if seed is None else seed, x)

        def draw() -> Tensor:
            return own(0) if noise_sampler is None else noise_sampler(sigmas[0], sigmas[-1])

        down = sum(there > here for here, there in levels.transitions())
        with tqdm(total=down, disable=disable) as bar:
            if settings.method == "repaint":
                call = Call(model, sigmas, arguments, callback, bar)
                return _repaint(call, Run(call, levels, draw), x)
            arguments, guidance = _taken_over(arguments)
            call = Call(model, sigmas, arguments, callback, bar)
            run = Run(call, levels, draw)
            if settings.method == "ddrm" and guidance:
                return _ddrm(call, run, x, _one(guidance), settings)
            update = ddnm(lambda x0, level: call.guided(guidance, x0, level), settings.eta)
            return descend(run, x, update)

    return KSAMPLER(claiming(sample, running_node()))


def _taken_over(extra_args: Options) -> tuple[Options, list[NullSpaceGuidance]]:
    """A copy of a run's arguments without the null-space guidance, and that."""
    options = extra_args.get("model_options", {})
    hooks = options.get(GUIDANCE, [])
    guidance = [each for each in hooks if isinstance(each, NullSpaceGuidance)]
    if not guidance:
        log.info("Zero-Shot Sampler: nothing is known of the picture, so this run is plain DDIM.")
    others = [each for each in hooks if not isinstance(each, NullSpaceGuidance)]
    return {**extra_args, "model_options": {**options, GUIDANCE: others}}, guidance


def _one(guidance: Sequence[NullSpaceGuidance]) -> LatentNullSpace:
    """The guidance that DDRM can use. ValueError."""
    first, *more = guidance
    if more:
        raise ValueError(
            f"ddrm knows one measurement, and the model has {len(guidance)} of DDNM Guidance. Chain them "
            "in Known Degradation, or use ddnm."
        )
    if not isinstance(first, LatentNullSpace):
        raise ValueError(
            "ddrm works on latents, and DDNM Guidance compares pixels through the VAE here. Use ddnm, or "
            "connect `latent` to DDNM Guidance instead of `image`."
        )
    if not isinstance(first.operator, Spectral):
        raise ValueError(
            "ddrm needs a degradation whose singular values are known; a mask or JPEG behind another step "
            "has none. Use ddnm."
        )
    return first


def _ddrm(call: Call, run: Run, x: Tensor, guidance: LatentNullSpace, settings: ZeroShot) -> Tensor:
    """DDRM where the guidance acts, DDIM elsewhere and outside of its part of the run."""
    operator, sigmas = guidance.operator, run.levels.sigmas
    assert isinstance(operator, Spectral)
    y = guidance.measurement(x, guidance.operator.degrade(x), "latent cells")
    known = Measurement(operator, y, guidance.trust.noise_level)
    weight = guidance.trust.strength * guidance.where(x)
    first, table = sigmas[0], training_table(call.base.model_sampling)
    if is_first_level(table, first) and guidance.in_part(call.base, first):
        seen = ddrm_start(x / math.hypot(1, first), first, known)
        x = x + weight * (seen - x)
    plain, moved = ddim(settings.eta), ddrm(known, settings.eta, settings.eta_b)

    def update(step: Step) -> Tensor:
        usual = plain(step)
        if not guidance.in_part(call.base, sigmas[step.level]):
            return usual
        return usual + weight * (moved(step) - usual)

    return descend(run, x, update)


def _repaint(call: Call, run: Run, x: Tensor) -> Tensor:
    """RePaint over the run's noise mask; what is known is pasted at the end, other than the authors do."""
    paint = call.extra_args.get("denoise_mask")
    known = getattr(call.model, "latent_image", None)
    if paint is None or known is None:
        raise ValueError(
            "repaint fills what a mask marks, and the latent has none. Put Set Latent Noise Mask behind "
            "VAE Encode, with the hole in white."
        )
    call.extra_args = {**call.extra_args, "denoise_mask": None}
    mask, known = (1 - paint).to(x), known.to(x)
    x = repaint(run, x, known, mask)
    return mask * known + (1 - mask) * x if run.levels.sigmas[-1] == 0 else x


# Time travel


def time_travel(inner: Any, length: int, repeats: int, percent: tuple[float, float]) -> KSAMPLER:
    """A SAMPLER that runs `inner` over parts of the run, again and again, with noise in between. ValueError
    for a SAMPLER that is no function over noise levels. With one repeat it is `inner`, bit for bit."""
    function = getattr(inner, "sampler_function", None)
    if function is None:
        raise ValueError(
            f"`sampler` is a {type(inner).__name__}, which does not run over noise levels that could be "
            "gone through again. Connect KSamplerSelect or another sampler of core."
        )

    @torch.no_grad()
    def sample(
        model: Any,
        x: Tensor,
        sigmas: Tensor,
        extra_args: Options | None = None,
        callback: Callable[[Options], None] | None = None,
        disable: bool | None = None,
        **options: Any,
    ) -> Tensor:
        extra_args = extra_args or {}
        sampling = model.inner_model.inner_model.model_sampling
        seed = extra_args.get("seed") or 0
        draw, at = step_noise(derived_seed(seed, "time travel"), x), float(sigmas[0])
        for number, (begin, end) in enumerate(parts(sigmas, sampling, length, repeats, percent)):
            arguments = extra_args
            if number:
                x = _noised(x, at, float(sigmas[begin]), draw(number), sampling)
                arguments = {**extra_args, "seed": derived_seed(seed, f"part {number}")}
                if getattr(model, "noise", None) is not None:  # of what a noise mask keeps
                    model.noise = draw(number)

            def told(args: Options, first: int = begin) -> None:
                if callback is not None:
                    callback({**args, "i": first + args["i"]})

            x = function(
                model,
                x,
                sigmas[begin : end + 1],
                extra_args=arguments,
                callback=told,
                disable=disable,
                **options,
            )
            at = float(sigmas[end])
        return x

    return KSAMPLER(claiming(sample, running_node()), inner.extra_options, inner.inpaint_options)


def parts(
    sigmas: Tensor, sampling: Any, length: int, repeats: int, percent: tuple[float, float]
) -> list[tuple[int, int]]:
    """(first, last) index into the noise levels of every part of a run that goes down, in order."""
    steps = len(sigmas) - 1
    if steps < 1:
        return []
    highest, lowest = (float(sampling.percent_to_sigma(each)) for each in percent)
    inside = [steps - 1 - i for i, s in enumerate(sigmas.tolist()) if lowest <= s <= highest]
    times = jump_times(steps, length, repeats, _bounds(inside, steps))
    found, begin, before = [], 0, steps - 1
    for time in times[1:]:
        if time > before and (not found or found[-1][1] != steps - 1 - before):
            found.append((begin, steps - 1 - before))
        if time > before:
            begin = steps - 1 - time
        before = time
    return [*found, (begin, steps)]


def _bounds(inside: list[int], steps: int) -> tuple[int, int]:
    return (min(inside), max(inside)) if inside else (steps, -1)


def _noised(x: Tensor, sigma: float, to: float, noise: Tensor, sampling: Any) -> Tensor:
    """x of a level at a noisier one."""
    kept = (1 - to) / (1 - sigma) if isinstance(sampling, ms.CONST) else 1.0
    return kept * x + math.sqrt(max(0.0, to**2 - (kept * sigma) ** 2)) * noise
