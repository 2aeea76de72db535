"""Every PASD workflow as shipped, run to an image by ComfyUI's own executor.

Only the loaders are replaced: a tiny real UNet and real PASD networks, and stand-ins for the VAE
and the text encoder. Every other node and link is the file's, and every setting but two that cost
time: the number of steps and the least size to work at.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from restoration.tests.host.pasd_networks import base_model, networks, sd15
from restoration.tests.host.workflow_runs import (
    HEIGHT,
    WIDTH,
    Blocks,
    TinyText,
    as_shipped,
    opened,
    photo,
    replaced_loaders,
    run,
    shipped,
)

pytestmark = pytest.mark.host

SIZES = {
    "pasd_upscale": (2 * WIDTH, 2 * HEIGHT),
    "pasd_light_upscale": (2 * WIDTH, 2 * HEIGHT),
    "pasd_stylization": (WIDTH, HEIGHT),
    "pasd_colorization": (WIDTH, HEIGHT),
    "pasd_sdxl_upscale": (2 * WIDTH, 2 * HEIGHT),
}
AUTHORS = {
    # steps, cfg, strength, working size, start, sampler (specification, section 4)
    "pasd_upscale": (20, 9.0, 1.0, 768, "pasd", "pasd_unipc"),
    "pasd_light_upscale": (20, 9.0, 1.0, 768, "pasd", "pasd_unipc"),
    "pasd_stylization": (20, 9.0, 1.0, 768, "pasd", "pasd_unipc"),
    "pasd_colorization": (20, 9.0, 1.0, 768, "pasd", "pasd_unipc"),
    "pasd_sdxl_upscale": (25, 7.0, 0.8, 1280, "noise", "euler"),
}


class TwoTexts(TinyText):
    """SDXL's: a text for each of two encoders, and a size."""

    def tokenize(self, text: str) -> Any:
        self.seen.append(text)
        return {"g": [text], "l": [text]}

    def encode_from_tokens_scheduled(self, tokens: Any, add_dict: dict | None = None) -> list:
        assert tokens["g"] == tokens["l"] and add_dict
        return super().encode_from_tokens_scheduled(tokens["g"][0])


@pytest.fixture(scope="module")
def tiny(comfy) -> SimpleNamespace:
    return SimpleNamespace(
        base=base_model(sd15()),
        style=base_model(sd15(), seed=5),
        pasd=networks(sd15()),
        pasd_light=networks(sd15(), "pasd_light"),
    )


@pytest.fixture
def loaded(comfy, tiny):
    """The loaders replaced; gives the names of the files they were asked for."""
    asked: list[str] = []

    def base(file: str) -> tuple:
        asked.append(file)
        text = TwoTexts() if file.startswith("sd_xl") else TinyText()
        return tiny.style if "toonyou" in file else tiny.base, text, Blocks()

    def pasd(file: str) -> tuple:
        asked.append(file)
        light = file.startswith(("pasd_light", "pasd_color"))
        return (tiny.pasd_light if light else tiny.pasd,)

    loaders = {
        "CheckpointLoaderSimple": ("ckpt_name", ("MODEL", "CLIP", "VAE"), base),
        "PASDLoader": ("unet_name", ("PASD_MODEL",), pasd),
    }
    with replaced_loaders(comfy, loaders):
        yield asked


def inputs_of(prompt: dict[str, Any], kind: str) -> dict[str, Any]:
    (node,) = (node for node in prompt.values() if node["class_type"] == kind)
    return node["inputs"]


def working_size(prompt: dict[str, Any]) -> dict[str, Any]:
    """Of several Prepare Restoration the one that the network sees."""
    number, _ = inputs_of(prompt, "PACAControlApply")["image"]
    return prompt[number]["inputs"]


@pytest.mark.parametrize("name", SIZES)
def test_runs_to_an_image_of_exactly_the_asked_size(comfy, loaded, name: str) -> None:
    image = run(comfy, shipped(name, photo(comfy)))
    assert image.shape[1::-1] == SIZES[name]
    assert image.std() > 1
    assert len(loaded) == 2


