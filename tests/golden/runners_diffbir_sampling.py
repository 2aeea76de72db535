"""DiffBIR's schedules, guidance and trajectories."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from restoration import registry
from restoration.common.schedule import (
    LAST,
    TERMINAL_SIGMA,
    scaled_linear_alphas,
    schedule_sigmas,
    sigmas_from,
    unrounded,
    zero_terminal_snr,
)
from restoration.diffbir.sampling import (
    ddim_timesteps,
    edm_timesteps,
    growing_cfg,
    spaced_timesteps,
)
from restoration.pasd.sampling import unipc_timesteps
from restoration.tests.golden.runners_diffbir import diffbir, unscaled
from restoration.tests.golden.suite import GoldenCase, golden
from restoration.tests.posterior import posterior

OF_STEPS = re.compile(r"(?P<kind>eps|v)_(?P<steps>\d+)_(?P<table>.+)")
GROWING_CFG = re.compile(r"rescaled_cfg_([\d.]+)")


@golden("diffbir", "samplers")
def schedules(case: GoldenCase, get) -> None:
    """Whichever tables of whichever step counts a case has: DDIM, say, has none for every count."""
    tables = {"eps": (eps := scaled_linear_alphas()), "v": zero_terminal_snr(eps)}
    found = {f"{kind}_alphas_cumprod_f64": alphas for kind, alphas in tables.items()}
    for name in case.outputs:
        if match := OF_STEPS.fullmatch(name):
            value = author_table(match["table"], tables[match["kind"]], int(match["steps"]))
            found |= {} if value is None else {name: value}
    large = {name for name in found if name.endswith("edm_sigmas")}  # they begin at 1e4
    case.check({name: found[name] for name in large}, relative=True)
    case.check({name: found[name] for name in found if name not in large})


def author_table(name: str, alphas: Tensor, steps: int) -> Tensor | None:
    """One row of what the authors' `make_schedule` computes, ascending (EDM's descending), from
    our descending step sets; None: a row that we do not know."""
    if name.startswith("ddim_"):
        return _ddim_rows(alphas, steps).get(name)
    if name.startswith("edm_"):
        return _edm_rows(alphas, steps).get(name)
    spaced = spaced_timesteps(steps)[::-1]
    if growing := GROWING_CFG.fullmatch(name):
        scales = [growing_cfg(float(growing[1]), timestep) for timestep in spaced]
        return torch.tensor(scales, dtype=torch.float64)
    return _spaced_rows(alphas, torch.tensor(spaced)).get(name)


def _spaced_rows(alphas: Tensor, spaced: Tensor) -> dict[str, Tensor]:
    levels = alphas[spaced]
    coefs = posterior(levels, torch.cat([torch.ones(1, dtype=alphas.dtype), levels[:-1]]))
    return {
        "timesteps": spaced,
        "posterior_variance": coefs.variance.float(),
        "posterior_mean_coef1": coefs.x0_coef.float(),
        "posterior_mean_coef2": coefs.x_coef.float(),
        "sqrt_alphas_cumprod": levels.sqrt().float(),
        "sqrt_one_minus_alphas_cumprod": (1 - levels).sqrt().float(),
    }


def _ddim_rows(alphas: Tensor, steps: int) -> dict[str, Tensor]:
    ddim = torch.tensor(ddim_timesteps(steps)[::-1])
    return {
        "ddim_timesteps": ddim,
        "ddim_alphas": alphas[ddim].float(),
        "ddim_alphas_prev": torch.cat([alphas[:1], alphas[ddim[:-1]]]).float(),
    }


def _edm_rows(alphas: Tensor, steps: int) -> dict[str, Tensor]:
    edm = torch.tensor(edm_timesteps(steps))
    sigmas = torch.cat([sigmas_from(alphas[edm]), alphas.new_zeros(1)])
    sigmas[0] = TERMINAL_SIGMA  # the authors', of eps models too
    return {
        "edm_sigmas": sigmas.float(),
        "edm_timesteps": torch.cat([edm, edm.new_zeros(1)]),
    }


@golden("pasd", "noise schedule")
def pasd_schedule(case: GoldenCase, get) -> None:
    settings = case.config["scheduler"]
    assert settings["beta_schedule"] == "scaled_linear" and not settings.get("trained_betas")
    alphas = scaled_linear_alphas(
        settings["beta_start"],
        settings["beta_end"],
        settings["num_train_timesteps"],
        torch.float32,
    )
    found = {"alphas_cumprod": alphas}
    for steps in case.config.get("counts", ()):
        timesteps = torch.tensor(unipc_timesteps(steps))
        found[f"timesteps_{steps}"] = timesteps
        found[f"sigmas_{steps}"] = torch.cat([sigmas_from(alphas)[timesteps], torch.zeros(1)])
    case.check(found)


VERSIONS = {"eps": "eps", "v": "v2.1"}
"""The node's name for a case's parameterization."""


def base_and_conds(case: GoldenCase, get, **sampling: Any):
    """(model with the case's noise levels, positive, negative) through the nodes."""
    model, control = diffbir(case, get)
    from restoration.nodes.guidance import DiffBIRModelSampling

    config, text = case.config, case.tensors
    version = VERSIONS[config["parameterization"]]
    assert config.get("zero_snr", version == "v2.1") == (version == "v2.1")
    (model,) = DiffBIRModelSampling.execute(model, version, **sampling).result
    control = control.copy().set_latent_hint(unscaled(text["c_img"]))
    # One object for both, so that the host runs them in one batch.
    both = [
        [[text[name], {"control": control, "control_apply_to_uncond": False}]]
        for name in ("c_txt_positive", "c_txt_negative")
    ]
    return model, *both


@dataclass
class Recorded:
    """What a run passed through, a row for every step; x in the host's scale."""

    result: Tensor
    x: list[Tensor]
    x0: list[Tensor]
    network_inputs: list[Tensor]
    network_timesteps: list[Tensor]
    sigmas: Tensor

    def vp(self, x: Tensor, step: int) -> Tensor:
        return x / float((1 + self.sigmas[step].double() ** 2).sqrt())


def run(case: GoldenCase, model, positive, negative, schedule: str, sampler) -> Recorded:
    """From x_T to the end with the host's guider; the recorded steps in float32."""
    from comfy.patcher_extension import WrappersMP
    from comfy.samplers import CFGGuider

    from restoration.host.sampling import StartNoise
    from restoration.nodes.sampling import RestorationSigmas

    inputs, timesteps, x, x0 = [], [], [], []

    def watch(executor, x, timesteps_, *args, **kwargs):
        inputs.append(x.clone())
        timesteps.append(timesteps_.clone())
        return executor(x, timesteps_, *args, **kwargs)

    def callback(step, denoised, latent, total):
        x.append(latent.clone())
        x0.append(denoised.clone())

    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "test", watch)
    (sigmas,) = RestorationSigmas.execute(model, schedule, case.config["steps"], 1.0).result
    start = case.tensors["x_T"]
    noise = StartNoise(model, float(sigmas[0]), 0, lambda latent: start)
    guider = CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(case.config["cfg_scale"])
    empty = torch.zeros_like(start)
    with torch.inference_mode():
        samples = guider.sample(
            noise.generate_noise({"samples": empty}), empty, sampler, sigmas, callback=callback
        )
    result = model.get_model_object("latent_format").process_in(samples)
    return Recorded(result, x, x0, inputs, timesteps, sigmas)


