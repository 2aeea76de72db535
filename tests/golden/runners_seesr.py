"""SeeSR's networks, sampling and tiles, through the host's own UNet, guider and tiler."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from restoration.common.hint_encoder import HintEncoder
from restoration.common.schedule import LAST, schedule_timesteps
from restoration.common.state_dict import check_layout, with_prefix
from restoration.registry import samplers, schedules, starts
from restoration.seesr.config import SD2, SeeSRConfig
from restoration.seesr.keys import (
    ADDED,
    CONTROL_PREFIX,
    ENCODER_PREFIX,
    control_layout,
    control_part,
    rca_layout,
    rca_weights,
    unet_parts,
)
from restoration.tests.golden.runners_foundation import recorded_tile_weights
from restoration.tests.golden.runners_pasd import guessed, numbered
from restoration.tests.golden.suite import GoldenCase, golden
from restoration.tools.check.hosted import seesr_config

SPACINGS = {"leading": "seesr_ddpm", "trailing": "seesr_turbo"}
"""The reference's names of step sets, and our node's."""


def host_unet(config: dict[str, Any], plain: dict[str, Tensor]):
    """MODEL around the host's UNet with a case's plain weights, every one of them."""
    import comfy.utils

    from restoration.tests.host.networks import diffusers_unet_config, unet_model

    unet_config = diffusers_unet_config(config)
    table = comfy.utils.unet_to_diffusers(unet_config)
    return unet_model(unet_config, {table[key]: value for key, value in plain.items()})


def built_control(case: GoldenCase, weights: dict[str, Tensor], config: dict[str, Any]):
    """The control network as the loader builds it."""
    layers = {"dtype": torch.float32, "device": "cpu"}
    network = control_network(control_part(weights), seesr_config(config), layers, assign=False)
    return network.eval()


def control_network(weights: Any, config: SeeSRConfig, layers: Any, assign: bool) -> Any:
    """The control network as the loader checks, builds and fills it."""
    import comfy.ops

    from restoration.seesr.load import branch_weights
    from restoration.seesr.networks import SeeSRControlNet

    check_layout(weights, control_layout(config), "The case", "SeeSR's", "")
    network = SeeSRControlNet(config, operations=comfy.ops.manual_cast, **layers)
    network.load_state_dict(branch_weights(weights, config), assign=assign)
    return network


def unet_rcas(added: Any, config: SeeSRConfig, layers: Any, assign: bool) -> Any:
    """The UNet's RCAs as the loader checks, builds and fills them."""
    import comfy.ops

    from restoration.seesr.networks import rca_layers

    check_layout(added, rca_layout(config, config.unet_sites), "The case", "SeeSR's", "")
    layers = {"operations": comfy.ops.manual_cast, **layers}
    network = rca_layers(config.unet_sites, config, **layers)
    network.load_state_dict(rca_weights(added, config.unet_sites), assign=assign)
    return network


@golden("seesr", "ControlNet conditioning embedding")
def conditioning_embedding(case: GoldenCase, get) -> None:
    config = case.config
    network = HintEncoder(
        tuple(config["block_out_channels"]), config["conditioning_embedding_channels"]
    )
    network.load_state_dict(with_prefix(case.state_dict(), ENCODER_PREFIX))
    with torch.no_grad():
        case.check({"embedding": network(case.tensors["hint"])})


@golden("seesr", "ControlNet", needs_host=True)
def controlnet(case: GoldenCase, get) -> None:
    get("comfy")
    network, given = built_control(case, case.state_dict(), case.config), case.tensors
    x = given["x"]
    with torch.no_grad():
        residuals, middle = network(
            x,
            torch.full((len(x),), float(case.config["timestep"])),
            given["text"],
            network.hint(given["hint"]),
            given["image_tokens"],
            {},
        )
    maps, scale = [*residuals, middle], case.config.get("conditioning_scale", 1.0)
    if case.config.get("guess_mode"):
        maps = guessed(maps, scale)
    else:
        maps = [scale * each for each in maps]
    case.check({f"down_{i:02}": each for i, each in enumerate(maps[:-1])} | {"mid": maps[-1]})


