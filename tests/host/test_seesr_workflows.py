"""Every SeeSR workflow as shipped, run by ComfyUI's own executor.

Only the loaders are replaced: a tiny real UNet, real SeeSR networks and a real tagger of small
size, and stand-ins for the VAE and the text encoder. Every other node and link is the file's, and
every setting but two that cost time: the number of steps and the least size to work at.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from restoration.tests.host.networks import tiny_vae
from restoration.tests.host.seesr_networks import base_model, networks, tag_list, tiny_tagger
from restoration.tests.host.workflow_runs import (
    HEIGHT,
    STEPS,
    WIDTH,
    Server,
    TinyText,
    as_shipped,
    executor_of,
    opened,
    photo,
    replaced_loaders,
    run,
    shipped,
)

pytestmark = pytest.mark.host

UPSCALE = ("seesr_upscale", "seesr_turbo_upscale")
NEGATIVE = "dotted, noise, blur, lowres, smooth"


@pytest.fixture(scope="module")
def tiny(comfy) -> SimpleNamespace:
    return SimpleNamespace(
        own=base_model(),
        turbo=base_model(seed=5),
        seesr=networks(),
        dape=tiny_tagger(),
        vae=tiny_vae(),
    )


@pytest.fixture
def loaded(comfy, tiny):
    """The loaders replaced; gives the names of the files they were asked for."""
    asked: list[str] = []

    def base(file: str) -> tuple:
        asked.append(file)
        return tiny.turbo if "turbo" in file else None, TinyText(), tiny.vae

    def seesr(file: str) -> tuple:
        asked.append(file)
        return tiny.seesr, tiny.turbo if "sd_turbo.safetensors" in asked else tiny.own

    def dape(file: str) -> tuple:
        asked.append(file)
        return (tiny.dape,)

    loaders = {
        "CheckpointLoaderSimple": ("ckpt_name", ("MODEL", "CLIP", "VAE"), base),
        "SeeSRLoader": ("unet_name", ("SEESR_MODEL", "MODEL"), seesr),
        "DAPELoader": ("ram_name", ("DAPE_MODEL",), dape),
    }
    with replaced_loaders(comfy, loaders):
        yield asked


def node(prompt: dict[str, Any], kind: str) -> dict[str, Any]:
    (found,) = (each for each in prompt.values() if each["class_type"] == kind)
    return found["inputs"]


def file(name: str) -> dict[str, Any]:
    return opened(as_shipped(name))


@pytest.mark.parametrize("name", UPSCALE)
def test_runs_to_an_image_four_times_the_size_with_the_authors_texts(comfy, loaded, name) -> None:
    prompt = shipped(name, photo(comfy))
    image = run(comfy, prompt)
    assert image.shape[1::-1] == (4 * WIDTH, 4 * HEIGHT)
    assert image.std() > 1
    assert len(loaded) == 3
    positive, negative = sorted(TinyText.seen, key=lambda text: "8k" not in text)
    tags, _, added = positive.partition(", ,")
    assert added == "clean, high-resolution, 8k" and negative == NEGATIVE
    assert tags and set(tags.split(", ")) <= set(tag_list().names)
    node(prompt, "SeeSRControlApply")["strength"] = 0.5
    weaker = run(comfy, prompt)
    assert (weaker != image).any()


@pytest.mark.parametrize(
    ("name", "schedule", "steps", "cfg", "overlap"),
    [
        ("seesr_upscale", "seesr_ddpm", 50, 5.5, 32),
        ("seesr_turbo_upscale", "seesr_turbo", 2, 1, 256),
    ],
)
def test_settings_are_the_authors(comfy, name, schedule, steps, cfg, overlap) -> None:
    """Specification, sections 3 to 6."""
    prompt = file(name)
    sigmas, prepare = node(prompt, "RestorationSigmas"), node(prompt, "RestorationPrepare")
    assert (sigmas["schedule"], sigmas["steps"], sigmas["denoise"]) == (schedule, steps, 1.0)
    assert node(prompt, "RestorationSampler")["sampler_name"] == "seesr_ddpm"
    assert node(prompt, "CFGGuider")["cfg"] == cfg
    assert node(prompt, "LREmbeddedNoise")["start"] == "seesr"
    assert node(prompt, "RestorationPrompt")["style"] == "seesr"
    assert node(prompt, "RestorationFinish")["color_correction_method"] == "adain"
    assert [prepare[key] for key in ("upscale_by", "min_side", "multiple", "fit")] == [
        4.0,
        512,
        8,
        "stretch",
    ]
    apply, tiles = node(prompt, "SeeSRControlApply"), node(prompt, "TiledRestoration")
    assert (apply["strength"], apply["start_percent"], apply["end_percent"]) == (1.0, 0.0, 1.0)
    assert (tiles["tile_size"], tiles["tile_overlap"]) == (768, overlap)
    assert tiles["weighting"] == "authors"


@pytest.mark.parametrize("name", UPSCALE)
def test_the_tagger_sees_the_photo_and_the_network_the_enlarged_one(comfy, name) -> None:
    prompt = file(name)
    kinds = {number: each["class_type"] for number, each in prompt.items()}
    assert kinds[node(prompt, "DAPETagger")["image"][0]] == "LoadImage"
    assert kinds[node(prompt, "SeeSRControlApply")["image"][0]] == "RestorationPrepare"
    assert kinds[node(prompt, "TiledVAEEncodeExact")["pixels"][0]] == "RestorationPrepare"


def test_turbo_puts_seesr_on_the_users_base(loaded) -> None:
    own, turbo = (node(file(name), "SeeSRLoader") for name in UPSCALE)
    assert "model" not in own
    (base,) = (
        number
        for number, each in file("seesr_turbo_upscale").items()
        if each["class_type"] == "CheckpointLoaderSimple"
    )
    assert turbo["model"] == [base, 0]


@pytest.mark.parametrize("name", [pytest.param(UPSCALE[0], marks=pytest.mark.slow), UPSCALE[1]])
def test_turbo_warns_when_its_guidance_is_raised_and_the_other_does_not(
    comfy, loaded, caplog, name
) -> None:
    prompt = shipped(name, photo(comfy))
    assert node(prompt, "RestorationSigmas")["steps"] == STEPS <= 8
    run(comfy, prompt)
    assert "SD-Turbo" not in caplog.text
    node(prompt, "CFGGuider")["cfg"] = 3.0
    run(comfy, prompt)
    assert ("SD-Turbo" in caplog.text) == (name == "seesr_turbo_upscale")


def texts(prompt: dict[str, Any]) -> dict[str, str]:
    """What the shown texts say, by the nodes' titles."""
    import execution

    valid, error, outputs, problems = asyncio.run(execution.validate_prompt("0", prompt, None))
    assert valid, (error, problems)
    executor = executor_of(Server())
    executor.execute(prompt, "0", {}, outputs)
    assert executor.success, executor.status_messages
    shown = executor.history_result["outputs"]
    return {
        each["_meta"]["title"]: "\n".join(shown[number]["text"])
        for number, each in prompt.items()
        if each["class_type"] == "PreviewAny"
    }


