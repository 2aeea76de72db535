"""OSEDiff and PiSA-SR through the nodes, core's KSampler, VAE nodes and the tiler."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from restoration.common.color import adain, wavelet_color_fix
from restoration.common.schedule import LAST, scaled_linear_alphas
from restoration.common.sizing import scaled_size
from restoration.common.state_dict import StateDict, with_prefix
from restoration.common.tiling import tile_weights
from restoration.common.unet import UNetSizes
from restoration.common.vae_layout import VAESizes
from restoration.onestep.config import LORA_ALPHA, SD2, OneStepConfig
from restoration.onestep.keys import UNET, VAE, OneStepWeights, layout, paired, read
from restoration.onestep.sampling import osediff_step
from restoration.tests.golden.runners_seesr import host_unet, seesr_config, unscaled
from restoration.tests.golden.suite import GoldenCase, golden

WEIGHTING = {"osediff": "authors", "pisasr": "gaussian"}
TABLES = (UNET, VAE)


@golden("osediff", "colour fix")
@golden("pisasr", "colour fix")
def color_fix(case: GoldenCase, get) -> None:
    levels, eps = case.config["levels"], case.config["eps"]
    result, source = (pixels(case.tensors[f"{name}_uint8"]) for name in ("result", "source"))
    fixed = {
        "wavelet": wavelet_color_fix(result, source, levels),
        "adain": adain(result, source, eps),
    }
    case.check(fixed)
    files = {f"{name}_uint8": truncated(image) for name, image in fixed.items()}
    case.check(files, tolerance=1)


def pixels(file: Tensor) -> Tensor:
    """A file's pixels, H W 3, as 1 3 H W in 0..1."""
    return file.movedim(-1, 0)[None].float() / 255


def truncated(image: Tensor) -> Tensor:
    """1 3 H W in about 0..1 as a file's pixels, as the authors convert."""
    return (image.clamp(0, 1) * 255).to(torch.uint8).movedim(1, -1)[0]


def vae_sizes(config: dict[str, Any]) -> VAESizes:
    return VAESizes(
        tuple(config["block_out_channels"]), config["layers_per_block"], config["latent_channels"]
    )


def config_of(case: GoldenCase) -> OneStepConfig:
    """Our own config from the reference's; what a case does not name, it does not have."""
    config = case.config
    unet: UNetSizes = seesr_config(config["unet"]).sizes if "unet" in config else SD2.unet
    return OneStepConfig(unet, vae_sizes(config["vae"]) if "vae" in config else SD2.vae)


def onestep_model(case: GoldenCase, weights: StateDict):
    """ONESTEP_MODEL of a case, as the loader gives it. weights: all of the case's."""
    from restoration.onestep.load import OneStepModel

    config = config_of(case)
    assert case.config["lora_alpha"] == LORA_ALPHA, "peft's default, which is in no file"
    file = {key: value for key, value in weights.items() if key.startswith(TABLES)}
    if case.method == "osediff":  # a case of the UNet alone has none of the VAE's
        ranks = case.config["ranks"]
        whole = layout(
            "osediff", {(UNET, ""): ranks["rank_unet"], (VAE, ""): ranks["rank_vae"]}, config
        )
        file |= {
            key: torch.zeros(shape)
            for key, shape in whole.items()
            if key not in file and key.startswith(VAE)
        }
    return OneStepModel(
        read({**file, **case.config["ranks"]}, "The case", config), config, case.name
    )


class Restorer:
    """A case's base and file, built once, and what the node makes of them."""

    def __init__(self, case: GoldenCase, get, weights: StateDict | None = None) -> None:
        get("comfy")
        self.case = case
        weights = weights or case.state_dict()
        self.base = host_unet(case.config["unet"], with_prefix(weights, "unet."))
        self.file = onestep_model(case, weights)

    def applied(self, vae: Any = None, **dials: float):
        """(MODEL, VAE) with the file applied. dials: in place of the case's own."""
        from restoration.nodes.onestep import OSEDiffApply, PiSASRApply
        from restoration.tests.host.networks import tiny_vae

        config = self.case.config
        if self.case.method == "osediff":
            if vae is None:  # not in the case
                return OSEDiffApply.execute(self.base, tiny_vae(), self.file, 1.0, 0.0).result
            return OSEDiffApply.execute(self.base, vae, self.file, 1.0).result
        lambdas = {name: config.get(name, 1.0) for name in ("lambda_pix", "lambda_sem")}
        if config.get("default"):
            lambdas = {"lambda_pix": 1.0, "lambda_sem": 1.0}
        (model,) = PiSASRApply.execute(self.base, self.file, **{**lambdas, **dials}).result
        return model, vae