@golden("seesr", "UNet", needs_host=True)
def unet(case: GoldenCase, get) -> None:
    """The real patch with a branch that hands out the recorded residuals."""
    get("comfy")

    from restoration.host.branch import BranchResult, ImageBranch, apply_branch
    from restoration.seesr.networks import rca_blocks
    from restoration.tests.host.networks import call_model, conditioning

    config, given = seesr_config(case.config), case.tensors
    plain, added = unet_parts(case.state_dict())
    rca = unet_rcas(added, config, {"dtype": torch.float32}, assign=False)
    recorded = [given[name] for name in numbered(given, "down_")]

    class Recorded(ImageBranch):
        patchers = ()
        residuals_per_cell = 0.0

        def embed(self, pixels):
            return pixels[..., ::8, ::8]

        def run(self, call):
            embeds = call.layout.rows(lambda _: given["image_tokens"], "tokens")
            return BranchResult(
                recorded,
                given["mid"] if recorded else torch.zeros(1),
                rca_blocks(rca, config.unet_sites, embeds, call.options),
            )

    x = given["x"]
    image = torch.zeros(1, 8 * x.shape[-2], 8 * x.shape[-1], 3)
    model, _ = apply_branch(host_unet(case.config, plain), Recorded(), image, 0.0, 1.0)
    timesteps = torch.full((len(x),), case.config["timestep"])
    (eps,) = call_model(model, x, timesteps, conditioning(given["text"]))
    case.check({"eps": eps})


def seesr(case: GoldenCase, get):
    """(MODEL with SeeSR applied by the node, positive, negative) of a case with both networks."""
    get("comfy")
    from restoration.nodes.seesr import SeeSRControlApply
    from restoration.seesr.load import seesr_model
    from restoration.tagger.run import TagEmbeds
    from restoration.tests.host.networks import conditioning

    weights, given = case.state_dict(), case.tensors
    control = with_prefix(weights, CONTROL_PREFIX)
    unet = {key: value for key, value in weights.items() if not key.startswith(CONTROL_PREFIX)}
    networks, plain = seesr_model(unet, control, config=seesr_config(case.config["unet"]))
    (model,) = SeeSRControlApply.execute(
        host_unet(case.config["unet"], plain),
        networks,
        given["hint"].movedim(1, -1),
        TagEmbeds(given["image_tokens"]),
        case.config["conditioning_scale"],
        0.0,
        1.0,
    ).result
    positive = conditioning(given["text"])
    # Without guidance there is none, and the host does not run it.
    negative = conditioning(given.get("negative_text", given["text"]))
    return model, positive, negative


def schedule_name(case: GoldenCase) -> str:
    settings = case.config["scheduler"]
    expected = {
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "prediction_type": "epsilon",
        "steps_offset": 1,
    }
    assert {name: settings[name] for name in expected} == expected
    return SPACINGS[settings["timestep_spacing"]]


def unscaled(latent: Tensor) -> Tensor:
    """A latent in the model's scale as a LATENT socket carries it."""
    import comfy.latent_formats

    return comfy.latent_formats.SD15().process_out(latent)


def start_noise(case: GoldenCase, model, sigmas: Tensor):
    """(NOISE, LATENT) of the nodes' start point, from the recorded noise instead of a seed's."""
    from unittest.mock import patch

    import comfy.sample

    from restoration.host.sampling import SeededNoise, embedded_start

    given = case.tensors
    latent = {"samples": unscaled(given.get("lr_latents", given["noise"]))}
    start = {"lr": "seesr", "noise": "noise"}[case.config.get("start_point", "lr")]
    assert case.config["start_steps"] == LAST, "the authors' start, and the only one of our node"
    with patch.object(comfy.sample, "prepare_noise", lambda *_: given["noise"]):
        source, noised = embedded_start(model, latent, SeededNoise(0), sigmas, starts()[start], 0)
        return source, source.generate_noise(latent), latent, noised


@golden("seesr", "LR embedding (LRE) start", needs_host=True)
def lre_start(case: GoldenCase, get) -> None:
    get("comfy")
    from restoration.nodes.sampling import RestorationSigmas
    from restoration.tests.host.networks import SMALL, empty_unet, ldm_unet_config

    model = empty_unet(ldm_unet_config(SMALL))
    steps = case.config["num_inference_steps"]
    (sigmas,) = RestorationSigmas.execute(model, schedule_name(case), steps, 1.0).result
    _, noise, latent, noised = start_noise(case, model, sigmas)
    # As the host's guider and sampler put latent and noise together.
    sampling = model.get_model_object("model_sampling")
    z = model.get_model_object("latent_format").process_in(latent["samples"])
    highest = float(sampling.sigma_max)
    begins_at_the_top = abs(float(sigmas[0]) - highest) <= 1e-5 * highest
    x = sampling.noise_scaling(sigmas[0], noise, z, begins_at_the_top)
    first = schedule_timesteps(schedules()[schedule_name(case)], steps)[0]
    alphas = 1 / (1 + sampling.sigmas[[case.config["start_steps"], int(first)]].double() ** 2)
    case.check(
        {
            "latents_start": x / (1 + sigmas[0] ** 2).sqrt(),
            "sigma_space_start": x,
            "alphas_cumprod": alphas,
        }
    )
    carried = model.get_model_object("latent_format").process_in(noised["samples"])
    case.check({"sigma_space_start": carried})