def test_tag_and_prompt_shows_tags_and_both_prompts(comfy, loaded, tiny) -> None:
    prompt = shipped("tag_and_prompt", photo(comfy))
    found = texts(prompt)
    assert found["Tags"] and set(found["Tags"].split(", ")) <= set(tag_list().names)
    assert found["Positive prompt"] == f"{found['Tags']}, ,clean, high-resolution, 8k"
    assert found["Negative prompt"] == NEGATIVE
    node(prompt, "DAPETagger")["threshold_offset"] = -1.0
    assert texts(prompt)["Tags"] == ", ".join(tag_list().names)


def test_rebatched_images_run_one_by_one_each_with_its_own_tags(comfy, loaded, tiny) -> None:
    """The way to restore several photos at once that the notes give."""
    from restoration.tagger.run import run_tagger

    pictures = torch.stack([torch.zeros(24, 28, 3), torch.ones(24, 28, 3)])
    expected, _ = run_tagger(
        tiny.dape, pictures.movedim(-1, 1), lambda tags, logits: tags.text(logits), False
    )
    assert len(set(expected)) == 2
    prompt = shipped("tag_and_prompt", photo(comfy))
    table = comfy.nodes.NODE_CLASS_MAPPINGS
    table["TwoPictures"] = type(
        "TwoPictures",
        (),
        {
            "INPUT_TYPES": classmethod(lambda cls: {"required": {}}),
            "RETURN_TYPES": ("IMAGE",),
            "FUNCTION": "load",
            "load": lambda self: (pictures,),
        },
    )
    from inspect import getfile
    from pathlib import Path

    extra = Path(getfile(comfy.nodes)).parent / "comfy_extras" / "nodes_rebatch.py"
    asyncio.run(comfy.nodes.load_custom_node(str(extra), module_parent="comfy_extras"))
    prompt["90"] = {"class_type": "TwoPictures", "inputs": {}}
    batches = {"images": ["90", 0], "batch_size": 1}
    prompt["91"] = {"class_type": "RebatchImages", "inputs": batches}
    node(prompt, "DAPETagger")["image"] = ["91", 0]
    assert texts(prompt)["Tags"].split("\n") == expected