def restored(get, model: Any, text: Tensor, z: Tensor, seed: int = 11) -> tuple[Tensor, list[int]]:
    """(x0 of a latent by core's KSampler, the timesteps that the network heard); both latents in the
    network's scale."""
    comfy = get("comfy")
    from comfy.patcher_extension import WrappersMP

    from restoration.tests.host.networks import conditioning

    heard: list[int] = []

    def watch(executor: Any, x: Tensor, timesteps: Tensor, *args: Any, **kwargs: Any) -> Any:
        heard.extend(round(float(each)) for each in timesteps)
        return executor(x, timesteps, *args, **kwargs)

    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "test", watch)
    both = [conditioning(text)] * 2
    latent = {"samples": unscaled(z)}
    with torch.inference_mode():
        (out,) = comfy.nodes.common_ksampler(
            model, seed, 1, 1.0, "euler", "simple", *both, latent, denoise=1.0
        )
    return model.get_model_object("latent_format").process_in(out["samples"]), heard


def predicted(case: GoldenCase, z: Tensor, x0: Tensor) -> Tensor:
    """What the network said, from the step's result."""
    if case.method == "pisasr":
        return z - x0
    sigma = float(osediff_step().sigmas[-1])
    return (math.hypot(1, sigma) * z - x0) / sigma


@golden("osediff", "UNet with adapters", needs_host=True)
def unet_with_adapters(case: GoldenCase, get) -> None:
    model, _ = Restorer(case, get).applied()
    z = case.tensors["latents"]
    x0, heard = restored(get, model, case.tensors["text"], z)
    assert set(heard) == {case.config["timestep"]}
    case.check({"x0": x0, "eps": predicted(case, z, x0)})


@golden("pisasr", "dials", needs_host=True)
def dials(case: GoldenCase, get) -> None:
    given, found = case.tensors, {}
    z, restorer = given["latents"], Restorer(case, get)

    def at(lambda_pix: float, lambda_sem: float) -> Tensor:
        model, _ = restorer.applied(lambda_pix=lambda_pix, lambda_sem=lambda_sem)
        x0, heard = restored(get, model, given["text"], z)
        assert set(heard) == {case.config["timestep"]}
        return x0

    for i, pair in enumerate(case.config["lambdas"]):
        found[f"x0_{i}"] = at(*pair)
        found[f"pred_{i}"] = z - found[f"x0_{i}"]
    case.check(found | {"pred_pix": z - at(1.0, 0.0), "pred_full": z - at(1.0, 1.0)})


@golden("osediff", "one step", needs_host=True)
def one_step(case: GoldenCase, get) -> None:
    get("comfy")
    step, given = osediff_step(), case.tensors
    assert case.config["num_inference_steps"] == 1 and case.config["timestep"] == step.timestep
    from restoration.host.one_step import OneStepSampling

    sampling = OneStepSampling("", step.timestep, step.sigmas, step.x0, step.variance_preserving)
    sigma = sampling.sigma_max[None]

    def x0(z: Tensor, e: Tensor) -> Tensor:
        x = sampling.noise_scaling(sigma, torch.zeros_like(z), z)
        return sampling.calculate_denoised(sigma, e, x)

    halves = [given[name].half().float() for name in ("latents", "eps")]
    alpha = scaled_linear_alphas()[case.config["timestep"] : case.config["timestep"] + 1]
    case.check(
        {
            "x0": x0(given["latents"], given["eps"]),
            "x0_half": x0(*halves),
            "alphas_cumprod": 1 / (1 + step.sigmas[LAST:] ** 2),
            "alphas_cumprod_float64": alpha,
        }
    )


@golden("osediff", "tiled prediction", needs_host=True)
@golden("pisasr", "tiled prediction", needs_host=True)
def tiled_prediction(case: GoldenCase, get) -> None:
    model, _ = Restorer(case, get).applied()
    from restoration.host.tiled_sampling import TilePlan, apply_tiles

    z, (side, overlap) = case.tensors["latents"], case.config["tile"]
    weighting = WEIGHTING[case.method]
    tiled = apply_tiles(model, TilePlan(side, overlap, weighting=weighting))
    x0, heard = restored(get, tiled, case.tensors["text"], z)
    assert set(heard) == {case.config["timestep"]}
    weights = tile_weights(*(min(side, size) for size in z.shape[-2:]), weighting)
    case.check({"x0": x0, "eps": predicted(case, z, x0), "tile_weights": weights})


