"""PASD's networks: image encoder, control branch, pixel-aware UNets, and the published files."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from restoration.common.diffusion import q_sample
from restoration.common.schedule import scaled_linear_alphas, unipc_timesteps
from restoration.tests.golden.suite import GoldenCase, golden


def heads(config: dict[str, Any]) -> dict[str, int]:
    """Our fields of the heads, which no file tells: an integer is their number at every level, a
    list the number by level, whose width is then one."""
    number = config["attention_head_dim"]
    if isinstance(number, int):
        return {"num_heads": number, "num_head_channels": -1}
    (width,) = {c // n for c, n in zip(config["block_out_channels"], number, strict=True)}
    return {"num_heads": -1, "num_head_channels": width}


def pasd_config(config: dict[str, Any]):
    """Our own config from the reference's; the sizes are read from the weights elsewhere."""
    from restoration.pasd.config import PASDConfig

    levels = len(config["block_out_channels"])
    kinds = config.get("down_block_types") or ["CrossAttn"] * (levels - 1) + ["Down"]
    depth = config.get("transformer_layers_per_block", 1)
    depths = [depth] * levels if isinstance(depth, int) else depth
    return PASDConfig(
        channels=tuple(config["block_out_channels"]),
        num_res_blocks=config["layers_per_block"],
        depths=tuple(
            depth if kind.startswith("Cross") else 0
            for depth, kind in zip(depths, kinds, strict=True)
        ),
        middle_depth=depths[-1],
        context_dim=config["cross_attention_dim"],
        use_linear=config.get("use_linear_projection", False),
        adm_channels=config.get("projection_class_embeddings_input_dim"),
        in_channels=config["in_channels"],
        **heads(config),
    )


def size_embedding(case: GoldenCase) -> Tensor | None:
    """SDXL's second conditioning: pooled text, then the sinusoids of six numbers."""
    if "time_ids" not in case.tensors:
        return None
    from comfy.ldm.modules.diffusionmodules.util import timestep_embedding

    ids = case.tensors["time_ids"]
    waves = timestep_embedding(ids.flatten().float(), case.config["addition_time_embed_dim"])
    return torch.cat([case.tensors["text_embeds"], waves.reshape(len(ids), -1)], 1)


@golden("pasd", "degradation-removal encoder (controlnet_cond_embedding)")
def image_encoder(case: GoldenCase, get) -> None:
    from restoration.common.hint_encoder import HintEncoder, hint_encoder_config
    from restoration.common.state_dict import with_prefix
    from restoration.pasd.checkpoint import ENCODER_PREFIX

    weights = with_prefix(case.state_dict(), ENCODER_PREFIX)
    network = HintEncoder(**hint_encoder_config(weights))
    network.load_state_dict(weights)
    image = case.tensors["image"]
    with torch.no_grad():
        found = {"embedding": network(image)}
        if network.has_heads:
            found |= {f"rgb_{i}": rgb for i, rgb in enumerate(network.rgbs(image))}
    case.check_all(found)


def rows(value: Tensor, count: int) -> Tensor:
    """One number for all, or one a row, as float32."""
    return value.reshape(-1).expand(count).float()


@golden("pasd", "ControlNet branch", needs_host=True)
def control_branch(case: GoldenCase, get) -> None:
    get("comfy")
    from restoration.host.pasd import build_control, build_encoder, fidelity_scaled
    from restoration.pasd.checkpoint import config_from, control_part

    config, text = case.config, case.tensors
    weights, encoder = control_part(case.state_dict())
    sizes = pasd_config(config)
    assert replace(config_from(weights), **heads(config)) == sizes
    import comfy.ops

    layers = {"operations": comfy.ops.manual_cast, "dtype": torch.float32, "device": "cpu"}
    networks = [build_encoder(encoder, sizes, **layers), build_control(weights, sizes, **layers)]
    for network, named in networks:
        network.load_state_dict(named)
    (hints, _), (control, _) = networks
    x = text["sample"]
    with torch.no_grad():
        residuals, middle = control(
            x,
            rows(text["timestep"], len(x)),
            text["encoder_hidden_states"],
            hints(text["image"]),
            size_embedding(case),
        )
        rgbs = hints.rgbs(text["image"]) if hints.has_heads else []
    maps = [*residuals, middle]
    if config["guess_mode"]:
        scales = torch.logspace(-1, 0, len(maps)) * config["conditioning_scale"]
        maps = [each * scale for each, scale in zip(maps, scales, strict=True)]
    elif config["fg_mask"]:
        maps = [fidelity_scaled(each, text["fg_mask"], 1.5, 0.6) for each in maps]
    else:
        maps = [each * config["conditioning_scale"] for each in maps]
    found = {f"residual_{i:02}": each for i, each in enumerate(maps[:-1])} | {"mid": maps[-1]}
    found |= {f"rgb_{i}": rgb for i, rgb in enumerate(rgbs)}
    case.check_all({name: value for name, value in found.items() if name in case.data["outputs"]})