def recorded_noise(case: GoldenCase):
    """The case's step noises, one for every request of a sampler."""
    noises = iter(case.tensors.get("noise", ()))
    return lambda sigma, sigma_next: next(noises)


def steps_of(run: Recorded) -> dict[str, Tensor]:
    """x after every step in the variance-preserving scale, and the x0 that led there."""
    after = [*run.x[1:], run.result]
    return {
        "x": torch.stack([run.vp(x, i + 1) for i, x in enumerate(after)]),
        "pred_x0": torch.stack(run.x0),
    }


@golden("diffbir", "SpacedSampler", needs_host=True)
def spaced_trajectory(case: GoldenCase, get) -> None:
    model, positive, negative = base_and_conds(case, get)
    from restoration.host.sampling import restoration_sampler
    from restoration.nodes.sampling import RestorationCFG

    (model,) = RestorationCFG.execute(model, case.config.get("rescale_cfg", False), 0.0, 1.0).result
    sampler = restoration_sampler(
        registry.samplers()["diffbir_spaced"], noise_sampler=recorded_noise(case)
    )
    case.check(steps_of(run(case, model, positive, negative, "diffbir_spaced", sampler)))


@golden("diffbir", "SpacedSampler with restoration guidance (v2.0.0)", needs_host=True)
def guided_trajectory(case: GoldenCase, get) -> None:
    model, positive, negative = base_and_conds(case, get)
    from restoration.host.sampling import restoration_sampler
    from restoration.nodes.guidance import LatentImageGuidance

    config, raw = case.config, []

    def before_guidance(args):
        raw.append(args["denoised"].clone())
        return args["denoised"]

    model.set_model_sampler_post_cfg_function(before_guidance)
    (model,) = LatentImageGuidance.execute(
        model,
        f"{config['g_space']}_{config['g_loss']}",
        config["g_scale"],
        config["g_repeat"],
        # g_stop < timestep + 1 < g_start
        percent_of(config["g_start"] - 1.5),
        percent_of(config["g_stop"] - 0.5),
        latent={"samples": unscaled(case.tensors["target"])},
    ).result
    sampler = restoration_sampler(
        registry.samplers()["diffbir_spaced"], noise_sampler=recorded_noise(case)
    )
    found = steps_of(run(case, model, positive, negative, "diffbir_spaced", sampler))
    case.check(found | {"raw_x0": torch.stack(raw)})


