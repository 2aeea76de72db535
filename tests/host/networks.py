"""Tiny networks of a golden case, built in the real host: UNet, VAE, and single calls of them.

Everything here needs the `comfy` fixture first: it puts ComfyUI on the path and on the CPU.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from restoration.tests.golden import seeded

Prediction = Literal["eps", "v"]
StateDict = dict[str, Tensor]

UNET_PREFIX = "model.diffusion_model."

SMALL: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "model_channels": 32,
    "channel_mult": [1, 2],
    "num_res_blocks": 1,
    "attention_resolutions": [2, 1],
    "transformer_depth": 1,
    "num_head_channels": 16,
    "context_dim": 16,
    "use_linear_in_transformer": True,
    "hint_channels": 4,
}
"""A reference config in the ldm words, as small as the host's UNet gets: two levels, 1 M."""


def seeded_weights(module: torch.nn.Module, seed: int = 0) -> StateDict:
    """Golden-style weights for every parameter of a module, by its own names."""
    shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
    return {k: torch.from_numpy(v) for k, v in seeded.state_dict(seed, shapes).items()}


def seeded_input(seed: int, name: str, *shape: int) -> Tensor:
    return torch.from_numpy(seeded.random_input(seed, name, shape))


def ldm_unet_config(config: dict[str, Any]) -> dict[str, Any]:
    """ComfyUI's `unet_config` from a reference config in the ldm words (DiffBIR)."""
    levels, blocks = len(config["channel_mult"]), config["num_res_blocks"]
    depths = [
        config["transformer_depth"] if 2**level in config["attention_resolutions"] else 0
        for level in range(levels)
    ]
    return _unet_config(
        image_size=config["image_size"],
        in_channels=config["in_channels"],
        model_channels=config["model_channels"],
        channel_mult=list(config["channel_mult"]),
        num_res_blocks=blocks,
        depths=depths,
        num_head_channels=config["num_head_channels"],
        context_dim=config["context_dim"],
        use_linear_in_transformer=config["use_linear_in_transformer"],
    )


