"""How each case that comes with the pack is computed, by us, on any device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...common.color import adain as adain_pixels
from ...common.color import wavelet_color_fix
from ...common.diffusion import q_sample
from ...common.hint_encoder import HintEncoder, hint_encoder_config
from ...common.schedule import LAST, scaled_linear_alphas, sigmas_from, signal, zero_terminal_snr
from ...common.state_dict import with_prefix
from ...pasd.keys import ENCODER_PREFIX
from ...stage1.restorer import unclamped
from ...styleid.injection import adain, adain_eps
from .cases import Case


@dataclass(frozen=True)
class Place:
    """Where and how precisely to compute."""

    device: torch.device
    dtype: torch.dtype

    def put(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, self.dtype)

    def ready(self, network: torch.nn.Module) -> torch.nn.Module:
        return network.to(self.device, self.dtype).eval()


Compute = Callable[[Case, Place], dict[str, Tensor]]


@dataclass(frozen=True)
class Runner:
    compute: Compute
    """All outputs of a case that are to be met, by name."""
    halved: bool = True
    """Whether the host runs it in its own precision; formulas on pixels and latents stay float32."""


def stage_1(case: Case, place: Place) -> dict[str, Tensor]:
    """A network of stage 1, as spandrel builds it and we pad and run it."""
    from spandrel import ImageModelDescriptor, ModelLoader

    descriptor = ModelLoader().load_from_state_dict(case.weights())
    assert isinstance(descriptor, ImageModelDescriptor)
    place.ready(descriptor.model)
    return {"restored": unclamped(descriptor)(place.put(case.tensors["lq"]))}


def pasd_encoder(case: Case, place: Place) -> dict[str, Tensor]:
    """PASD's degradation-removal encoder, with the pictures that its heads see."""
    weights = with_prefix(case.weights(), ENCODER_PREFIX)
    network = HintEncoder(**hint_encoder_config(weights))
    network.load_state_dict(weights)
    place.ready(network)
    image = place.put(case.tensors["image"])
    heads = network.rgbs(image) if network.has_heads else []
    return {"embedding": network(image), **{f"rgb_{i}": rgb for i, rgb in enumerate(heads)}}


def seesr_encoder(case: Case, place: Place) -> dict[str, Tensor]:
    """The conditioning embedding of SeeSR's control network."""
    sizes, channels = case.config["block_out_channels"], "conditioning_embedding_channels"
    network = HintEncoder(tuple(sizes), case.config[channels])
    network.load_state_dict(with_prefix(case.weights(), ENCODER_PREFIX))
    place.ready(network)
    return {"embedding": network(place.put(case.tensors["hint"]))}


def color_fix(case: Case, place: Place) -> dict[str, Tensor]:
    """Both color fixes of the papers, on the pixels of two files."""
    result, source = (
        place.put(case.tensors[f"{name}_uint8"]).movedim(-1, 0)[None] / 255
        for name in ("result", "source")
    )
    fixed = {
        "wavelet": wavelet_color_fix(result, source, case.config["levels"]),
        "adain": adain_pixels(result, source, case.config["eps"]),
    }
    return fixed


def noised_condition(case: Case, place: Place) -> dict[str, Tensor]:
    """DiffBIR's start from the condition and its noise augmentation."""
    alphas = scaled_linear_alphas()
    tables = {"eps": sigmas_from(alphas), "v": sigmas_from(zero_terminal_snr(alphas))}
    image, noise = (place.put(case.tensors[name]) for name in ("c_img", "noise"))

    def at(name: str) -> Tensor:
        kind, _, what = name.partition("_")
        timestep = LAST if what == "start_cond" else int(what.removeprefix("noise_aug_"))
        return q_sample(image, noise, signal(tables[kind].float(), timestep))

    return {name: at(name) for name in case.data["outputs"]}


def latent_adain(case: Case, place: Place) -> dict[str, Tensor]:
    """StyleID's AdaIN of two inverted latents, both of its versions."""
    content, style = (place.put(case.tensors[name]) for name in ("content", "style"))
    return {name: adain(content, style, adain_eps(name)) for name in ("diffusers", "ldm")}


RUNNERS = {
    ("diffbir", "BSRNet (RRDBNet)"): Runner(stage_1),
    ("diffbir", "SCUNet"): Runner(stage_1),
    ("diffbir", "Diffusion.q_sample"): Runner(noised_condition, halved=False),
    (
        "pasd",
        "degradation-removal encoder (controlnet_cond_embedding)",
    ): Runner(pasd_encoder),
    ("seesr", "ControlNet conditioning embedding"): Runner(seesr_encoder),
    ("osediff", "colour fix"): Runner(color_fix, halved=False),
    ("styleid", "adain of the two inverted latents"): Runner(latent_adain, halved=False),
}
