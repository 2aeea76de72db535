"""The authors' noise levels, samplers and start points as the host's SIGMAS, SAMPLER and NOISE."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

import comfy.model_sampling as ms
import comfy.sample
import torch
from comfy.samplers import KSAMPLER
from torch import Tensor
from tqdm.auto import tqdm

from ..common.images import match_batch
from ..common.latents import from_latent
from ..common.sampling import Sampler, Start, StartPoint, derived_seed, step_noise
from ..common.schedule import (
    LAST,
    TRAINING_STEPS,
    Schedule,
    has_zero_terminal_snr,
    scaled_linear_alphas,
    schedule_sigmas,
    sigmas_from,
    signal,
    timesteps_at,
)
from .errors import claiming, running_node
from .one_step import OneStepSampling

PercentRange = tuple[float, float]
LatentDict = dict[str, Any]

INFINITE_SIGMA = 1e8
"""First noise level of the x0-form samplers on a model with zero terminal SNR: A = 1e-16 is
nothing in float32. Samplers of the host, which subtract x0 from x, get `TERMINAL_SIGMA`."""


def in_range(model_sampling: Any, sigma: float, percent: PercentRange) -> bool:
    """Whether a noise level lies in a part of the run, both ends included.

    The levels are looked up at every step: a node after ours may change the model's schedule.
    """
    start, end = (float(model_sampling.percent_to_sigma(p)) for p in percent)
    return end <= sigma <= start


def training_table(model_sampling: Any) -> Tensor:
    """sigma of every training timestep: 1000 values, float32, ascending, on the CPU.

    The one rule for schedules: a model must predict eps or v, on the host's scale x = x0 + sigma
    noise, at timesteps that it was trained with. All 1000 may be there or, as in LCM sampling, some
    of them. ValueError for everything else, with the same sentence wherever we are asked.
    """
    table = _known_table(model_sampling)
    if table is None and isinstance(model_sampling, OneStepSampling):
        title = model_sampling.title
        raise ValueError(
            f"This model carries {title}, which restores in one step by a rule of its own: it has no "
            "noise levels for another method to work at. Connect the MODEL from before the node that "
            f"applies {title}, or take this node out."
        )
    if table is None:
        kinds = type(model_sampling).__mro__[1:]
        schedule = kinds[0].__name__
        prediction = next(c for c in kinds if not issubclass(c, torch.nn.Module)).__name__
        raise ValueError(
            f"This model predicts as {prediction} does, on the schedule {schedule} with "
            f"{len(model_sampling.sigmas)} noise levels; restoration needs eps or v prediction at "
            f"Stable Diffusion's {TRAINING_STEPS} training timesteps. Use a Stable Diffusion 1.x, "
            "2.x or XL checkpoint (not a flow, EDM or x0 model), without a sampling patch for such "
            "models."
        )
    return table


def check_schedule(model_sampling: Any) -> None:
    """ValueError unless the model's schedule is one that `training_table` reads. Patches ask when
    they are applied, and again in the run: a node after ours may change the schedule."""
    training_table(model_sampling)


def training_timestep(model_sampling: Any, sigma: Tensor) -> float:
    """The timestep of a noise level, 0..999: what the model hears or, on a schedule that knows
    none, where Stable Diffusion has as much noise. sigma: one value."""
    if _known_table(model_sampling) is not None:
        return float(model_sampling.timestep(sigma.flatten()))
    if isinstance(model_sampling, ms.CONST):  # (1 - sigma) x0 + sigma noise
        sigma = sigma / (1 - sigma)
    return float(timesteps_at(sigmas_from(scaled_linear_alphas()), sigma.flatten().cpu()))


_read: WeakKeyDictionary[Any, tuple[Tensor, Tensor | None]] = WeakKeyDictionary()
"""Schedule -> the levels it had when it was read, and its table. Every model call asks, and reading
waits for the device."""


def _known_table(model_sampling: Any) -> Tensor | None:
    levels = getattr(model_sampling, "sigmas", None)
    before, table = _read.get(model_sampling, (None, None))
    if levels is None or levels is not before:
        table = _table_of(model_sampling)
        if levels is not None:
            _read[model_sampling] = levels, table
    return table


def _table_of(model_sampling: Any) -> Tensor | None:
    # Kinds are told by class first: EDM and x0 are kinds of EPS to the host.
    if not isinstance(model_sampling, ms.EPS) or isinstance(model_sampling, ms.EDM | ms.X0):
        return None
    if not isinstance(model_sampling, ms.ModelSamplingDiscrete):
        return None
    levels = model_sampling.sigmas
    table = levels.cpu()
    if len(table) != TRAINING_STEPS:
        table = _whole_table(model_sampling)
    # The EDM kind of discrete schedule hears logarithms, and a shortened one may hear its own
    # indices: what counts is that a level's timestep leads to that level.
    probes = levels[[0, len(levels) // 2, -1]]
    heard = model_sampling.timestep(probes).round().long().cpu()
    if heard.min() < 0 or heard.max() >= len(table):
        return None
    return table if torch.allclose(table[heard], probes.cpu(), rtol=1e-5, atol=0) else None


def _whole_table(shortened: Any) -> Tensor:
    """The table of which a discrete schedule uses a part, built as the host built it."""
    names = ("linear_start", "linear_end")
    settings = {name: getattr(shortened, name) for name in names}
    described = SimpleNamespace(sampling_settings=settings)
    return ms.ModelSamplingDiscrete(described, zsnr=shortened.zsnr).sigmas


def restoration_sigmas(model: Any, schedule: Schedule, steps: int, denoise: float = 1.0) -> Tensor:
    """SIGMAS of an authors' schedule for this model. denoise below 1 keeps the last `steps` steps
    of a longer schedule, as the host's own schedulers do."""
    table = training_table(model.get_model_object("model_sampling"))
    if denoise <= 0:
        return torch.zeros(0)
    if steps / denoise >= TRAINING_STEPS + 1:
        raise ValueError(
            f"`denoise` {denoise:g} with {steps} steps means the last {steps} of "
            f"{steps / denoise:.0f} steps, but the model was trained on {TRAINING_STEPS} noise "
            f"levels. Raise `denoise` to {math.ceil(steps / TRAINING_STEPS * 100) / 100:g} or "
            "more, take fewer steps, or set `denoise` to 0 for none."
        )
    return schedule_sigmas(schedule, table, int(steps / denoise))[-(steps + 1) :]


