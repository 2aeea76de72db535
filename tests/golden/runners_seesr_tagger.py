"""SeeSR's tagger: the network, its picture, its tags, and the files it is published in."""

from __future__ import annotations

from typing import Any

import torch

from restoration.seesr.checkpoint import dape_pairs, merge_dape, ram_weights
from restoration.seesr.config import RAM, TAG_LISTS, TaggerConfig
from restoration.seesr.tagger import Tagger, tagger_input
from restoration.tests.golden.suite import GoldenCase, golden


def tagger_config(config: dict[str, Any]) -> TaggerConfig:
    """Our own config from the reference's."""
    swin, bert = config["swin"], config["q2l_bert"]
    return TaggerConfig(
        image_size=swin["img_size"],
        patch_size=swin["patch_size"],
        embed_dim=swin["embed_dim"],
        depths=tuple(swin["depths"]),
        heads=tuple(swin["num_heads"]),
        window=swin["window_size"],
        labels=len(config["labels"]),
        query_width=bert["hidden_size"],
        query_heads=bert["num_attention_heads"],
        query_layers=bert["num_hidden_layers"],
        query_feed_forward=bert["intermediate_size"],
    )


def shapes(network: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


@golden("seesr", "tagger", needs_host=True)
def tagger(case: GoldenCase, get) -> None:
    """As the loader builds it: the host's layers, DAPE merged from its own table."""
    get("comfy")
    from restoration.host.tagger import DapeModel, TagList, build_tagger

    config, contents = tagger_config(case.config), case.state_dict()
    lora = {key: value for key, value in contents.items() if ".lora_" in key}
    ram = {key: value for key, value in contents.items() if key not in lora}
    assert bool(lora) == case.config["dape_lora"]
    tags = TagList(tuple(case.config["labels"]), torch.tensor(case.config["thresholds"]))
    model = build_tagger({"model": ram}, tags, lora or None, 1.0, config)
    assert isinstance(model, DapeModel)
    network, image = model.network, case.tensors["image"]
    with torch.no_grad():
        swin_tokens = network.visual_encoder(image)
        embeds = network.embed(image)
        logits = network.logits(embeds)
    seen = model.tags.seen(logits)
    case.check_all(
        {
            "swin_tokens": swin_tokens,
            "image_embeds": embeds,
            "logits": logits,
            "targets": seen.float(),
        }
    )
    assert [model.tags.text(row) for row in logits] == case.config["tags"]


@golden("seesr", "tagger image transform")
def tagger_transform(case: GoldenCase, get) -> None:
    pixels = case.tensors["image_uint8"].movedim(-1, 0)[None].float() / 255
    found = {
        "plain": tagger_input(pixels, antialias=False),
        "antialias": tagger_input(pixels, antialias=True),
    }
    case.check_all({name: image[..., ::7, ::7] for name, image in found.items()})


def meta(group: dict[str, list]) -> dict[str, torch.Tensor]:
    kinds = {"int": torch.long, "float": torch.float}
    return {
        key: torch.empty(shape, device="meta", dtype=kinds[kind])
        for key, (shape, kind) in group.items()
    }


def network_on_meta() -> Tagger:
    return Tagger(RAM, device="meta")


@golden("seesr", "manifest ram_swin_large_14m")
def ram_manifest(case: GoldenCase, get) -> None:
    """The published file loads strictly, also with the decoder's other name and with more or
    fewer keys outside what tagging runs."""
    network, groups = network_on_meta(), case.manifest()
    layout = shapes(network)
    needed = meta(groups["inference"])
    for contents in (
        {"model": {**needed, **meta(groups["other"])}, "epoch": 3},
        needed,
        {key.replace("tagging_head.", "vision_multi."): v for key, v in needed.items()},
    ):
        network.load_state_dict(ram_weights(contents, layout), strict=True, assign=True)
    computed = [key for key in needed if key.endswith(("relative_position_index", "attn_mask"))]
    assert set(needed) == set(layout) | set(computed)
    assert len(needed) == case.data["counts"]["inference_keys"]["keys"]


@golden("seesr", "manifest dape_lora")
def dape_manifest(case: GoldenCase, get) -> None:
    """Every pair of the published file finds the weight it changes, and the others are zero."""
    groups = case.manifest()
    weights = dict(network_on_meta().state_dict())
    needed = meta(groups["inference"])
    unused = {key: torch.zeros(1).expand(shape) for key, (shape, _) in groups["other"].items()}
    pairs = dape_pairs({**needed, **unused}, weights)
    assert 2 * len(pairs) == len(needed) == case.data["counts"]["inference_keys"]["keys"]
    merged = merge_dape(weights, pairs, 1.0)
    assert {k: v.shape for k, v in merged.items()} == {k: v.shape for k, v in weights.items()}
    assert sum(merged[key] is not weights[key] for key in weights) == len(pairs)


@golden("seesr", "manifest tag lists of the RAM package")
def tag_lists(case: GoldenCase, get) -> None:
    files = case.data["files"]
    assert {name: files[name]["sha256"] for name in TAG_LISTS} == TAG_LISTS
    assert {files[name]["entries"] for name in TAG_LISTS} == {RAM.labels}