@golden(
    "pasd",
    "manifest controlnet",
    "manifest controlnet_rrdb",
    "manifest controlnet_sdxl",
    "manifest unet_pasd",
    "manifest unet_pasd_light",
    "manifest unet_pasd_sdxl",
    needs_host=True,
)
def published_file(case: GoldenCase, get) -> None:
    """The full-size file is recognised and its part loads strictly, without weights."""
    get("comfy")
    import comfy.ops

    from restoration.host.pasd import build_attention, build_control, build_encoder
    from restoration.pasd.checkpoint import added_part, config_from, control_part

    groups = case.manifest()
    contents = {
        key: torch.empty(shape, device="meta")
        for group in groups.values()
        for key, (shape, _) in group.items()
    }
    layers = {"operations": comfy.ops.manual_cast, "device": "meta"}
    if "controlnet_mid_block.weight" in contents:
        weights, encoder = control_part(contents)
        config = config_from(weights)
        made = [build_encoder(encoder, config, **layers), build_control(weights, config, **layers)]
        total = case.data["parameters"]
    else:
        variant, added = added_part(contents)
        assert added.keys() == groups["added"].keys()
        made = [build_attention(variant, added, config_from(contents), **layers)]
        total = case.data["added_parameters"]
    for network, named in made:
        network.load_state_dict(named, strict=True, assign=True)
    assert sum(p.numel() for network, _ in made for p in network.parameters()) == total


def base_unet(case: GoldenCase, weights: dict[str, Tensor]):
    """The case's UNet in the host, without what PASD adds."""
    import comfy.utils

    from restoration.tests.host.networks import diffusers_unet_config, unet_model

    config = diffusers_unet_config(case.config)
    table = comfy.utils.unet_to_diffusers(config)
    return unet_model(config, {table[k]: value for k, value in weights.items() if k in table})


@golden("pasd", "UNet, variant pasd", "UNet, variant pasd_light", needs_host=True)
def pixel_aware_unet(case: GoldenCase, get) -> None:
    """One call with recorded residuals in the place of the control network's."""
    get("comfy")
    import comfy.conds
    import comfy.ops
    from comfy.patcher_extension import WrappersMP

    from restoration.host.extra_blocks import after
    from restoration.host.pasd import PASDBranch, build_attention, patched_with
    from restoration.pasd.checkpoint import added_part
    from restoration.tests.host.networks import call_model, conditioning

    text, config = case.tensors, pasd_config(case.config)
    variant, added = added_part(case.state_dict())
    assert variant == case.config["variant"]
    layers = {"operations": comfy.ops.manual_cast, "dtype": torch.float32, "device": "cpu"}
    attention, named = build_attention(variant, added, config, **layers)
    attention.load_state_dict(named)
    names = sorted(name for name in text if name.startswith("residual_"))

    class Recorded(PASDBranch):
        def __init__(self) -> None:
            self.pasd = SimpleNamespace(variant=variant, attention=SimpleNamespace(model=attention))
            self.strength, self.patchers, self.residuals_per_cell = 1.0, (), 0

        def embed(self, pixels: Tensor) -> Tensor:
            return pixels[..., ::8, ::8]

        def residuals(self, call) -> tuple[list[Tensor], Tensor]:
            return [text[name] for name in names], text["mid"]

    x = text["sample"]
    picture = torch.zeros(len(x), 8 * x.shape[-2], 8 * x.shape[-1], 3)
    model = patched_with(base_unet(case, case.state_dict()), Recorded(), picture)
    found = {}

    def watch(executor, *args, **kwargs):
        """Inside all patches: what every decoder layer gives to the next."""

        def keep(name: str):
            return lambda output: found.setdefault(name, output.clone())

        names = {
            f"output_blocks.{layer.index}": keep("up_{}_{}".format(*layer.name))
            for layer in config.decoder
        }
        with after(executor.class_obj, names):
            return executor(*args, **kwargs)

    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "test", watch)
    y = size_embedding(case)
    entries = {} if y is None else {"model_conds": {"y": comfy.conds.CONDRegular(y)}}
    steps = text["timestep"].reshape(-1).expand(len(x))
    positive = conditioning(text["encoder_hidden_states"], **entries)
    (found["noise_pred"],) = call_model(model, x, steps, positive)
    case.check_all(found)


