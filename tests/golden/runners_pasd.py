"""PASD's networks: image encoder, control branch, pixel-aware UNets, and the published files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from restoration.common.diffusion import q_sample
from restoration.common.schedule import scaled_linear_alphas
from restoration.pasd.sampling import unipc_timesteps
from restoration.registry import samplers, schedules
from restoration.tests.golden.suite import GoldenCase, golden
from restoration.tools.check.hosted import pasd_heads


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
        **pasd_heads(config),
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
    from restoration.pasd.keys import ENCODER_PREFIX

    weights = with_prefix(case.state_dict(), ENCODER_PREFIX)
    network = HintEncoder(**hint_encoder_config(weights))
    network.load_state_dict(weights)
    image = case.tensors["image"]
    with torch.no_grad():
        found = {"embedding": network(image)}
        if network.has_heads:
            found |= {f"rgb_{i}": rgb for i, rgb in enumerate(network.rgbs(image))}
    case.check(found)


def rows(value: Tensor, count: int) -> Tensor:
    """One number for all, or one a row, as float32."""
    return value.reshape(-1).expand(count).float()


def guessed(maps: list[Tensor], scale: float) -> list[Tensor]:
    """The residuals, shallow to deep and the middle, as diffusers' guess mode weighs them."""
    scales = torch.logspace(-1, 0, len(maps)) * scale
    return [each * weight for each, weight in zip(maps, scales, strict=True)]


def control_networks(
    config: Any, weights: dict[str, Tensor], encoder: dict[str, Tensor], layers: Any, assign: bool
) -> tuple[Any, Any]:
    """Image encoder and control network as the loader checks, builds and fills them."""
    import comfy.ops

    from restoration.common.hint_encoder import HintEncoder, hint_encoder_config
    from restoration.common.state_dict import check_layout
    from restoration.host.control_encoder import ControlEncoder, control_weights
    from restoration.pasd.keys import ENCODER_PREFIX, control_layout

    published = weights | {f"{ENCODER_PREFIX}{key}": value for key, value in encoder.items()}
    check_layout(published, control_layout(config, encoder), "The case", "PASD's", "")
    layers = {"operations": comfy.ops.manual_cast, **layers}
    hints = HintEncoder(**hint_encoder_config(encoder), **layers)
    hints.load_state_dict(encoder, assign=assign)
    control = ControlEncoder(config.unet_config(), **layers)
    control.load_state_dict(control_weights(weights, config.unet_config()), assign=assign)
    return hints, control


def attention_network(
    variant: Any, config: Any, added: dict[str, Tensor], layers: Any, assign: bool
) -> Any:
    """What PASD adds to a UNet, as the loader checks, builds and fills it."""
    import comfy.ops

    from restoration.common.state_dict import check_layout
    from restoration.pasd.keys import attention_layout, attention_weights
    from restoration.pasd.networks import pixel_attention

    check_layout(added, attention_layout(variant, config, added), "The case", "PASD's", "")
    layers = {"operations": comfy.ops.manual_cast, **layers}
    network = pixel_attention(variant, config, added, **layers)
    network.load_state_dict(attention_weights(variant, config, added), assign=assign)
    return network


@golden("pasd", "ControlNet branch", needs_host=True)
def control_branch(case: GoldenCase, get) -> None:
    get("comfy")
    from restoration.pasd.attach import fidelity_scaled
    from restoration.pasd.keys import config_from, control_part

    config, text = case.config, case.tensors
    weights, encoder = control_part(case.state_dict())
    sizes = pasd_config(config)
    assert replace(config_from(weights), **pasd_heads(config)) == sizes
    layers = {"dtype": torch.float32, "device": "cpu"}
    hints, control = control_networks(sizes, weights, encoder, layers, assign=False)
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
    maps, scale = [*residuals, middle], config.get("conditioning_scale", 1.0)
    if config.get("guess_mode"):
        maps = guessed(maps, scale)
    elif config.get("fg_mask"):  # the authors' own two factors, in place of the scale
        maps = [fidelity_scaled(each, text["fg_mask"], 1.5, 0.6) for each in maps]
    else:
        maps = [each * scale for each in maps]
    found = {f"residual_{i:02}": each for i, each in enumerate(maps[:-1])} | {"mid": maps[-1]}
    found |= {f"rgb_{i}": rgb for i, rgb in enumerate(rgbs)}
    case.check(found)


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
    from restoration.pasd.keys import added_part, config_from, control_part

    contents, layers = case.contents(), {"device": "meta"}
    if "controlnet_mid_block.weight" in contents:
        weights, encoder = control_part(contents)
        config = config_from(weights)
        made = control_networks(config, weights, encoder, layers, assign=True)
        total = case.data["parameters"]
    else:
        variant, added = added_part(contents)
        assert added.keys() == case.manifest()["added"].keys()
        made = (attention_network(variant, config_from(contents), added, layers, assign=True),)
        total = case.data["added_parameters"]
    assert sum(p.numel() for network in made for p in network.parameters()) == total


