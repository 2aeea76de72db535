"""The published files of the tagger: RAM, a torch file with weights below `model` and a caption branch that
tagging never runs, and DAPE.pth, a flat table of LoRA pairs for it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ..common.layout import Shapes
from ..common.recognition import Found, difference
from ..common.state_dict import (
    CheckpointError,
    Layout,
    StateDict,
    UnknownWeightsError,
    check_layout,
    unwrapped,
)
from .config import RAM

DECODER_NAMES = ("tagging_head.", "vision_multi.")
"""Ours and the class's, and the one of the published RAM file."""
RAM_FILE, DAPE_FILE = "RAM", "DAPE"
"""What errors call them."""
RAM_PAGE = "https://huggingface.co/spaces/xinyu1205/recognize-anything"
DAPE_PAGE = "https://github.com/cswry/SeeSR"
RAM_ADVICE = f"Get ram_swin_large_14m.pth from {RAM_PAGE} and put it into models/restoration."
DAPE_ADVICE = (
    f"Get DAPE.pth from the releases that {DAPE_PAGE} names and put it into models/restoration."
)
LORA_RANK = 8
LORA_SCALE = 1 / LORA_RANK
"""alpha / rank with loralib's alpha of 1."""
TIED = tuple(f"tag_encoder.encoder.layer.{i}.crossattention." for i in range(2))
"""The reference has these layers share the decoder's weights, so their LoRA would be merged into
them too. It was never trained: in the published file it is zero."""


def _by_our_names(weights: StateDict) -> StateDict:
    ours, theirs = DECODER_NAMES
    return {
        ours + key.removeprefix(theirs) if key.startswith(theirs) else key: value
        for key, value in weights.items()
    }


def ram_weights(contents: object, layout: Layout, file: str = "The file") -> StateDict:
    """The tagger's weights in a RAM file, checked one by one; what else it holds is left out.

    layout: keys and shapes of `Tagger`. Raises CheckpointError.
    """
    weights = _by_our_names(unwrapped(contents))
    if not any(key in layout for key in weights) or any(".lora_" in key for key in weights):
        raise UnknownWeightsError(weights, file, RAM_FILE, RAM_ADVICE)
    needed = {key: value for key, value in weights.items() if key in layout}
    check_layout(needed, layout, file, "the tagger RAM (Swin-L, 14M images)", RAM_ADVICE)
    return needed


def dape_layout(weights: Mapping[str, Tensor]) -> Shapes:
    """Keys and shapes of a DAPE for a tagger with these weights: A and B beside every weight that
    it changes, which of a joint projection are the queries and the values."""
    layout: Shapes = {}
    for key in filter(_is_target, weights):
        outputs, inputs = weights[key].shape
        parts = 2 if key.endswith(".qkv.weight") else 1
        base = key.removesuffix("weight")
        layout[f"{base}lora_A"] = (parts * LORA_RANK, inputs)
        layout[f"{base}lora_B"] = (outputs // 3 * 2 if parts == 2 else outputs, LORA_RANK)
    return layout


def dape_pairs(
    contents: object, weights: StateDict, file: str = "The file"
) -> dict[str, tuple[Tensor, Tensor]]:
    """(A, B) of DAPE for every weight of the tagger that it changes.

    weights: those of the tagger. Raises CheckpointError.
    """
    lora = unwrapped(contents)
    for key, value in lora.items():
        if key.startswith(TIED) and key.endswith(".lora_B") and value.count_nonzero():
            raise CheckpointError(
                f"{file} also changes {key}, which DAPE leaves at zero: it was trained in "
                f"another way than the published one. {DAPE_ADVICE}"
            )
    layout = dape_layout(weights)
    needed = {key: value for key, value in lora.items() if key in layout}
    if not needed:
        raise UnknownWeightsError(lora, file, DAPE_FILE, DAPE_ADVICE)
    check_layout(needed, layout, file, "the LoRA DAPE for RAM", DAPE_ADVICE)
    bases = [key.removesuffix("weight") for key in weights if _is_target(key)]
    return {f"{b}weight": (needed[f"{b}lora_A"], needed[f"{b}lora_B"]) for b in bases}


def dape_file(pairs: Mapping[str, tuple[Tensor, Tensor]], strength: float) -> StateDict:
    """The published form of DAPE's pairs, `strength` times: what `dape_pairs` reads."""
    found: StateDict = {}
    for key, (down, up) in pairs.items():
        base = key.removesuffix("weight")
        found |= {f"{base}lora_A": down.float(), f"{base}lora_B": strength * up.float()}
    return found


def _is_target(key: str) -> bool:
    return key.endswith(
        (".qkv.weight", "crossattention.self.query.weight", "crossattention.self.key.weight")
    )


def merge_dape(
    weights: StateDict, pairs: Mapping[str, tuple[Tensor, Tensor]], strength: float
) -> StateDict:
    """The tagger's weights with DAPE added, `strength` times, in float32. 0 gives plain RAM.

    Of a joint projection of queries, keys and values the first and the last third change.
    """
    merged = dict(weights)
    if strength == 0:
        return merged
    for key, (down, up) in pairs.items():
        weight = weights[key].float().clone()
        down, up = strength * LORA_SCALE * down.float(), up.float()
        if key.endswith(".qkv.weight"):
            width = len(weight) // 3
            weight[:width] += up[:width] @ down[:LORA_RANK]
            weight[2 * width :] += up[width:] @ down[LORA_RANK:]
        else:
            weight += up @ down
        merged[key] = weight
    return merged


# -- recognizing -----------------------------------------------------------------------------------


def _tagger_weights() -> StateDict:
    """Keys and shapes of the network that runs, without values."""
    from .ram import Tagger

    return dict(Tagger(RAM, device="meta").state_dict())


def recognize(weights: StateDict, name: str, metadata: Mapping[str, str]) -> Found | None:
    """RAM, or DAPE for it, or None."""
    if not any(key.startswith("visual_encoder.") for key in weights):
        return None
    if any(".lora_" in key for key in weights):
        return _dape(weights, name)
    return _ram(weights) if any(key.startswith(DECODER_NAMES) for key in weights) else None


def _ram(weights: StateDict) -> Found:
    layout = {key: tuple(value.shape) for key, value in _tagger_weights().items()}
    named = _by_our_names(weights)
    used = {key: value for key, value in named.items() if key in layout}
    rest = len(named) - len(used)
    return Found(
        "seesr",
        "ram_swin_large_14m",
        "the tagger RAM",
        "whole",
        "restoration",
        used,
        difference(used, layout),
        notes=(f"{rest} weights that tagging does not run, unused",) if rest else (),
    )


def _dape(weights: StateDict, name: str) -> Found:
    problem, used = "", weights
    try:
        pairs = dape_pairs(weights, _tagger_weights(), name)
        values = {id(value) for pair in pairs.values() for value in pair}
        used = {key: value for key, value in weights.items() if id(value) in values}
    except CheckpointError as error:
        problem = str(error)
    rest = len(weights) - len(used)
    return Found(
        "seesr",
        "DAPE",
        "SeeSR's DAPE, a LoRA for RAM",
        "whole",
        "restoration",
        used,
        notes=(f"{rest} weights of branches that are never run, unused",) if rest else (),
        problem=problem,
    )