def percent_of(timestep: float) -> float:
    """The part of a run that lies before a timestep."""
    return min(max(1 - timestep / LAST, 0.0), 1.0)


EDM_SAMPLERS = {
    "euler": "euler",
    "euler_a": "euler_ancestral",
    "heun": "heun",
    "dpm_2": "dpm_2",
    "dpm_2_a": "dpm_2_ancestral",
    "lms": "lms",
    "dpm++_2s_a": "dpmpp_2s_ancestral",
    "dpm++_sde": "dpmpp_sde",
    "dpm++_2m": "dpmpp_2m",
    "dpm++_2m_sde": "dpmpp_2m_sde",
    "dpm++_3m_sde": "dpmpp_3m_sde",
}
"""The reference's names of k-diffusion's functions, and the host's."""


def host_sampler(name: str, case: GoldenCase):
    """A sampler of the host with the case's options, as far as it has them."""
    from comfy.k_diffusion import sampling
    from comfy.samplers import ksampler

    known = inspect.signature(getattr(sampling, f"sample_{name}")).parameters
    options = {**case.config, "noise_sampler": recorded_noise(case)}
    wanted = ("noise_sampler", "eta", "order", "s_noise", "s_churn", "s_tmin", "s_tmax")
    return ksampler(name, {o: options[o] for o in wanted if o in known and o in options})


@golden("diffbir", "DDIMSampler", "DPMSolverSampler", "EDMSampler", needs_host=True)
def sampler_run(case: GoldenCase, get) -> None:
    name = case.config["sampler"]
    dpm_solver = name == "dpm++_m2"
    timesteps = "interpolated" if dpm_solver else "nearest"
    model, positive, negative = base_and_conds(case, get, timesteps=timesteps)
    from restoration.host.sampling import restoration_sampler

    if dpm_solver:
        schedule, sampler = (
            "diffbir_dpmpp_m2",
            restoration_sampler(registry.samplers()["diffbir_dpmpp_m2"]),
        )
    elif name == "ddim":
        schedule, sampler = "diffbir_ddim", host_sampler("euler", case)
    else:
        schedule = "diffbir_edm"
        sampler = host_sampler(EDM_SAMPLERS[name.removeprefix("edm_")], case)
    done = run(case, model, positive, negative, schedule, sampler)
    case.check(
        {
            "result": done.vp(done.result, -1),
            "network_inputs": as_called(case, "network_inputs", done.network_inputs),
            "network_timesteps": as_called(case, "network_timesteps", done.network_timesteps),
        }
    )