@golden(
    "pasd", "denoising loop, variant pasd", "denoising loop, variant pasd_light", needs_host=True
)
def denoising_loop(case: GoldenCase, get) -> None:
    """A whole run through the host's guider and our sampler, and every prediction once more from
    the recorded latents."""
    get("comfy")
    import comfy.sample

    from restoration.host.pasd import PASDBranch, pasd_model, patched_with
    from restoration.host.sampling import restoration_sampler, restoration_sigmas
    from restoration.host.tiler import TilePlan, apply_tiles
    from restoration.tests.host.networks import call_model, conditioning, strip_prefix

    config, text, weights = case.config, case.tensors, case.state_dict()
    pasd = pasd_model(weights, weights, config=pasd_config(config))
    assert pasd.variant == config["variant"]
    branch = PASDBranch(pasd, config["conditioning_scale"])
    model = base_unet(case, strip_prefix(weights, "unet."))
    model = patched_with(model, branch, text["image"].movedim(1, -1))
    height, width = text["initial_latents"].shape[-2:]
    side = min(config["latent_tiled_size"], height, width)
    if height * width > config["latent_tiled_size"] ** 2:
        plan = TilePlan(side, config["latent_tiled_overlap"], weighting="authors")
        model = apply_tiles(model, plan)

    ends_clean = config["final_sigma"] == "0"
    schedule = "pasd_unipc" if ends_clean else "pasd_unipc_original"
    steps = config["steps"]
    sigmas = restoration_sigmas(model, schedule, steps)
    found = {
        "initial_latents": start_point(case),
        "timesteps": torch.tensor(unipc_timesteps(steps)),
        "sigmas": sigmas,
    }
    scale = (1 + sigmas**2).sqrt()
    conds = [conditioning(text[name]) for name in ("positive", "negative")]
    run: list[tuple[Tensor, Tensor]] = []
    start = text["initial_latents"]  # as noise on an empty latent at the highest level
    samples = comfy.sample.sample_custom(
        model,
        start,
        config["guidance_scale"],
        restoration_sampler("pasd_unipc"),
        sigmas,
        *conds,
        torch.zeros_like(start),
        callback=lambda step, denoised, x, total: run.append((x.clone(), denoised.clone())),
    )
    result = model.get_model_object("latent_format").process_in(samples)
    after = [*(x for x, _ in run[1:]), result]
    for i, (x, denoised) in enumerate(run):
        found[f"noise_pred_{i}"] = (x - denoised) / sigmas[i]
        found[f"latents_{i}"] = after[i] / scale[i + 1]
    case.check_all(found)

    for i, timestep in enumerate(text["timesteps"]):
        x = text[f"latents_{i - 1}"] if i else start
        eps, uncond = call_model(model, x, timestep.expand(len(x)), *conds)
        guided = uncond + config["guidance_scale"] * (eps - uncond)
        case.check({f"noise_pred_{i}": guided})


def start_point(case: GoldenCase) -> Tensor:
    """The low-quality latents noised twice, or noise, as the case's version of diffusers does."""
    config, text = case.config, case.tensors
    if config["init_latent_with_noise"]:
        return text["noise_0"]
    alphas, steps = scaled_linear_alphas(), unipc_timesteps(config["steps"])
    level = config["added_noise_level"]
    if config["add_noise"] != "training schedule" and level not in steps:
        level = steps[-1]
    once = q_sample(text["lr_latents"], text["noise_0"], float(alphas[steps[0]]))
    return q_sample(once, text["noise_1"], float(alphas[level]))