def numbered(names: Iterable[str], prefix: str) -> list[str]:
    """Those called prefix and a number, in the order of their numbers."""
    matching = [name for name in names if name.removeprefix(prefix).isdigit()]
    return sorted(matching, key=lambda name: int(name.removeprefix(prefix)))


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
    from restoration.pasd.attach import PASDBranch, patched_with
    from restoration.pasd.keys import added_part
    from restoration.tests.host.networks import call_model, conditioning

    text, config = case.tensors, pasd_config(case.config)
    variant, added = added_part(case.state_dict())
    assert variant == case.config["variant"]
    layers = {"dtype": torch.float32, "device": "cpu"}
    attention = attention_network(variant, config, added, layers, assign=False)
    names = numbered(text, "residual_")

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
    case.check(found)


@golden(
    "pasd", "denoising loop, variant pasd", "denoising loop, variant pasd_light", needs_host=True
)
def denoising_loop(case: GoldenCase, get) -> None:
    """A whole run through the host's guider and our sampler, and every prediction once more from
    the recorded latents."""
    get("comfy")
    import comfy.sample

    from restoration.host.sampling import restoration_sampler, restoration_sigmas
    from restoration.host.tiled_sampling import TilePlan, apply_tiles
    from restoration.pasd.attach import PASDBranch, patched_with
    from restoration.pasd.load import pasd_model
    from restoration.tests.host.networks import call_model, conditioning, strip_prefix

    config, text, weights = case.config, case.tensors, case.state_dict()
    pasd = pasd_model(weights, weights, config=pasd_config(config))
    assert pasd.variant == config["variant"]
    branch = PASDBranch(pasd, config["conditioning_scale"])
    model = base_unet(case, strip_prefix(weights, "unet."))
    model = patched_with(model, branch, text["image"].movedim(1, -1))
    height, width = text["noise_0"].shape[-2:]
    side = min(config["latent_tiled_size"], height, width)
    if height * width > config["latent_tiled_size"] ** 2:
        plan = TilePlan(side, config["latent_tiled_overlap"], weighting="authors")
        model = apply_tiles(model, plan)

    ends_clean = config.get("final_sigma", "0") == "0"
    schedule = "pasd_unipc" if ends_clean else "pasd_unipc_original"
    steps = config["steps"]
    sigmas = restoration_sigmas(model, schedules()[schedule], steps)
    found = {
        "initial_latents": start_point(case),
        "timesteps": torch.tensor(unipc_timesteps(steps)),
        "sigmas": sigmas,
    }
    scale = (1 + sigmas**2).sqrt()
    # Without guidance a case may have no negative text, and the host does not run it.
    conds = [conditioning(text.get(name, text["positive"])) for name in ("positive", "negative")]
    run: list[tuple[Tensor, Tensor]] = []
    start = text.get(
        "initial_latents", found["initial_latents"]
    )  # as noise on an empty latent at the highest level
    samples = comfy.sample.sample_custom(
        model,
        start,
        config["guidance_scale"],
        restoration_sampler(samplers()["pasd_unipc"]),
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
    case.check(found)

    for i, timestep in enumerate(found["timesteps"]):
        x = text.get(f"latents_{i - 1}") if i else start
        if x is None:  # this case records the end of the run only
            continue
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