def is_first_level(table: Tensor, sigma: float) -> bool:
    """The host's own test (`max_denoise`) for a run that begins at the noisiest level."""
    highest = float(table[-1])
    return sigma > highest or math.isclose(sigma, highest, rel_tol=1e-5)


@dataclass(frozen=True)
class SeededNoise:
    """Standard normal noise as the host draws it, one field for each purpose of a seed."""

    seed: int
    same: bool = False
    """All images get the first one's (frames of a video)."""

    def field(self, like: LatentDict, purpose: str = "") -> Tensor:
        """B C H W, for a LATENT; without a purpose the noise of the seed itself."""
        stream = derived_seed(self.seed, purpose) if purpose else self.seed
        samples, rows = like["samples"].float(), like.get("batch_index")
        if not self.same:
            return comfy.sample.prepare_noise(samples, stream, rows)
        first = comfy.sample.prepare_noise(samples[:1], stream, rows and rows[:1])
        return first.expand_as(samples)


class StartNoise:
    """NOISE with which a run begins at a given point, whichever LATENT is wired to the sampler:
    zeros, the low-quality latent or the point itself. It takes the host's scaling and the latent
    out beforehand.

    start: LATENT dict -> B C H W in the variance-preserving scale, what the network is to see
    first. sigma: the run's first.
    """

    def __init__(
        self, model: Any, sigma: float, seed: int, start: Callable[[LatentDict], Tensor]
    ) -> None:
        self.seed, self.node = seed, running_node()
        self._start, self._sigma = start, sigma
        self._format = model.get_model_object("latent_format")
        table = training_table(model.get_model_object("model_sampling"))
        self._scale = math.hypot(1, sigma) if is_first_level(table, sigma) else sigma

    def point(self, latent: LatentDict) -> Tensor:
        """x at the first step, in the host's scale."""
        return self._start(latent) * math.hypot(1, self._sigma)

    def generate_noise(self, input_latent: LatentDict) -> Tensor:
        samples = input_latent["samples"].float()
        # The host leaves an empty latent as it is.
        taken = self._format.process_in(samples) if samples.count_nonzero() else samples
        return (claiming(self.point, self.node)(input_latent) - taken) / self._scale


