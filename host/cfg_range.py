"""Classifier-free guidance over a part of the run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from .errors import claiming, claiming_wrapper, running_node
from .patching import SharedByClones, has_first_easycache
from .sampling import PercentRange, in_range, training_timestep
from .x0_guidance import GUIDANCE_KEY, Args

log = logging.getLogger(__name__)

Growth = Callable[[float, float], float]
"""(cfg, timestep) -> the scale there."""


class CFGRange(SharedByClones):
    """What guides a model only inside a part of the run; outside it CFG is 1.

    It works by moving the negative's prediction, before the guider combines the two: so it goes
    with every formula of the two and with every post-CFG patch. Outside the range that happens
    before the host's pre-CFG patches see any prediction: they find no difference to work on,
    whichever node came first.
    """

    def __init__(self, percent: PercentRange, growth: Growth | None) -> None:
        self.percent, self.growth = percent, growth

    def outside(self, model: Any, sigma: Tensor) -> bool:
        return not in_range(model.model_sampling, float(sigma.flatten()[0]), self.percent)

    def calc_cond_batch(
        self,
        executor: Callable[..., list[Tensor]],
        model: Any,
        conds: list[Any],
        x: Tensor,
        sigma: Tensor,
        model_options: Args,
    ) -> list[Tensor]:
        """CALC_COND_BATCH: outside the range the negative's prediction is the positive's, and it is
        not run unless somebody asks for its rows."""
        # Guiders of three prompts order them as they like; theirs all run. A lone prompt is a
        # patch's own call.
        if len(conds) != 2 or None in conds or not self.outside(model, sigma):
            return executor(model, conds, x, sigma, model_options)
        if not _rows_are_wanted(model_options):
            conds = [conds[0], None]
        positive, _ = executor(model, conds, x, sigma, model_options)
        return [positive, positive.clone()]

    def pre_cfg(self, args: Args) -> list[Tensor]:
        """Inside the range: moves the negative's prediction where the scale grows."""
        conds, scale = args["conds"], args["cond_scale"]
        out = list(args["conds_out"])
        if len(out) != 2 or conds[1] is None:
            return out
        cond, uncond = out
        if self.outside(args["model"], args["sigma"]):
            # Who takes the batch's place may run the two apart, each without the other.
            if "sampler_calc_cond_batch_function" in args["model_options"]:
                out[1] = cond.clone()
        elif self.growth is not None and scale > 1:
            # uncond + w (cond - uncond), for a guider that will use `scale` instead of w.
            timestep = training_timestep(args["model"].model_sampling, args["sigma"][:1])
            share = (self.growth(scale, timestep) - 1) / (scale - 1)
            out[1] = torch.lerp(cond, uncond, share)
        return out

    def say_what_stays(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        """OUTER_SAMPLE: says once a run what this cannot limit or scale."""
        guider = executor.class_obj
        for text in self._exceptions(guider.conds, guider.model_options):
            log.warning("Restoration CFG: %s", text)
        return executor(*args, **kwargs)

    def _exceptions(self, conds: dict[str, Any], model_options: Args) -> list[str]:
        limited = self.percent[0] > 0 or self.percent[1] < 1
        if self.growth is None and not limited:
            return []
        if len(conds) > 2:
            return [
                f"this guider combines {len(conds)} prompts in its own way and is left as it is: "
                "it guides over the whole run, at its own cfg. Use CFG Guider or a KSampler instead."
            ]
        formula = model_options.get("sampler_cfg_function")
        if getattr(formula, "__qualname__", "").startswith("PerpNeg."):
            return [
                "Perp-Neg guides away from its empty prompt over the whole run, at the sampler's "
                "cfg; only the negative prompt keeps to the range and to `rescale`."
            ]
        others = (
            getattr(patch, "__module__", None)
            for patch in model_options.get("sampler_pre_cfg_function", [])
        )
        if self.growth is not None and any(module != __name__ for module in others):
            return [
                "with `rescale` the order of patches that change the guidance (APG, FreSca, ...) "
                "counts: those before this node work at the sampler's cfg, those after it at the "
                "growing one."
            ]
        return []


def _rows_are_wanted(model_options: Args) -> bool:
    """Whether the negative has to run although its prediction is not used: for a patch that reads
    its rows in the UNet or afterwards, which tells the host so."""
    if model_options.get("disable_cfg1_optimization", False):
        return True
    # It fails on a prompt that joins in the middle of a run.
    return has_first_easycache(model_options.get("transformer_options", {}))


def guide_only(patched: Any, percent: PercentRange, growth: Growth | None = None) -> None:
    """Patches a clone: CFG only inside `percent`, where `growth` may change the scale; outside it
    is 1 and the unconditional branch is not run unless another patch reads it."""
    limits = CFGRange(percent, growth)
    for kind, wrapper in (
        (WrappersMP.CALC_COND_BATCH, limits.calc_cond_batch),
        (WrappersMP.OUTER_SAMPLE, limits.say_what_stays),
    ):
        patched.add_wrapper_with_key(kind, GUIDANCE_KEY, claiming_wrapper(wrapper))
    patched.set_model_sampler_pre_cfg_function(claiming(limits.pre_cfg, running_node()))
