"""A model that restores in one evaluation: a schedule of one step in place of the model's own, and
what guards a run on it.

The rule is an object patch, so that a stock sampler of one step gives the method's numbers whatever
noise it is handed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import comfy.model_sampling as ms
import torch
from comfy.model_patcher import create_model_options_clone, set_model_options_post_cfg_function
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from .errors import claiming_wrapper, running_node
from .patching import unique_key
from .report import announce

Rule = Callable[[Tensor, Tensor], Tensor]
SAME = 1e-3
"""Relative difference up to which what a sampler gives back is the model's answer."""
HOW = "Use KSampler with steps 1, cfg 1, euler, simple and denoise 1"


class OneStepSampling(ms.ModelSamplingDiscrete):
    """`model_sampling` of one evaluation. It is no kind of EPS: whoever moves x0 by the rule of a
    prediction type must not take it for one."""

    def __init__(
        self, title: str, timestep: int, sigmas: Tensor, rule: Rule, variance_preserving: bool
    ) -> None:
        """title: of the method. timestep: what the network hears. sigmas: 1000 levels, ascending;
        a run begins at the last. rule: (z, network's answer) -> x0, rows C h w, float32.
        variance_preserving: whether the host's x is sqrt(1 + sigma^2) z, or z itself."""
        super().__init__()
        self.set_sigmas(sigmas)
        self.title, self._timestep, self._rule = title, timestep, rule
        self._variance_preserving = variance_preserving

    def _scale(self, sigma: Tensor, like: Tensor) -> Tensor | float:
        if not self._variance_preserving:
            return 1.0
        sigma = sigma.reshape(sigma.shape[:1] + (1,) * (like.ndim - 1))
        return (1 + sigma**2).sqrt()

    def timestep(self, sigma: Tensor) -> Tensor:
        """The one that the method runs at, whatever the noise level."""
        return torch.full_like(sigma, self._timestep, dtype=torch.long)

    def noise_scaling(
        self, sigma: Tensor, noise: Tensor, latent_image: Tensor, max_denoise: bool = False
    ) -> Tensor:
        """The photo's latent itself: noise has no part in it."""
        return latent_image * self._scale(sigma, latent_image)

    def inverse_noise_scaling(self, sigma: Tensor, latent: Tensor) -> Tensor:
        return latent

    def calculate_input(self, sigma: Tensor, noise: Tensor) -> Tensor:
        """z of the host's x."""
        return noise / self._scale(sigma, noise)

    def calculate_denoised(
        self, sigma: Tensor, model_output: Tensor, model_input: Tensor
    ) -> Tensor:
        return self._rule(self.calculate_input(sigma, model_input), model_output)


def one_step_of(model: Any) -> OneStepSampling | None:
    """The one-step schedule that a MODEL carries; None: it has another one."""
    sampling = model.get_model_object("model_sampling")
    return sampling if isinstance(sampling, OneStepSampling) else None


def check_free(model: Any) -> None:
    """ValueError where a MODEL restores in one step already."""
    if (before := one_step_of(model)) is not None:
        raise ValueError(
            f"`model` carries {before.title} already, and one step has one rule. Connect the MODEL "
            "from before that node."
        )


def apply_one_step(patched: Any, sampling: OneStepSampling) -> None:
    """Patches a clone: it runs by this schedule, and a run that is not one step of it from an encoded
    photo ends with a sentence."""
    patched.add_object_patch("model_sampling", sampling)
    key = unique_key("one_step")
    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, key, claiming_wrapper(_checked_run))
    patched.add_wrapper_with_key(
        WrappersMP.SAMPLER_SAMPLE, key, claiming_wrapper(_checked_end(running_node()))
    )


