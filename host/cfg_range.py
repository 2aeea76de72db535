"""Classifier-free guidance over a part of the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from .sampling import PercentRange, in_range
from .x0_guidance import GUIDANCE_KEY, Args


def guide_only(
    patched: Any, percent: PercentRange, growth: Callable[[float, float], float] | None = None
) -> None:
    """Patches a clone: CFG only inside `percent`; outside it is 1 and the unconditional branch is
    not run at all. growth: (cfg, timestep) -> the scale there.

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
        elif growth is not None and scale > 1:
            # uncond + w (cond - uncond), for a guider that will use `scale` instead of w.
            timestep = float(model_sampling.timestep(args["sigma"].flatten()[:1])[0])
            share = (growth(scale, timestep) - 1) / (scale - 1)
            out[1] = torch.lerp(cond, uncond, share)
        return out

    patched.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, GUIDANCE_KEY, calc_cond_batch)
    patched.set_model_sampler_pre_cfg_function(pre_cfg)
