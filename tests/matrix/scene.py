"""What a run of the matrix begins with: a small base model, texts, pictures, and a way to sample.

Everything that a cell shares with others is drawn from the seed once; `Scene.check` finds what a
cell left behind in it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from restoration.tests.fuzz.campaign import Fault
from restoration.tests.golden import seeded
from restoration.tests.host import onestep_networks, pasd_networks, seesr_networks
from restoration.tests.host.networks import (
    SMALL,
    conditioning,
    ldm_unet_config,
    seeded_input,
    tiny_vae,
    unet_model,
)

HEIGHT, WIDTH = 8, 12
"""Cells of the latent: one tile of 16 cells, two of 8."""
TWELVE = {**SMALL, "channel_mult": [1, 1, 1], "num_res_blocks": 3}
"""With the twelve decoder blocks that StyleID counts."""


@dataclass(frozen=True)
class Setup:
    """What a sampler is given. latent: as a LATENT holds it; noise: whether the sampler adds some;
    sigmas: None for those of the model's own schedule."""

    model: Any
    positive: list[Any]
    negative: list[Any]
    latent: Tensor
    noise: bool = True
    sigmas: Tensor | None = None


Step = Callable[[Setup], Setup]
"""A node wired between the loaders and the sampler."""


def sample(
    setup: Setup, cfg: float, steps: int, sampler: str = "euler", scheduler: str = "sgm_uniform"
) -> Tensor:
    """A run as the host's SamplerCustom does it."""
    import comfy.sample
    import comfy.samplers

    sampling = setup.model.get_model_object("model_sampling")
    sigmas = setup.sigmas
    if sigmas is None:
        sigmas = comfy.samplers.calculate_sigmas(sampling, scheduler, steps)
    noise = seeded_input(5, "noise", *setup.latent.shape) * setup.noise
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        return comfy.sample.sample_custom(
            setup.model,
            noise,
            cfg,
            comfy.samplers.sampler_object(sampler),
            sigmas.clone(),
            setup.positive,
            setup.negative,
            setup.latent.clone(),
            disable_pbar=True,
            seed=7,
        )


def sd2_like_pasd() -> Any:
    """PASD for the very UNet that the small SeeSR belongs to: one base serves all columns."""
    return pasd_networks.sd15(use_linear=True, num_heads=-1, num_head_channels=16)


def diffbir_control(seed: int) -> Any:
    from restoration.diffbir.keys import layout
    from restoration.diffbir.load import diffbir_control
    from restoration.tests.golden.runners_diffbir import control_config

    config = control_config({**SMALL, "channel_mult": [1, 2, 2]})
    weights = seeded.state_dict(seed + 11, layout(config))
    return diffbir_control({k: torch.from_numpy(v) for k, v in weights.items()}, config)


def base_model(kind: str, seed: int) -> Any:
    if kind == "twelve":
        return unet_model(ldm_unet_config(TWELVE), seed=seed)
    return seesr_networks.base_model(seed)


def lora(model: Any, seed: int) -> dict[str, Tensor]:
    """A LoRA of every attention's projections, in the generic format."""
    found = {}
    for name, value in model.model.state_dict().items():
        if name.endswith(("to_q.weight", "to_out.0.weight")):
            layer = name.removesuffix(".weight")
            up, down = f"{layer}.lora_up.weight", f"{layer}.lora_down.weight"
            # Small: saturated attention would make much of how batches are rounded.
            found[up] = 0.1 * seeded_input(seed, up, value.shape[0], 4)
            found[down] = seeded_input(seed, down, 4, value.shape[1])
    return found


def hypernetwork(seed: int) -> dict[Any, Any]:
    """For texts of 16 and for the small model's widths."""

    def linear(width: int, part: int) -> dict[str, Tensor]:
        weight = seeded_input(seed, f"hypernetwork {width} {part}", width, width) / width**0.5
        return {"linear.weight": weight, "linear.bias": torch.zeros(width)}

    return {width: [linear(width, part) for part in (0, 1)] for width in (16, 32, 64)}