def _checked_run(
    executor: Any, noise: Tensor, latent_image: Tensor, sampler: Any, sigmas: Tensor, *more: Any, **named: Any
) -> Tensor:  # fmt: skip
    """OUTER_SAMPLE: nothing but one step from an encoded photo goes on."""
    model = executor.class_obj.model_patcher
    sampling = one_step_of(model)
    if sampling is None:
        raise ValueError(
            "another node has replaced the schedule of this one-step model, and with it the rule by "
            "which it restores. Take Model Sampling nodes behind it out."
        )
    _check_sigmas(sigmas, sampling)
    rows = latent_image.flatten(1)
    if not rows.count_nonzero(1).all():
        raise ValueError(
            f"the latent is empty, but {sampling.title} begins with the photo and not with noise. "
            "Connect VAE Encode of the photo, not Empty Latent Image."
        )
    _tell_of_guidance(getattr(executor.class_obj, "cfg", 1.0), sampling)
    return executor(noise, latent_image, sampler, sigmas, *more, **named)


def _tell_of_guidance(cfg: float, sampling: OneStepSampling) -> None:
    """What was asked for is done, but it is not the method's, and costs a second evaluation."""
    if cfg != 1:
        text = (
            f"{sampling.title} was trained to restore without guidance, and cfg is {cfg:g}: colors "
            "and contrast will be exaggerated. Set cfg to 1."
        )
        announce(text, level=logging.WARNING)


def _check_sigmas(sigmas: Tensor, sampling: OneStepSampling) -> None:
    steps = len(sigmas) - 1
    if steps != 1:
        raise ValueError(
            f"{sampling.title} restores in one step, and the sampler was given {max(steps, 0)}: a "
            f"second one would restore its own result. {HOW}."
        )
    # ddim_uniform is the one scheduler of the host whose only step begins elsewhere.
    begins = (sampling.sigma_max, sampling.sigmas[1])
    first, end = float(sigmas[0]), float(sigmas[1])
    if end != 0 or not any(abs(first / float(begin) - 1) < SAME for begin in begins):
        raise ValueError(
            f"{sampling.title} restores in one step from noise level {float(begins[0]):.4g} to 0, "
            f"and the sampler was given {first:.4g} to {end:.4g}, which is a part of it (`denoise` "
            f"below 1?) or a scheduler that knows no single step. {HOW}."
        )


def _checked_end(node: str) -> Callable[..., Tensor]:
    """SAMPLER_SAMPLE: the run's result must be the model's answer. Some samplers end above noise
    level 0, and give back something else without a word."""

    def run(
        executor: Any,
        model_wrap: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Any,
        noise: Tensor,
        latent_image: Tensor | None = None,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        answers: list[Tensor] = []

        def listen(args: dict[str, Any]) -> Tensor:
            answers[:] = [args["denoised"]]
            return args["denoised"]

        options = create_model_options_clone(extra_args["model_options"])
        if denoise_mask is not None and "denoise_mask_function" in options:
            raise ValueError(
                "another node widens the mask from step to step (Differential Diffusion), and there "
                "is one step. Take that node out: a soft mask blends without it."
            )
        set_model_options_post_cfg_function(options, listen)
        heard = {**extra_args, "model_options": options}
        rest = (noise, latent_image, denoise_mask, disable_pbar)
        result = executor(model_wrap, sigmas, heard, callback, *rest)
        if answers and not answers[0].isfinite().all():
            raise ValueError(
                "the restored latent holds NaN or infinity: the precision of the model, or of the VAE "
                "before it, is too low. Start ComfyUI with --force-upcast-attention, or with "
                "--fp32-unet and --fp32-vae."
            )
        if not answers or not _agrees(result, answers[0], latent_image, denoise_mask):
            raise ValueError(
                "this sampler does not end at noise level 0 when it has one step, so its picture "
                f"is not the restored one ({node} gives the model one step). {HOW}; dpm_fast, "
                "dpm_adaptive, uni_pc and uni_pc_bh2 cannot be used."
            )
        return result

    return run


def _agrees(
    result: Tensor, answer: Tensor, latent_image: Tensor | None, mask: Tensor | None
) -> bool:
    """Whether a sampler gave the answer back, laid over the photo's latent by the mask."""
    if mask is not None and latent_image is not None:
        answer = torch.lerp(latent_image.to(answer), answer, mask.to(answer))
    answer = answer.to(result)
    return bool((result - answer).abs().max() <= SAME * answer.abs().max().clamp(min=1e-6))
