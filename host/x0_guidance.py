"""Guidance of the predicted x0 over a part of the run, as a post-CFG function."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from comfy.patcher_extension import CallbacksMP
from torch import Tensor

from ..common.images import from_mask, match_batch
from .errors import claiming, running_node
from .masks import averaged, size_of
from .patching import SharedByClones, announce_memory, rows_of_bytes, unique_key
from .sampling import PercentRange, check_schedule, in_range

GUIDANCE_KEY = "diffusion_restoration_guidance"

Args = dict[str, Any]
"""What the host hands to a pre- or post-CFG function."""


def next_sigma(sample_sigmas: Tensor, sigma: float) -> float:
    """The next lower noise level of the run: also right between two of them, where samplers of
    second order call the model."""
    lower = sample_sigmas[sample_sigmas < sigma * (1 - 1e-6)]
    return float(lower.max()) if len(lower) else 0.0


def steps_left(sample_sigmas: Tensor, sigma: float) -> int:
    """How many steps of the run follow the one that a noise level belongs to: its own, or one within it,
    where samplers of second order call the model."""
    begun = int((sample_sigmas[:-1] >= sigma * (1 - 1e-6)).sum())
    return max(0, len(sample_sigmas) - 1 - begun)


@dataclass(frozen=True)
class GuidanceStep:
    """Where in a run a prediction of x0 was made."""

    sigma: float
    """The noise level, in the host's scale."""
    next_sigma: float
    """The one that follows in the run; 0 at its end, or where the sampler tells no levels."""
    left: int
    """Steps that follow in the run; 0 at its last one, or where the sampler tells no levels."""
    model: Any
    """The host's BaseModel, which knows the scale of its latents."""


class X0Guidance(SharedByClones, ABC):
    """Post-CFG function that changes the predicted x0 over a part of the run. It knows where and
    when; what is done there is the method's."""

    patchers: Sequence[Any] = ()
    """Model patchers of networks that it runs; the host loads them with the UNet."""

    def __init__(self, percent: PercentRange, mask: Tensor | None) -> None:
        """mask: B H W in 0..1 of any resolution; see `where`."""
        self.percent = percent
        self.mask = None if mask is None else from_mask(mask)
        self.node = running_node()

    def __call__(self, args: Args) -> Tensor:
        return claiming(self._guided, self.node)(args)

    def _guided(self, args: Args) -> Tensor:
        x0, model = args["denoised"], args["model"]
        self.check(model.model_sampling)
        sigma = float(args["sigma"].flatten()[0])
        if not self.in_part(model, sigma):
            return x0
        sigmas = args["model_options"].get("transformer_options", {}).get("sample_sigmas")
        following = 0.0 if sigmas is None else next_sigma(sigmas, sigma)
        left = 0 if sigmas is None else steps_left(sigmas, sigma)
        return self.guide(x0, GuidanceStep(sigma, following, left, model))

    def check(self, model_sampling: Any) -> None:
        """ValueError for a schedule on which its rule does not hold."""
        check_schedule(model_sampling)

    def in_part(self, model: Any, sigma: float) -> bool:
        """Whether a noise level lies in the part of the run that is guided. model: the BaseModel."""
        return in_range(model.model_sampling, sigma, self.percent)

    @abstractmethod
    def guide(self, x0: Tensor, step: GuidanceStep) -> Tensor:
        """x0 after the guidance of one step: B C h w in the model's latent scale, as it came."""
        ...

    def where(self, x0: Tensor) -> Tensor | float:
        """The mask at the size of x0, B 1 h w; 1 without one."""
        if self.mask is None:
            return 1.0
        return averaged(match_batch(self.mask[:, None].to(x0), x0.shape[0], "mask"), size_of(x0))

    def memory_required(self, height: int, width: int) -> float:
        """Bytes that its own networks' work takes, for a latent of height x width cells."""
        return 0.0

    def release(self) -> None:
        """Forgets what belongs to a run, when that ends, however it ends."""


def add_guidance(patched: Any, guidance: X0Guidance) -> None:
    """Patches a clone. The guidance's networks come along: loaded with the UNet, and room is kept
    for their work."""
    patched.set_model_sampler_post_cfg_function(guidance)
    if not guidance.patchers:
        return
    key = unique_key(GUIDANCE_KEY)

    def more_rows(model: Any, shape: Sequence[int]) -> int:
        return rows_of_bytes(guidance.memory_required(shape[-2], shape[-1]), model, shape)

    patched.set_additional_models(key, list(guidance.patchers))
    announce_memory(patched, key, more_rows)
    patched.add_callback_with_key(CallbacksMP.ON_CLEANUP, key, lambda _patcher: guidance.release())