@pytest.mark.parametrize("name", AUTHORS)
def test_settings_are_the_authors(comfy, name: str) -> None:
    prompt = opened(as_shipped(name))
    sdxl = name == "pasd_sdxl_upscale"
    found = (
        inputs_of(prompt, "BasicScheduler" if sdxl else "RestorationSigmas")["steps"],
        inputs_of(prompt, "CFGGuider")["cfg"],
        inputs_of(prompt, "PACAControlApply")["strength"],
        working_size(prompt)["min_side"],
        inputs_of(prompt, "LREmbeddedNoise")["start"],
        inputs_of(prompt, "KSamplerSelect" if sdxl else "RestorationSampler")["sampler_name"],
    )
    assert found == AUTHORS[name]
    assert inputs_of(prompt, "LREmbeddedNoise")["added_noise_level"] == 900
    assert working_size(prompt)["multiple"] == 8
    files = inputs_of(prompt, "PASDLoader")
    release = files["unet_name"].removesuffix("/unet/diffusion_pytorch_model.safetensors")
    assert files["control_net_name"].startswith(f"{release}/controlnet/")


@pytest.mark.parametrize(
    ("name", "positive", "negative"),
    [
        (
            "pasd_upscale",
            "clean, high-resolution, 8k",
            "blurry, dotted, noise, raster lines, unclear, lowres, over-smoothed",
        ),
        ("pasd_colorization", "", "b&w, color bleeding"),
    ],
)
def test_texts_are_the_authors(comfy, loaded, name, positive, negative) -> None:
    run(comfy, shipped(name, photo(comfy)))
    assert sorted(TinyText.seen) == sorted([positive, negative])


@pytest.mark.parametrize("name", ["pasd_upscale", "pasd_light_upscale", "pasd_sdxl_upscale"])
def test_pasd_matters(comfy, loaded, name) -> None:
    prompt = shipped(name, photo(comfy))
    first = run(comfy, prompt)
    applied = inputs_of(prompt, "PACAControlApply")
    applied["strength"] = 0.4
    assert (first != run(comfy, prompt)).any()
    applied["end_percent"] = 0.0
    plain = run(comfy, prompt)
    guider = inputs_of(prompt, "CFGGuider")
    guider["model"] = applied["model"]
    assert (plain == run(comfy, prompt)).all()


def test_another_base_draws_another_picture(comfy, loaded) -> None:
    prompt = shipped("pasd_stylization", photo(comfy))
    first = run(comfy, prompt)
    inputs_of(prompt, "CheckpointLoaderSimple")["ckpt_name"] = "plain.safetensors"
    assert (first != run(comfy, prompt)).any()


def test_colorization_sees_gray_and_keeps_the_brightness_of_the_photo(comfy, loaded, tiny) -> None:
    seen: list[torch.Tensor] = []
    encoder = tiny.pasd_light.encoder.model
    handle = encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    name = photo(comfy)
    image = run(comfy, shipped("pasd_colorization", name))
    handle.remove()
    (pixels,) = seen
    assert (pixels[:, 0] == pixels[:, 1]).all() and (pixels[:, 0] == pixels[:, 2]).all()
    path = f"{comfy.folder_paths.get_input_directory()}/{name}"
    original = np.asarray(Image.open(path).convert("RGB"))
    weights = np.array([0.299, 0.587, 0.114])
    inside = (image > 0).all(-1) & (image < 255).all(-1)  # a color out of range is cut
    assert inside.any()
    assert np.abs((image - original.astype(float)) @ weights)[inside].max() < 1.5
    assert (image.max(-1) - image.min(-1)).mean() > 1, "no color"


def test_sdxl_steps_are_those_of_its_own_scheduler(comfy, tiny) -> None:
    """Diffusers' leading spacing with offset 1: 961, 921, ... 1."""
    import comfy.samplers

    sampling = tiny.base.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "ddim_uniform", 25)
    assert torch.equal(sigmas[:-1], sampling.sigmas[torch.arange(961, 0, -40)])
    assert sigmas[-1] == 0