def as_called(case: GoldenCase, name: str, given: list[Tensor]) -> Tensor:
    """What the network was given, in the reference's layout of calls: it may run both branches
    apart, and record the rows of one branch or of both. They get the same x and timesteps."""
    calls, rows = case.tensors.get(name, torch.stack(given)).shape[:2]
    each = torch.stack([call[torch.arange(rows) % len(call)] for call in given])
    return each.repeat_interleave(max(1, calls // len(given)), 0)


class GuidedStep:
    """One spaced step of a guidance case: its coefficients, and the node's patch run on it."""

    def __init__(self, case: GoldenCase, get) -> None:
        get("comfy")
        import comfy.model_sampling as ms

        config = case.config
        self.settings = (config["g_scale"], config["g_repeat"], (0.0, 1.0), None)
        self.sampling = type("Sampling", (ms.ModelSamplingDiscrete, ms.EPS), {})()
        timesteps = spaced_timesteps(config["steps"])
        step = len(timesteps) - 1 - config["index"]
        assert timesteps[step] == config["timestep"]
        self.sigmas = schedule_sigmas(
            registry.schedules()["diffbir_spaced"], self.sampling.sigmas, config["steps"]
        )
        self.sigma = self.sigmas[step]
        exact = torch.tensor([unrounded(s) for s in self.sigmas.tolist()], dtype=torch.float64)
        alphas = 1 / (1 + exact**2)
        self.alpha = alphas[step]
        self.coefs = posterior(alphas[step], alphas[step + 1])
        self.scale_factor = config.get("scale_factor", 1.0)

    def guided(self, guidance, x0: Tensor) -> Tensor:
        model = SimpleNamespace(
            model_sampling=self.sampling,
            process_latent_out=lambda latent: latent / self.scale_factor,
        )
        options = {"transformer_options": {"sample_sigmas": self.sigmas}}
        args = {"denoised": x0, "sigma": self.sigma[None], "model": model}
        with torch.inference_mode():
            return guidance({**args, "model_options": options})


def mean_squares(difference: Tensor, weights: Tensor | float = 1.0) -> Tensor:
    """Mean of every sample, summed over the batch."""
    return (weights * difference.square()).mean((1, 2, 3)).sum()[None]


@golden("diffbir", "MSEGuidance + apply_cond_fn (v2.0.0)", needs_host=True)
def latent_guidance(case: GoldenCase, get) -> None:
    step = GuidedStep(case, get)
    from restoration.diffbir.guide import LatentGuidance
    from restoration.diffbir.losses import latent_mse_weight

    x0, target = case.tensors["pred_x0"], case.tensors["target"]
    coef = float(step.coefs.x0_coef)
    once = latent_mse_weight(case.config["g_scale"], x0[0].numel(), coef, 1)
    case.check(
        {
            "guided_x0": step.guided(LatentGuidance(target, "latent_mse", *step.settings), x0),
            "delta": once * coef * (target - x0),
            "loss": mean_squares(x0 - target),
            "posterior_mean_coef1": step.coefs.x0_coef[None],
        }
    )


@golden("diffbir", "MSEGuidance + apply_cond_fn (v1)", needs_host=True)
def latent_guidance_v1(case: GoldenCase, get) -> None:
    step = GuidedStep(case, get)
    from restoration.diffbir.guide import LatentGuidance
    from restoration.diffbir.losses import latent_mse_weight

    x_t, target = case.tensors["x_t"], case.tensors["target"]
    alpha, coefs = step.alpha, step.coefs
    x0 = ((x_t - (1 - alpha).sqrt() * case.tensors["eps"]) / alpha.sqrt()).float()
    effective = step.guided(LatentGuidance(target, "latent_mse_v1", *step.settings), x0)
    # The reference's own x0 moves by all of what shifts the mean by half.
    scale, repeat = step.settings[:2]
    moved = 2 * latent_mse_weight(scale, x0[0].numel(), 1.0, repeat, "latent_mse_v1")
    case.check(
        {
            "pred_x0": x0,
            "guided_x0": torch.lerp(x0, target, moved),
            "mean_unguided": coefs.x0_coef * x0 + coefs.x_coef * x_t,
            "mean": coefs.x0_coef * effective + coefs.x_coef * x_t,
        }
    )


@golden(
    "diffbir",
    "MSEGuidance + apply_cond_fn in rgb space (v2.0.0)",
    "WeightedMSEGuidance + apply_cond_fn in rgb space (v2.0.0)",
    needs_host=True,
)
def rgb_guidance(case: GoldenCase, get) -> None:
    step = GuidedStep(case, get)
    import comfy.sd
    from comfy.ldm.models.autoencoder import AutoencoderKL

    from restoration.diffbir.guide import PixelDifference, RgbGuidance, private_decoder
    from restoration.diffbir.losses import edge_weights, rgb_direction
    from restoration.tests.host.networks import strip_prefix

    layout = {"ddconfig": case.config["ddconfig"], "embed_dim": case.config["embed_dim"]}
    weights = strip_prefix(case.state_dict(), "first_stage_model.")
    with torch.inference_mode():  # as a loader node makes it
        network = AutoencoderKL(**layout)  # its encoder is not part of the case
        assert weights and set(weights) <= set(network.state_dict())
        vae = comfy.sd.VAE(sd=network.state_dict() | weights, config={"params": layout})
    x0, target = case.tensors["latent_x0"], case.tensors["target_rgb"]
    weighted = case.module.startswith("Weighted")
    compare = PixelDifference(edge_weights(target) if weighted else None)
    guidance = RgbGuidance(target, vae, compare, *step.settings)
    decoder = private_decoder(vae.first_stage_model, x0.device)
    decoded = decoder.decode(x0 / step.scale_factor)
    weights = 1.0 if compare.weights is None else compare.weights
    rows = zip(decoded.split(1), target.split(1), strict=True)
    difference = torch.cat([compare(*pair, row) for row, pair in enumerate(rows)])
    found = {
        "guided_x0": step.guided(guidance, x0),
        "decoded": decoded,
        "delta_rgb": rgb_direction(difference, case.config["g_scale"]),
        "loss": mean_squares(decoded - target, weights),
        "posterior_mean_coef1": step.coefs.x0_coef[None],
    }
    case.check(found | ({"weight_map": weights} if weighted else {}))
