"""SeeSR's tagger: the network, its picture, its tags, and the files it is published in."""

from __future__ import annotations

import re
from typing import Any

import torch

from restoration.tagger.config import RAM, TAG_LISTS, TaggerConfig
from restoration.tagger.keys import dape_pairs, merge_dape, ram_weights
from restoration.tagger.ram import Tagger, tagger_input
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
    from restoration.tagger.load import DapeModel, TagList, build_tagger

    config, contents = tagger_config(case.config), case.state_dict()
    lora = {key: value for key, value in contents.items() if ".lora_" in key}
    ram = {key: value for key, value in contents.items() if key not in lora}
    assert bool(lora) == case.config.get("dape_lora", bool(lora))
    tags = TagList(tuple(case.config["labels"]), torch.tensor(case.config["thresholds"]))
    model = build_tagger({"model": ram}, tags, lora or None, 1.0, config)
    assert isinstance(model, DapeModel)
    network, image = model.network, case.tensors["image"]
    with torch.no_grad():
        swin_tokens = network.visual_encoder(image)
        embeds = network.embed(image)
        logits = network.logits(embeds)
    seen = model.tags.seen(logits)
    case.check(
        {
            "swin_tokens": swin_tokens,
            "image_embeds": embeds,
            "logits": logits,
            "targets": seen.float(),
        }
    )
    if "tags" in case.config:
        assert [model.tags.text(row) for row in logits] == case.config["tags"]


EVERY = re.compile(r"every (\d+)\w\w row and column of the (\d+)x")


@golden("seesr", "tagger image transform")
def tagger_transform(case: GoldenCase, get) -> None:
    """What an output's description says of its side, and which rows and columns are kept."""
    image = case.tensors["image_uint8"]
    pixels = image.reshape(-1, *image.shape[-3:]).movedim(-1, 1).float() / 255
    for name, antialias in {"plain": False, "antialias": True}.items():
        kept = EVERY.search(case.data["outputs"].get(name, ""))
        every, side = (int(kept[1]), int(kept[2])) if kept else (1, RAM.image_size)
        result = tagger_input(pixels, side, antialias)
        case.check({name: result[..., ::every, ::every]})


def network_on_meta() -> Tagger:
    return Tagger(RAM, device="meta")


@golden("seesr", "manifest ram_swin_large_14m")
def ram_manifest(case: GoldenCase, get) -> None:
    """The published file loads strictly, also with the decoder's other name and with more or
    fewer keys outside what tagging runs."""
    network = network_on_meta()
    layout = shapes(network)
    needed = case.contents("inference")
    for contents in (
        {"model": {**needed, **case.contents("other")}, "epoch": 3},
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
    needed = case.contents("inference")
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