def embedded_start(
    model: Any,
    latent: LatentDict,
    noise: SeededNoise,
    sigmas: Tensor,
    start: Start,
    noise_level: int,
) -> tuple[StartNoise, LatentDict]:
    """The start point of a run as NOISE, and as the LATENT for a sampler that adds no noise.

    latent: the encoded low-quality or stage-1 picture; every image starts from itself. noise_level:
    see `StartPoint`.
    """
    if sigmas.ndim != 1 or not sigmas.isfinite().all():
        raise ValueError(
            f"`sigmas` must be finite noise levels in a row, found the shape {tuple(sigmas.shape)}"
            f"{'' if sigmas.isfinite().all() else ' with NaN or infinity'}. Connect the SIGMAS "
            "that go to the sampler."
        )
    if len(sigmas) < 2:
        raise ValueError("`sigmas` has no steps: raise `denoise` or `steps` of the node before.")
    table = training_table(model.get_model_object("model_sampling"))
    format_ = model.get_model_object("latent_format")
    z = format_.process_in(from_latent(latent, channels=format_.latent_channels))
    first = float(sigmas[0])
    last_signal = signal(table, LAST)
    first_signal = last_signal if is_first_level(table, first) else 1 / (1 + first**2)

    def build(like: LatentDict) -> Tensor:
        wanted, own = like["samples"].shape[-2:], z.shape[-2:]
        if wanted != own:
            raise ValueError(
                f"The start point was made from a latent of {own[1]}x{own[0]}, but the sampler's "
                f"latent is {wanted[1]}x{wanted[0]}. Wire the same LATENT to both."
            )

        def picture() -> Tensor:
            return match_batch(z, like["samples"].shape[0], "latent").cpu()  # as the host's noise

        unit_noise = partial(noise.field, like)
        return start(StartPoint(picture, unit_noise, table, first_signal, noise_level))

    source = StartNoise(model, first, noise.seed, build)
    noised = {key: value for key, value in latent.items() if key != "noise_mask"}
    return source, noised | {"samples": format_.process_out(source.point(latent))}


def _sampler_function(run: Sampler) -> Callable[..., Tensor]:
    """A sampler of `common.sampling`'s form as a function that the host's KSAMPLER calls."""

    @torch.no_grad()
    def sample(
        model: Any,
        x: Tensor,
        sigmas: Tensor,
        extra_args: dict[str, Any] | None = None,
        callback: Callable[[dict[str, Any]], None] | None = None,
        disable: bool | None = None,
        noise_sampler: Callable[[Tensor, Tensor], Tensor] | None = None,
        same_noise: bool = False,
    ) -> Tensor:
        x, sigmas, extra_args = at_infinity(model, x, sigmas, extra_args or {})
        ones, ask = x.new_ones(x.shape[0]), claiming(model, "")
        seed = extra_args.get("seed")
        own = step_noise(torch.initial_seed() if seed is None else seed, x, same_noise)

        def noise(i: int) -> Tensor:
            return own(i) if noise_sampler is None else noise_sampler(sigmas[i], sigmas[i + 1])

        with tqdm(total=len(sigmas) - 1, disable=disable) as bar:

            def denoise(x: Tensor, i: int) -> Tensor:
                x0 = ask(x, sigmas[i] * ones, **extra_args)
                if callback is not None:
                    sigma = sigmas[i]
                    callback({"x": x, "i": i, "sigma": sigma, "sigma_hat": sigma, "denoised": x0})
                bar.update()
                return x0

            return run(denoise, x, sigmas.tolist(), noise)

    return sample


def at_infinity(
    model: Any, x: Tensor, sigmas: Tensor, extra_args: dict[str, Any]
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """On a v-prediction model with zero terminal SNR, a run that begins at the last timestep
    begins at `INFINITE_SIGMA`; everyone who reads the run's sigmas is told."""
    model_sampling = model.inner_model.inner_model.model_sampling
    table = training_table(model_sampling)
    if (
        not isinstance(model_sampling, ms.V_PREDICTION)
        or not has_zero_terminal_snr(table)
        or not is_first_level(table, float(sigmas[0]))
    ):
        return x, sigmas, extra_args
    x = x * (math.hypot(1, INFINITE_SIGMA) / math.hypot(1, float(sigmas[0])))
    sigmas = torch.cat([sigmas.new_full((1,), INFINITE_SIGMA), sigmas[1:]])
    options = extra_args.get("model_options", {})
    inner = {**options.get("transformer_options", {}), "sample_sigmas": sigmas}
    options = {**options, "transformer_options": inner}
    return x, sigmas, {**extra_args, "model_options": options}


def restoration_sampler(run: Sampler, **options: Any) -> KSAMPLER:
    """SAMPLER of one of the methods' own. options: `noise_sampler`, as the host's samplers take it;
    `same_noise`: every image gets the first one's."""
    return KSAMPLER(claiming(_sampler_function(run), running_node()), options)