def diffusers_unet_config(config: dict[str, Any]) -> dict[str, Any]:
    """ComfyUI's `unet_config` from a diffusers config (PASD, SeeSR, StyleID).

    attention_head_dim is the NUMBER of heads there, per level or for all.
    """
    widths = config["block_out_channels"]
    depth = config.get("transformer_layers_per_block", 1)
    kinds = config.get("down_block_types") or ["CrossAttn"] * (len(widths) - 1) + ["Down"]
    depths = [
        (depth[level] if isinstance(depth, list) else depth) if kind.startswith("Cross") else 0
        for level, kind in enumerate(kinds)
    ]
    heads = config["attention_head_dim"]
    if isinstance(heads, list):
        per_head = {width // number for width, number in zip(widths, heads, strict=True)}
        assert len(per_head) == 1, "ComfyUI has one width a head for all levels"
        attention = {"num_heads": -1, "num_head_channels": per_head.pop()}
    else:
        attention = {"num_heads": heads, "num_head_channels": -1}
    return _unet_config(
        image_size=config.get("sample_size", 32),
        in_channels=config["in_channels"],
        model_channels=widths[0],
        channel_mult=[width // widths[0] for width in widths],
        num_res_blocks=config["layers_per_block"],
        depths=depths,
        context_dim=config["cross_attention_dim"],
        use_linear_in_transformer=config.get("use_linear_projection", False),
        adm_in_channels=config.get("projection_class_embeddings_input_dim"),
        **attention,
    )


def _unet_config(
    channel_mult: list[int],
    num_res_blocks: int,
    depths: list[int],
    adm_in_channels: int | None = None,
    **rest: Any,
) -> dict[str, Any]:
    per_block = [depth for depth in depths for _ in range(num_res_blocks)]
    # One entry a decoder block, shallow level first: the host takes them from the end.
    decoder = [depth for depth in depths for _ in range(num_res_blocks + 1)]
    return {
        "out_channels": rest["in_channels"],
        "channel_mult": channel_mult,
        "num_res_blocks": [num_res_blocks] * len(channel_mult),
        "transformer_depth": per_block,
        "transformer_depth_middle": max(depths),
        "transformer_depth_output": decoder,
        "num_heads": -1,
        "use_spatial_transformer": True,
        "adm_in_channels": adm_in_channels,
        "num_classes": None if adm_in_channels is None else "sequential",
        "legacy": False,
        "use_checkpoint": False,
        "use_temporal_attention": False,
        "use_temporal_resblock": False,
        **rest,
    }


def empty_unet(
    unet_config: dict[str, Any], prediction: Prediction = "eps", zsnr: bool = False
) -> Any:
    """A ModelPatcher around the host's real UNet, float32, its weights not yet set."""
    import comfy.model_base
    import comfy.model_management
    import comfy.model_patcher
    import comfy.supported_models

    kinds = {"eps": comfy.model_base.ModelType.EPS, "v": comfy.model_base.ModelType.V_PREDICTION}

    class Described(comfy.supported_models.SD20):
        unet_config: ClassVar = {}
        unet_extra_config: ClassVar = {"attn_precision": torch.float32}
        sampling_settings: ClassVar = {"zsnr": True} if zsnr else {}

        def model_type(self, state_dict, prefix=""):
            return kinds[prediction]

    described = Described(unet_config)
    described.set_inference_dtype(torch.float32, None)
    model = described.get_model({}, "", device="cpu")
    model.diffusion_model.eval()
    plain = comfy.model_patcher.ModelPatcher
    patcher = getattr(comfy.model_patcher, "CoreModelPatcher", plain)
    device = comfy.model_management.get_torch_device()  # the CPU, unless a card is to be tested
    return patcher(model, load_device=device, offload_device=torch.device("cpu"))


def unet_model(
    unet_config: dict[str, Any],
    weights: StateDict | None = None,
    prediction: Prediction = "eps",
    zsnr: bool = False,
    seed: int = 0,
) -> Any:
    """`empty_unet` with weights: ldm keys, bare or with the checkpoint's prefix (then others are
    left alone); strict. None: seeded ones."""
    patcher = empty_unet(unet_config, prediction, zsnr)
    unet = patcher.model.diffusion_model
    if weights is None:
        weights = seeded_weights(unet, seed)
    elif any(name.startswith(UNET_PREFIX) for name in weights):
        weights = strip_prefix(weights, UNET_PREFIX)
    unet.load_state_dict(weights)
    return patcher


def strip_prefix(weights: StateDict, prefix: str) -> StateDict:
    return {k[len(prefix) :]: v for k, v in weights.items() if k.startswith(prefix)}


def executed(node: Any, **values: Any) -> Any:
    """A node's outputs, called as the host calls it: one with `is_input_list` gets lists."""
    if node.define_schema().is_input_list:
        values = {name: [value] for name, value in values.items()}
    return node.execute(**values).result


def sigmas_of(patcher: Any, timesteps: Tensor) -> Tensor:
    """The noise levels of integer timesteps, in the host's scale."""
    return patcher.get_model_object("model_sampling").sigmas[timesteps.long()]


def call_model(
    patcher: Any,
    x_vp: Tensor,
    timesteps: Tensor,
    *conditionings: list,
) -> list[Tensor]:
    """One network evaluation for each conditioning through everything a sampler step goes
    through: hooks, areas, control branches, wrappers and patches.

    x_vp: B C H W in the variance-preserving scale; timesteps: B. Returns the raw network outputs
    (eps or v), in the order of the conditionings.
    """
    import comfy.model_patcher
    import comfy.sampler_helpers
    import comfy.samplers

    sigma = sigmas_of(patcher, timesteps)
    scale = (1 + sigma**2).sqrt()[:, None, None, None]
    x = x_vp * scale
    conds = {
        str(number): comfy.sampler_helpers.convert_cond(conditioning)
        for number, conditioning in enumerate(conditionings)
    }
    options = comfy.model_patcher.create_model_options_clone(patcher.model_options)
    options["transformer_options"]["sample_sigmas"] = sigma[:1]
    comfy.sampler_helpers.prepare_model_patcher(patcher, conds, options)
    model, conds, loaded = comfy.sampler_helpers.prepare_sampling(patcher, x.shape, conds, options)
    try:
        with torch.no_grad():
            patcher.pre_run()
            conds = comfy.samplers.process_conds(model, x, conds, x.device)
            out = comfy.samplers.calc_cond_batch(model, list(conds.values()), x, sigma, options)
    finally:
        patcher.cleanup()
        comfy.sampler_helpers.cleanup_models(conds, loaded)
    sigma = sigma[:, None, None, None]
    if is_v(patcher):
        # denoised = x / (s^2 + 1) - v s / sqrt(s^2 + 1)
        return [(x / scale**2 - denoised) * scale / sigma for denoised in out]
    return [(x - denoised) / sigma for denoised in out]


def is_v(patcher: Any) -> bool:
    import comfy.model_sampling

    return isinstance(patcher.get_model_object("model_sampling"), comfy.model_sampling.V_PREDICTION)


def conditioning(context: Tensor, **entries: Any) -> list:
    """A CONDITIONING of one entry."""
    return [[context, dict(entries)]]


def sample(
    comfy: Any,
    patcher: Any,
    positive: list,
    negative: list,
    samples: Tensor,
    *,
    steps: int = 2,
    cfg: float = 4.0,
    sampler: str = "euler",
    seed: int = 7,
    inference: bool = True,
) -> Tensor:
    """A whole KSampler run; samples: the empty latent (or the one to start from)."""
    with torch.inference_mode(inference):
        (out,) = comfy.nodes.common_ksampler(
            patcher, seed, steps, cfg, sampler, "normal", positive, negative, {"samples": samples}
        )
    return out["samples"]


def tiny_vae(seed: int = 0) -> Any:
    """A real VAE of 0.4 M parameters: 8 pixels a cell, 4 channels."""
    import comfy.sd
    from comfy.ldm.models.autoencoder import AutoencoderKL

    layout = {
        "double_z": True,
        "z_channels": 4,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 32,
        "ch_mult": [1, 1, 1, 1],
        "num_res_blocks": 1,
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    network = AutoencoderKL(ddconfig=layout, embed_dim=4)
    weights = seeded_weights(network, seed)
    return comfy.sd.VAE(sd=weights, config={"params": {"ddconfig": layout, "embed_dim": 4}})


def core_controlnet(unet_config: dict[str, Any], seed: int = 0) -> Any:
    """An ordinary ControlNet of the host, for a picture hint, that fits the UNet."""
    import comfy.cldm.cldm
    import comfy.controlnet
    import comfy.ops

    known = {k: v for k, v in unet_config.items() if k != "out_channels"}
    network = comfy.cldm.cldm.ControlNet(
        **known, hint_channels=3, dtype=torch.float32, operations=comfy.ops.disable_weight_init
    )
    network.load_state_dict(seeded_weights(network, seed))
    return comfy.controlnet.ControlNet(network.eval(), load_device=torch.device("cpu"))