def host_vae(config: dict[str, Any], weights: dict[str, Tensor]):
    """VAE around the host's network with a case's weights; the decoder may be missing."""
    import comfy.sd
    from comfy.diffusers_convert import convert_vae_state_dict
    from comfy.ldm.models.autoencoder import AutoencoderKL

    widths = config["block_out_channels"]
    layout = {
        "double_z": True,
        "z_channels": config["latent_channels"],
        "resolution": config["sample_size"],
        "in_channels": config["in_channels"],
        "out_ch": config["out_channels"],
        "ch": widths[0],
        "ch_mult": [width // widths[0] for width in widths],
        "num_res_blocks": config["layers_per_block"],
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    parts = {"ddconfig": layout, "embed_dim": config["latent_channels"]}
    own = AutoencoderKL(**parts).state_dict()
    converted = convert_vae_state_dict(dict(weights))
    assert converted and set(converted) <= set(own)
    return comfy.sd.VAE(sd=own | converted, config={"params": parts})


@golden("osediff", "VAE encoder with adapters", needs_host=True)
def vae_encoder(case: GoldenCase, get) -> None:
    get("comfy")
    from comfy import model_management as mm

    from restoration.onestep.attach import adapted_vae

    given, config = case.tensors, case.config["vae"]
    weights = case.state_dict()
    plain = host_vae(config, with_prefix(weights, "vae."))
    layers = {key: value for key, value in weights.items() if key.startswith(VAE)}
    vae = adapted_vae(plain, read_vae(layers, case), 1.0)
    image = given["image"].movedim(1, -1) / 2 + 0.5
    with torch.inference_mode():
        mode = vae.encode(image)
        mm.load_models_gpu([vae.patcher])
        network = vae.first_stage_model
        mean, logvar = network.quant_conv(network.encoder(given["image"])).chunk(2, 1)
    logvar = logvar.clamp(-30, 20)
    scale = config["scaling_factor"]
    sample = mean + (logvar / 2).exp() * given["posterior_noise"]
    case.check(
        {
            "mean": mean,
            "logvar": logvar,
            "latents_mode": mode * scale,
            "latents_sample": sample * scale,
        }
    )


def read_vae(layers: dict[str, Tensor], case: GoldenCase):
    """The VAE's adapters of a case that has no UNet's."""
    assert case.config["lora_alpha"] == LORA_ALPHA
    adapters = paired(layers)[VAE]
    assert {each.rank for each in adapters.values()} == {case.config["ranks"]["rank_vae"]}
    return adapters


def working_size(size: tuple[int, int], upscale: int, process_size: int) -> tuple[int, int]:
    """(height, width) before the enlargement, as both scripts take it: sides below the processed
    size are enlarged first, and truncated."""
    least = process_size // upscale
    return scaled_size(size, least / min(size)) if min(size) < least else size


@golden("osediff", "sizes")
@golden("pisasr", "sizes")
def sizes(case: GoldenCase, get) -> None:
    for row in case.data["rows"]:
        size, upscale = row["input_wh"][::-1], row["upscale"]
        enlarged = working_size(tuple(size), upscale, row["process_size"])
        working = [side * upscale // 8 * 8 for side in enlarged]
        small = enlarged != tuple(size)
        # OSEDiff forgets to keep its last resize.
        back = small and case.method == "pisasr"
        output = [side * upscale for side in size] if back else working
        found = {"working_wh": working[::-1], "output_wh": output[::-1]}
        given = {"input_wh", "upscale", "process_size"}
        assert row == {name: row[name] for name in given} | found
    case.leave(*case.outputs)


@golden("osediff", "image to image", needs_host=True)
@golden("pisasr", "image to image", needs_host=True)
def image_to_image(case: GoldenCase, get) -> None:
    get("comfy")
    config, given = case.config, case.tensors
    assert config["posterior"] == "mode"
    check_prompt(case)
    weights = case.state_dict()
    plain = host_vae(config["vae"], with_prefix(weights, "vae."))
    model, vae = Restorer(case, get, weights).applied(plain)

    picture = working_picture(given["lr_uint8"], config)
    image = torch.from_numpy(np.array(picture)).float()[None] / 255
    with torch.inference_mode():
        z = vae.encode(image) * config["vae"]["scaling_factor"]
        x0, heard = restored(get, model, given["text"], z)
        # The patched one, and the plain one after it, decode alike.
        decoded = vae.decode(unscaled(x0))
        assert torch.equal(decoded, plain.decode(unscaled(x0)))
        # Each part by itself too: a network of random weights magnifies what came before.
        alone, _ = restored(get, model, given["text"], held(case, "latents", z))
        decoded_alone = vae.decode(unscaled(held(case, "x0", alone)))
    assert set(heard) == {config["timestep"]}
    case.check({"latents": z, "x0": alone, "decoded": 2 * decoded_alone.movedim(-1, 1) - 1})
    case.check({"image_uint8": torch.from_numpy(np.array(picture))}, tolerance=0)
    case.check({"x0": x0}, tolerance=10 * case.tolerance)
    check_file(case, decoded, picture)


def held(case: GoldenCase, name: str, found: Tensor) -> Tensor:
    """What the next part begins at: the recorded value, or ours where it is not recorded or another,
    which the comparison names."""
    expected = case.tensors.get(name)
    if expected is None or not torch.allclose(found, expected, rtol=0, atol=case.tolerance):
        return found
    return expected


def check_prompt(case: GoldenCase) -> None:
    """The prompt as our node writes it."""
    from restoration.common.prompts import positive_prompt
    from restoration.registry import prompts

    style = prompts()["osediff" if case.method == "osediff" else "plain"]
    said = {"tags": case.config["tags"] or "", "prompt": case.config["user_prompt"]}
    assert positive_prompt(style, said) == case.config["prompt"]


def working_picture(lr: Tensor, config: dict[str, Any]) -> Image.Image:
    """The picture that is encoded, with Pillow's own resizes from 8 bits to 8 bits."""
    picture, upscale = Image.fromarray(lr.numpy()), config["upscale"]
    size = working_size((picture.height, picture.width), upscale, config["process_size"])
    for height, width in (size, (size[0] * upscale, size[1] * upscale)):
        picture = picture.resize((width, height))
    floored = (picture.width // 8 * 8, picture.height // 8 * 8)
    return picture if picture.size == floored else picture.resize(floored, Image.Resampling.LANCZOS)


def check_file(case: GoldenCase, decoded: Tensor, picture: Image.Image) -> None:
    """The written file, truncated to 8 bits before and after the color fix."""
    config = case.config
    result = pixels(truncated(decoded.movedim(-1, 1)))
    source = pixels(torch.from_numpy(np.array(picture)))
    fixes = {"adain": adain, "wavelet": wavelet_color_fix, "nofix": lambda result, source: result}
    fixed = truncated(fixes[config["align_method"]](result, source))
    if "output_uint8" not in case.outputs:
        return
    expected = case.tensors["output_uint8"]
    if fixed.shape != expected.shape:
        height, width = (config["upscale"] * side for side in case.tensors["lr_uint8"].shape[:2])
        back = Image.fromarray(fixed.numpy()).resize((width, height))
        fixed = torch.from_numpy(np.array(back))
    case.leave("output_uint8")
    difference = (fixed.int() - expected.int()).abs()
    assert difference.max() <= 2 and (difference > 0).float().mean() < 0.01, difference.max()


@golden("osediff", "manifest osediff", needs_host=True)
@golden("pisasr", "manifest pisa_sr", needs_host=True)
def manifest(case: GoldenCase, get) -> None:
    """The published file is read strictly, and every adapter finds its layer in the host's networks
    at full size."""
    get("comfy")
    from comfy.ldm.models.autoencoder import AutoencoderKL
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    from restoration.host.adapters import UNET as IN_MODEL
    from restoration.host.adapters import check_pairs, vae_name

    groups, counts = case.manifest(), case.data["counts"]
    tables = {name: case.contents(name) for name in groups if name.startswith("state_dict")}
    weights: OneStepWeights = read({**tables, **case.data["entries"]})
    each = [*weights.sets.values(), weights.vae]
    elements = sum(t.numel() for adapters in each for pair in adapters.values() for t in pair)
    elements += sum(value.numel() for value in weights.conv_in.values())
    assert elements == sum(counts[name]["elements"] for name in tables)

    import comfy.ops
    import comfy.utils

    operations = {"operations": comfy.ops.disable_weight_init, "device": "meta"}
    unet_config = SD2.unet.unet_config()
    names = comfy.utils.unet_to_diffusers(unet_config)
    unet = OnMeta(UNetModel(**unet_config, **operations), IN_MODEL)
    for adapters in weights.sets.values():
        assert len(adapters) == 258
        pairs = {f"{IN_MODEL}{names[f'{layer}.weight']}": pair for layer, pair in adapters.items()}
        check_pairs(unet, pairs, "the UNet", "")
    with torch.device("meta"):
        layout = {
            "double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3,
            "ch": 128, "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [],
            "dropout": 0.0,
        }  # fmt: skip
        vae = OnMeta(AutoencoderKL(ddconfig=layout, embed_dim=4))
    assert len(weights.vae) == (32 if case.method == "osediff" else 0)
    check_pairs(vae, {f"{vae_name(k)}.weight": pair for k, pair in weights.vae.items()}, "", "")


class OnMeta:
    """As much of a patcher as the check of adapters asks."""

    def __init__(self, network: torch.nn.Module, prefix: str = "") -> None:
        self._network, self._prefix = network, prefix

    def model_state_dict(self) -> dict[str, Tensor]:
        return {f"{self._prefix}{k}": v for k, v in self._network.state_dict().items()}
