"""The published files of OSEDiff and PiSA-SR: pickles with tables of low-rank adapters, named after
layers of the base in diffusers' form."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from ..common.layout import Shapes
from ..common.recognition import Found, difference
from ..common.state_dict import (
    CheckpointError,
    StateDict,
    UnknownWeightsError,
    check_layout,
    unwrapped,
)
from ..common.unet_layout import diffusers_unet
from ..common.vae_layout import diffusers_vae_encoder
from .config import SD2, SETS, TITLES, Kind, OneStepConfig

UNET, VAE = "state_dict_unet.", "state_dict_vae."
"""Prefixes of the tables that a published pickle holds under these names."""
ADAPTER = re.compile(
    r"(?P<layer>.+)\.lora_(?P<side>[AB])\.default_(?:encoder|decoder|others)(?:_(?P<set>pix|sem))?\.weight"
)
REPLACED = ("conv_in.base_layer.weight", "conv_in.base_layer.bias")
"""OSEDiff trained this layer in full, beside its adapter."""
RANKS: dict[str, tuple[str, str]] = {
    "rank_unet": (UNET, ""),
    "rank_vae": (VAE, ""),
    "lora_rank_unet_pix": (UNET, "_pix"),
    "lora_rank_unet_sem": (UNET, "_sem"),
}
"""Entry of a pickle -> table and set whose rank it says."""

OSEDIFF_PAGE = "https://github.com/cswry/OSEDiff"
PISASR_PAGE = "https://github.com/csslc/PiSA-SR"
EXPECTED: dict[Kind, str] = {kind: f"the file of {title}" for kind, title in TITLES.items()}
ANY_EXPECTED = "the file of OSEDiff or of PiSA-SR"
ADVICE = (
    f"Get osediff.pkl or osediff_face.pkl from preset/models of {OSEDIFF_PAGE}, or pisa_sr.pkl from "
    f"the drives that {PISASR_PAGE} names, and put it into models/restoration."
)


class Adapter(NamedTuple):
    """A low-rank change of a layer: up @ down, times LORA_ALPHA / rank."""

    up: Tensor
    """[outputs, rank], and 1 1 for a convolution."""
    down: Tensor
    """[rank, inputs], and the base's kernel for a convolution."""

    @property
    def rank(self) -> int:
        return self.down.shape[0]


Adapters = Mapping[str, Adapter]
"""By layers of the base, in diffusers' form."""


@dataclass(frozen=True)
class OneStepWeights:
    """A file's contents, complete."""

    kind: Kind
    sets: Mapping[str, Adapters]
    """The UNet's, by the names of `SETS`."""
    vae: Adapters = field(default_factory=dict)
    conv_in: StateDict = field(default_factory=dict)
    """`weight` and `bias` in place of those of the UNet's first layer; the adapter comes on top."""


def kind_of(weights: Mapping[str, Any]) -> Kind | None:
    """Whose file this is; None: of neither."""
    sets = {(key.partition(".")[0], match["set"]) for key in weights if (match := _adapter(key))}
    if any(key.startswith("state_dict_unet_de_mlp.") for key in weights):
        return None  # S3Diff, which has OSEDiff's tables and more
    if ("state_dict_unet", "pix") in sets:
        return "pisasr"
    return "osediff" if ("state_dict_vae", None) in sets else None


def _adapter(key: str) -> re.Match[str] | None:
    return ADAPTER.fullmatch(key)


def unet_layers(config: OneStepConfig) -> Shapes:
    """Weights of the UNet that have adapters: all but those of the time embedding and of norms."""
    return {
        key: shape
        for key, shape in diffusers_unet(config.unet).items()
        if len(shape) > 1 and "time_emb" not in key
    }


def vae_layers(config: OneStepConfig) -> Shapes:
    """Weights of the VAE that have adapters: the encoder's layers and `quant_conv`."""
    return {k: shape for k, shape in diffusers_vae_encoder(config.vae).items() if len(shape) > 1}


def _part(layer: str) -> str:
    """The adapter's name in the published UNet's table; only a label."""
    if layer == "conv_in" or layer.startswith("down_blocks."):
        return "encoder"
    return "others" if layer.startswith("mid_block.") else "decoder"


def _adapter_shapes(key: str, shape: tuple[int, ...], rank: int, name: str) -> Shapes:
    layer = key.removesuffix(".weight")
    up = (shape[0], rank, *(1 for _ in shape[2:]))
    return {
        f"{layer}.lora_A.{name}.weight": (rank, *shape[1:]),
        f"{layer}.lora_B.{name}.weight": up,
    }