class Scene:
    """One base model with everything that nodes may be wired to. frames: rows of the latent."""

    def __init__(self, kind: str, frames: int, seed: int) -> None:
        self.kind, self.frames, self.seed = kind, frames, seed
        self.model = base_model(kind, seed)
        # Loaded once before it is looked at: the host marks what it has loaded.
        sample(self.setup, 1.0, 1)
        self._weights = {k: v.clone() for k, v in self.model.model.state_dict().items()}
        self._modules = modules_of(self.model)
        self._patcher = patches_of(self.model)

    def write_files(self, models: Path) -> None:
        """A LoRA and a hypernetwork, for nodes that name files."""
        import comfy.utils

        for folder in ("loras", "hypernetworks"):
            (models / folder).mkdir(parents=True, exist_ok=True)
        comfy.utils.save_torch_file(
            lora(self.model, self.seed), str(models / "loras" / f"{self.kind}.safetensors")
        )
        torch.save(hypernetwork(self.seed), models / "hypernetworks" / f"{self.kind}.pt")

    @functools.cached_property
    def setup(self) -> Setup:
        """The plain model's."""
        good, bad = (
            conditioning(seeded_input(3 + self.seed, t, 1, 7, 16)) for t in ("good", "bad")
        )
        latent = torch.zeros(self.frames, 4, HEIGHT, WIDTH)
        return Setup(self.model, good, bad, latent)

    @functools.cached_property
    def sockets(self) -> dict[str, Callable[[], Any]]:
        """A value of every socket that is not the cell's own model and texts."""
        seed, rows = self.seed, self.frames
        makers: dict[str, Callable[[], Any]] = {
            "MODEL": lambda: base_model(self.kind, seed + 1),
            "CONDITIONING": lambda: conditioning(seeded_input(3 + seed, "empty", 1, 7, 16)),
            "IMAGE": lambda: torch.sigmoid(
                seeded_input(9 + seed, "p", rows, 8 * HEIGHT, 8 * WIDTH, 3)
            ),
            "MASK": lambda: torch.sigmoid(4 * seeded_input(9 + seed, "m", 1, HEIGHT, WIDTH)),
            "LATENT": lambda: {
                "samples": seeded_input(9 + seed, "z", rows, 4, HEIGHT, WIDTH) / 0.2
            },
            "VAE": tiny_vae,
            "CLIP": lambda: None,
            "LORA_MODEL": lambda: lora(self.model, seed),
            "CONTROL_NET": lambda: diffbir_control(seed),
            "PASD_MODEL": lambda: pasd_networks.networks(sd2_like_pasd(), seed=41 + seed),
            "PASD_MODEL light": lambda: pasd_networks.networks(
                sd2_like_pasd(), "pasd_light", seed=41 + seed
            ),
            "SEESR_MODEL": lambda: seesr_networks.networks(51 + seed),
            "ONESTEP_MODEL osediff": lambda: onestep_networks.onestep_model("osediff", 71 + seed),
            "ONESTEP_MODEL pisasr": lambda: onestep_networks.onestep_model("pisasr", 71 + seed),
            "DAPE_MODEL": seesr_networks.tiny_tagger,
            "TAG_EMBEDS": lambda: seesr_networks.tag_embeds(rows),
        }
        return {kind: functools.cache(make) for kind, make in makers.items()}

    def accept(self) -> None:
        """Takes the network as it is: what a node of the host has left in it alone (core's bypass of
        a LoRA does) is not for us to answer."""
        import comfy.model_management

        comfy.model_management.unload_all_models()
        self._modules = modules_of(self.model)

    def check(self) -> None:
        """Fault when something was left in the network, or a MODEL that was given was changed. The
        rest the host itself takes back only when it loads the next model."""
        self._unchanged("diffusion_model")
        if patches_of(self.model) != self._patcher:
            raise Fault("a node changed the MODEL that it was given")

    def check_unloaded(self) -> None:
        """Fault when, with everything unloaded, weights are not bit for bit what they were, or
        anything else of the base model is not."""
        import comfy.model_management

        comfy.model_management.unload_all_models()
        self._unchanged("")
        for name, value in self.model.model.state_dict().items():
            if not torch.equal(value, self._weights[name]):
                raise Fault(f"the base model's weights changed: {name}")

    def _unchanged(self, part: str) -> None:
        now, before = modules_of(self.model), self._modules
        changed = sorted(name for name in {*now, *before} if now.get(name) != before.get(name))
        if found := [name for name in changed if name.startswith(part)]:
            raise Fault(f"hooks or attributes were left in the base model: {found[:4]}")


def modules_of(patcher: Any) -> dict[str, Any]:
    """What can be hung on a network: hooks, and attributes of its modules such as a replaced
    `forward`."""
    found = {}
    for name, module in patcher.model.named_modules():
        hooks = [len(getattr(module, f"_{kind}")) for kind in HOOKS]
        own = frozenset(key for key in vars(module) if key not in LOADING)
        found[name] = (*hooks, own)
    return found


HOOKS = ("forward_hooks", "forward_pre_hooks", "backward_hooks", "backward_pre_hooks")
LOADING = {
    "prev_comfy_cast_weights",
    "comfy_cast_weights",
    "comfy_patched_weights",
    "weight_function",
    "bias_function",
    "current_patcher",
    "model_loaded_weight_memory",
    "current_weight_patches_uuid",
    "lowvram_patch_counter",
    "model_lowvram",
    "model_offload_buffer_memory",
    "device",
}
"""Attributes that the host's loader comes and goes with."""


def patches_of(patcher: Any) -> Any:
    """Everything that nodes hang on a MODEL, by structure and identity."""

    def shape(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(key): shape(part) for key, part in value.items()}
        if isinstance(value, (list, tuple)):
            return [shape(part) for part in value]
        return id(value)

    held = ("wrappers", "callbacks", "object_patches", "patches", "injections", "additional_models")
    parts = {name: shape(getattr(patcher, name, {})) for name in held}
    return {name: part for name, part in parts.items() if part}, shape(patcher.model_options)