@golden("seesr", "sampling trajectory", needs_host=True)
def trajectory(case: GoldenCase, get) -> None:
    model, positive, negative = seesr(case, get)
    from comfy.patcher_extension import WrappersMP
    from comfy.samplers import CFGGuider

    from restoration.host.sampling import restoration_sampler
    from restoration.nodes.sampling import RestorationSigmas

    x, x0, times, config = [], [], [], case.config

    def callback(step, denoised, latent, total):
        x.append(latent.clone())
        x0.append(denoised.clone())

    def watch(executor, latent, timesteps, *args, **kwargs):
        times.append(timesteps[0].long())
        return executor(latent, timesteps, *args, **kwargs)

    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "test", watch)
    steps = config["num_inference_steps"]
    (sigmas,) = RestorationSigmas.execute(model, schedule_name(case), steps, 1.0).result
    _, noise, latent, _ = start_noise(case, model, sigmas)
    noises = iter(case.tensors.get("step_noise", ()))
    sampler = restoration_sampler(samplers()["seesr_ddpm"], noise_sampler=lambda *_: next(noises))
    guider = CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(config["guidance_scale"])
    with torch.inference_mode():
        samples = guider.sample(noise, latent["samples"], sampler, sigmas, callback=callback)
    x.append(model.get_model_object("latent_format").process_in(samples))

    def vp(i: int) -> Tensor:
        return x[i] / (1 + sigmas[i] ** 2).sqrt()

    noise_pred = [(x[i] - x0[i]) / sigmas[i] for i in range(steps)]
    case.check(
        {
            "timesteps": torch.stack(times),
            "latents_start": vp(0),
            "noise_pred": torch.stack(noise_pred),
            "latents": torch.stack([vp(i + 1) for i in range(steps)]),
        }
    )


@golden("seesr", "tiled noise prediction", needs_host=True)
def tiled_prediction(case: GoldenCase, get) -> None:
    model, positive, negative = seesr(case, get)
    from restoration.host.tiled_sampling import TilePlan, apply_tiles
    from restoration.tests.host.networks import call_model

    config, x = case.config, case.tensors["noise"]
    side, overlap = config["tile"]
    tiled = apply_tiles(model, TilePlan(side, overlap, weighting="authors"))
    timesteps = schedule_timesteps(schedules()[schedule_name(case)], config["num_inference_steps"])
    first = torch.full((len(x),), timesteps[0])
    guidance, conds = config["guidance_scale"], [positive]
    if guidance > 1:
        conds.append(negative)
    eps, *uncond = call_model(tiled, x, first, *conds)
    if uncond:
        eps = torch.lerp(uncond[0], eps, guidance)
    case.check({"noise_pred": eps, "timesteps": first[:1], **recorded_tile_weights(case)})


def elements(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@golden("seesr", "manifest seesr_unet", needs_host=True)
def unet_manifest(case: GoldenCase, get) -> None:
    """The file splits into a Stable Diffusion 2 UNet, as the host reads it, and our layers."""
    get("comfy")
    import comfy.model_detection
    import comfy.ops
    import comfy.utils

    groups, counts = case.manifest(), case.data["counts"]
    plain, added = unet_parts(case.contents("base", "added"))
    assert set(plain) == set(groups["base"]) and set(added) == set(groups["added"])
    found = comfy.model_detection.unet_config_from_diffusers_unet(plain)
    ours = SD2.unet_config()
    shared = ("model_channels", "channel_mult", "context_dim", "adm_in_channels")
    assert found and {n: found[n] for n in shared} == {n: ours[n] for n in shared}
    assert set(plain) <= set(comfy.utils.unet_to_diffusers(ours))
    network = unet_rcas(added, SD2, {"device": "meta"}, assign=True)
    assert elements(network) == counts["added_keys"]["elements"]
    assert all(ADDED in key for key in groups["added"])


@golden("seesr", "manifest seesr_controlnet", needs_host=True)
def control_manifest(case: GoldenCase, get) -> None:
    get("comfy")
    counts, weights = case.data["counts"], control_part(case.contents("added", "base"))
    network = control_network(weights, SD2, {"device": "meta"}, assign=True)
    assert elements(network) == sum(group["elements"] for group in counts.values())
    assert elements(network.rca) == counts["added_keys"]["elements"]