def layout(kind: Kind, ranks: Mapping[tuple[str, str], int], config: OneStepConfig) -> Shapes:
    """All that a file holds. ranks: by table and what stands behind the adapters' names."""
    shapes: Shapes = {}
    for each in SETS[kind]:
        behind = f"_{each}" if each else ""
        for key, shape in unet_layers(config).items():
            name = f"default_{_part(key.removesuffix('.weight'))}{behind}"
            shapes |= _adapter_shapes(f"{UNET}{key}", shape, ranks[UNET, behind], name)
    if kind == "osediff":
        base = diffusers_unet(config.unet)
        shapes |= {f"{UNET}{key}": base[key.replace(".base_layer", "")] for key in REPLACED}
        for key, shape in vae_layers(config).items():
            shapes |= _adapter_shapes(f"{VAE}{key}", shape, ranks[VAE, ""], "default_encoder")
    return shapes


def _ranks(weights: StateDict) -> dict[tuple[str, str], int]:
    """The rank of most of a table's adapters, by what stands behind their names; 0 without any."""
    found: dict[tuple[str, str], Counter[int]] = {}
    for key, value in weights.items():
        if (match := _adapter(key)) and match["side"] == "A" and value.ndim:
            place = f"{key.partition('.')[0]}.", f"_{match['set']}" if match["set"] else ""
            found.setdefault(place, Counter())[value.shape[0]] += 1
    ranks: dict[tuple[str, str], int] = dict.fromkeys(RANKS.values(), 0)
    return ranks | {place: counts.most_common(1)[0][0] for place, counts in found.items()}


def read(contents: object, file: str = "The file", config: OneStepConfig = SD2) -> OneStepWeights:
    """The weights of a published pickle or of a converted file. Raises CheckpointError unless it is
    one of theirs, with every adapter, in shapes that fit the base."""
    weights = unwrapped(contents)
    kind = kind_of(weights)
    if kind is None:
        raise UnknownWeightsError(weights, file, ANY_EXPECTED, ADVICE)
    ranks = _ranks(weights)
    _check_entries(contents, ranks, file)
    check_layout(weights, layout(kind, ranks, config), file, EXPECTED[kind], ADVICE)

    adapters = paired(weights)
    return OneStepWeights(
        kind,
        {name: adapters[f"{UNET}{name}"] for name in SETS[kind]},
        adapters.get(VAE, {}),
        {
            key.rpartition(".")[2]: weights[f"{UNET}{key}"]
            for key in REPLACED
            if f"{UNET}{key}" in weights
        },
    )


def paired(weights: StateDict) -> dict[str, dict[str, Adapter]]:
    """The adapters of every table and set, named as in `UNET` and `VAE` with the set behind."""
    sides: dict[tuple[str, str], dict[str, Tensor]] = {}
    for key, value in weights.items():
        if match := _adapter(key):
            table, _, layer = match["layer"].partition(".")
            place = f"{table}.{match['set'] or ''}", layer
            sides.setdefault(place, {})[match["side"]] = value
    found: dict[str, dict[str, Adapter]] = {}
    for (table, layer), each in sides.items():
        found.setdefault(table, {})[layer] = Adapter(each["B"], each["A"])
    return found


def _check_entries(contents: object, ranks: Mapping[tuple[str, str], int], file: str) -> None:
    """A pickle says the ranks beside its tables: they must be those of the tables."""
    for entry, place in RANKS.items():
        said = contents.get(entry) if isinstance(contents, Mapping) else None
        if isinstance(said, int) and said != ranks[place]:
            raise CheckpointError(
                f"{file} says {entry} {said}, but its adapters have rank {ranks[place]}: the file "
                f"was put together from two. {ADVICE}"
            )


# -- recognizing -----------------------------------------------------------------------------------


def recognize(weights: StateDict, name: str, metadata: Mapping[str, str]) -> Found | None:
    """One of theirs, or None."""
    kind = kind_of(weights)
    if kind is None:
        return None
    face = "face" in (metadata.get("restoration.version") or name).lower()
    version = "osediff_face" if kind == "osediff" and face else kind
    what = f"the adapters of {TITLES[kind]}{' for faces' if version != kind else ''}"
    return Found(
        "onestep",
        version,
        what,
        "whole",
        "restoration",
        weights,
        difference(weights, layout(kind, _ranks(weights), SD2)),
    )
