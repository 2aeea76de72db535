"""From the published files to PASD's networks."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from ..common.hint_encoder import HintEncoder, hint_encoder_config
from ..common.state_dict import CheckpointError, StateDict, check_layout
from ..host.control_encoder import ControlEncoder, control_weights
from ..host.folders import KIND, SAME_FILE
from ..host.loading import load_network, read_file, shapes_of
from .config import PASDConfig, Variant
from .keys import (
    ADVICE,
    CONTROL_EXPECTED,
    UNET_EXPECTED,
    added_part,
    config_from,
    control_part,
    layer_prefix,
    pixel_layers,
)
from .networks import PASDModel, pixel_attention

PAIR = "Choose unet_name and control_net_name from one release."


def build_encoder(
    weights: StateDict, config: PASDConfig, file: str = "The file", **factory: Any
) -> tuple[HintEncoder, StateDict]:
    """(network, its weights), checked. weights: as `control_part` gives them."""
    try:
        sizes = hint_encoder_config(weights)
    except KeyError as missing:
        raise CheckpointError(
            f"{file} is not {CONTROL_EXPECTED}: its image encoder has no {missing}. {ADVICE}"
        ) from missing
    sizes["out_channels"] = config.channels[0]
    network = HintEncoder(**sizes, **factory)
    check_layout(weights, shapes_of(network), file, "an image encoder of PASD", ADVICE)
    return network, weights


def build_control(
    weights: StateDict, config: PASDConfig, file: str = "The file", **factory: Any
) -> tuple[ControlEncoder, StateDict]:
    """(network, its weights under its own names), checked. weights: as published, without the
    image encoder."""
    network = ControlEncoder(config.unet_config(), **factory)
    placed = control_weights(weights, config.unet_config())
    known = set(map(id, placed.values()))
    strange = {key: value for key, value in weights.items() if id(value) not in known}
    check_layout(placed | strange, shapes_of(network), file, CONTROL_EXPECTED, ADVICE)
    return network, placed


def build_attention(
    variant: Variant, weights: StateDict, config: PASDConfig, file: str = "The file", **factory: Any
) -> tuple[nn.ModuleDict, StateDict]:
    """(network, its weights under its own names), checked. weights: as `added_part` gives them."""
    network = pixel_attention(variant, config, weights, **factory)
    prefixes = {
        str(each.index): layer_prefix(variant, each) for each in pixel_layers(variant, config)
    }
    shapes, published = shapes_of(network), {}
    for name in shapes:
        index, _, rest = name.partition(".")
        published[name] = prefixes[index] + rest
    layout = {published[name]: shape for name, shape in shapes.items()}
    expected = f"{UNET_EXPECTED} for {config.family}, as its control network is"
    check_layout(weights, layout, file, expected, f"{PAIR} {ADVICE}")
    return network, {name: weights[published[name]] for name in shapes}


def pasd_model(
    unet: object,
    control: object,
    unet_file: str = "The UNet",
    control_file: str = "The control network",
    config: PASDConfig | None = None,
) -> PASDModel:
    """The networks in two files' contents (the same twice for a converted file).

    config: only where the files do not tell its sizes (other heads than the published ones).
    Raises CheckpointError.
    """
    variant, added = added_part(unet, unet_file)
    controlled, encoder = control_part(control, control_file)
    config = config or config_from(controlled, control_file)

    return PASDModel(
        variant,
        config,
        load_network(encoder, partial(build_encoder, encoder, config, control_file)),
        load_network(controlled, partial(build_control, controlled, config, control_file)),
        load_network(added, partial(build_attention, variant, added, config, unet_file)),
    )


def load_pasd(unet_name: str, control_net_name: str) -> PASDModel:
    """The networks in two files of the folder `restoration`, or (`SAME_FILE`) in one."""
    if control_net_name == SAME_FILE:
        control_net_name = unet_name
    unet = read_file(KIND, unet_name)
    control = unet if control_net_name == unet_name else read_file(KIND, control_net_name)
    return pasd_model(unet, control, unet_name, control_net_name)
