"""Two AdamW steps of stage 1, of the tagger's adapters and of DreamBooth."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from restoration.tests.golden.runners_training import (
    Step,
    base_unet,
    below,
    diffusion_step,
    load,
    of_step,
    process_of,
    start_state,
    two_steps,
)
from restoration.tests.golden.suite import GoldenCase, golden


def masks(given: dict[str, Tensor], recorded: str, dropped: list[Any]) -> dict[str, Tensor]:
    """The recorded masks called path_NN or dropout_NN, under the names of our draws."""
    names = sorted(name for name in given if name.startswith(f"{recorded}_"))
    return {
        each.name: given.pop(name).reshape(-1, *each.shape)
        for each, name in zip(dropped, names, strict=True)
    }


def of_masked_step(case: GoldenCase, i: int) -> dict[str, Tensor]:
    """`of_step` with the masks of the step, which carry its number in the middle."""
    found = of_step(case, i)
    for name in case.data["inputs"]:
        kind, *rest = name.split("_")
        if kind in ("path", "dropout") and rest[0] == str(i):
            found[f"{kind}_{rest[1]}"] = case.tensors[name].float()
    return {name: value for name, value in found.items() if name.count("_") < 2}


@golden("training", "DiffBIR stage 1 training step", needs_host=True)
def cleaner_steps(case: GoldenCase, get) -> None:
    get("comfy")
    from restoration.stage1.start import SwinIRSizes
    from restoration.stage1.trainable import CleanerTrainable

    config = case.config
    shuffled = config["unshuffle_scale"] if config["unshuffle"] else 1
    words = (
        "img_size", "patch_size", "in_chans", "embed_dim", "window_size", "mlp_ratio",
        "img_range", "upsampler", "resi_connection", "drop_path_rate",
    )  # fmt: skip
    sizes = SwinIRSizes(
        **{word: config[word] for word in words},
        depths=tuple(config["depths"]),
        num_heads=tuple(config["num_heads"]),
        upscale=config["sf"],
        start_unshuffle=shuffled,
    )
    part = CleanerTrainable(sizes)
    load(part, start_state(case))
    assert set(part.published_state()[part.files[""]]) == {
        *case.data["parameters"],
        *case.data["buffers"],
    }

    def step(i: int) -> Step:
        given = of_masked_step(case, i)
        batch = {"hq": given.pop("gt"), "lq": given.pop("lq")}
        return batch, masks(given, "path", part.dropped)

    two_steps(case, part, [step(i) for i in range(2)])


@golden("training", "DAPE training step", needs_host=True)
def dape_steps(case: GoldenCase, get) -> None:
    get("comfy")
    from restoration.tagger.trainable import DAPETrainable
    from restoration.tests.golden.runners_seesr_tagger import tagger_config

    config, weights = case.config, start_state(case)
    bert = config["q2l_bert"]
    part = DAPETrainable(
        {key: value for key, value in weights.items() if ".lora_" not in key},
        tagger_config({**config, "labels": range(config["labels"])}),
        config["swin"]["drop_path_rate"],
        bert["hidden_dropout_prob"],
        bert["attention_probs_dropout_prob"],
    )
    load(part, weights)
    assert set(part.published_state()[part.files[""]]) == set(config["saved_keys"])
    # Each layer asks for the attention's mask first, then for those of its two outputs.
    hidden = iter(part.hidden_drops)
    order = [each for first in part.attention_drops for each in (first, next(hidden), next(hidden))]

    def step(i: int) -> Step:
        given = of_masked_step(case, i)
        batch = {"hq": given.pop("gt"), "lq": given.pop("lq")}
        draws = masks(given, "path", part.paths)
        return batch, draws | (masks(given, "dropout", order) if config["regularised"] else {})

    two_steps(case, part, [step(i) for i in range(2)], lambda found: list(found.values()))


@golden("training", "DreamBooth training step", needs_host=True)
def dreambooth_steps(case: GoldenCase, get) -> None:
    get("comfy")
    from restoration.tests.host.networks import diffusers_unet_config
    from restoration.training.dreambooth.trainable import DreamBoothSettings, DreamBoothTrainable

    config, weights = case.config, start_state(case)
    unet_config = diffusers_unet_config(config)
    settings = DreamBoothSettings(
        config["with_prior_preservation"],
        config["prior_loss_weight"],
        config["snr_gamma"],
        config["offset_noise"],
        config["text_encoder"] is not None,
    )
    # Published files of text encoders have one more level than the library that recorded the case.
    weights = {published(key): value for key, value in weights.items()}
    given: dict[str, Any] = {"scale_factor": config["scaling_factor"]}
    if config["text_encoder"]:
        given["text"] = text_window(config["text_encoder"])
    unet = base_unet(unet_config, below(weights, "unet."), diffusers=True)
    part = DreamBoothTrainable(unet, process_of(config), unet_config, settings, **given)
    load(part, weights)

    def step(i: int) -> Step:
        batch, draws = diffusion_step(case, i)
        if "input_ids" in batch:
            batch["tokens"] = batch.pop("input_ids")
        return batch, draws

    def terms(found: dict[str, Tensor]) -> list[Tensor]:
        weights = {"instance": 1.0, "prior": config["prior_loss_weight"]}
        return [value / weights[name] for name, value in found.items()]

    two_steps(case, part, [step(i) for i in range(2)], terms, published)


def published(key: str) -> str:
    """A recorded key as files have it."""
    return key.replace("text_encoder.", "text_encoder.text_model.")


def text_window(config: dict[str, Any]) -> Any:
    """The host's text encoder as training builds it, its weights not yet set."""
    from comfy.clip_model import CLIPTextModel

    from restoration.host.text_window import TextWindow
    from restoration.host.trainable_unet import LAYERS

    encoder = CLIPTextModel(config, device="cpu", **LAYERS).text_model
    words, width = config["vocab_size"], config["hidden_size"]  # the first the host has fixed
    encoder.embeddings.token_embedding = LAYERS["operations"].Embedding(words, width)
    return TextWindow(encoder)
