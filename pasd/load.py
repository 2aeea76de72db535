"""From the published files to PASD's networks: read, recognize, split, check, build, place."""

from __future__ import annotations

from ..common.hint_encoder import HintEncoder, hint_encoder_config
from ..common.state_dict import (
    CONTROL_PREFIX,
    UNET_PREFIX,
    StateDict,
    check_layout,
    with_prefix,
)
from ..host.control_encoder import ControlEncoder, control_weights
from ..host.folders import KIND, SAME_FILE
from ..host.loading import layers_for, placed, read_pair
from ..host.saving import Saved
from .config import PASDConfig
from .keys import (
    ADVICE,
    CONTROL_EXPECTED,
    ENCODER_PREFIX,
    UNET_EXPECTED,
    added_part,
    attention_layout,
    attention_weights,
    config_from,
    control_layout,
    control_part,
    layer_prefix,
    pixel_layers,
)
from .networks import PASDModel, pixel_attention

PAIR = "Choose unet_name and control_net_name from one release."


def load_pasd(unet_name: str, control_net_name: str) -> PASDModel:
    """The networks in two files of the folder `restoration`, or (`SAME_FILE`) in one."""
    (unet, unet_name), (control, control_net_name) = read_pair(unet_name, control_net_name)
    return pasd_model(unet, control, unet_name, control_net_name)


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

    published = controlled | {f"{ENCODER_PREFIX}{key}": value for key, value in encoder.items()}
    check_layout(published, control_layout(config, encoder), control_file, CONTROL_EXPECTED, ADVICE)
    expected = f"{UNET_EXPECTED} for {config.family}, as its control network is"
    layout = attention_layout(variant, config, added)
    check_layout(added, layout, unet_file, expected, f"{PAIR} {ADVICE}")

    images = HintEncoder(**hint_encoder_config(encoder), **layers_for(encoder))
    branch = ControlEncoder(config.unet_config(), **layers_for(controlled))
    attention = pixel_attention(variant, config, added, **layers_for(added))
    return PASDModel(
        variant,
        config,
        placed(images, encoder),
        placed(branch, control_weights(controlled, config.unet_config())),
        placed(attention, attention_weights(variant, config, added)),
    )


def published(pasd: PASDModel) -> tuple[StateDict, StateDict]:
    """What `pasd_model` takes: (what PASD adds to the UNet, its control network), under their
    published keys."""
    config = pasd.config
    encoder, control, attention = (
        patcher.model_state_dict() for patcher in (pasd.encoder, pasd.control, pasd.attention)
    )
    added = {
        f"{layer_prefix(pasd.variant, layer)}{key}": value
        for layer in pixel_layers(pasd.variant, config)
        for key, value in with_prefix(attention, f"{layer.index}.").items()
    }
    published = {f"{ENCODER_PREFIX}{key}": value for key, value in encoder.items()}
    keys = {key: key for key in control_layout(config, encoder) if key not in published}
    names = control_weights(keys, config.unet_config())
    return added, published | {key: control[name] for name, key in names.items()}


def saved_pasd(pasd: PASDModel) -> Saved:
    """Both in one file, as `load_pasd` reads it."""
    added, control = published(pasd)
    parts = {UNET_PREFIX: added, CONTROL_PREFIX: control}
    weights = {f"{prefix}{k}": v for prefix, part in parts.items() for k, v in part.items()}
    said = {"restoration.method": "pasd", "restoration.version": pasd.variant}
    return Saved(KIND, weights, said, f"Load PASD: as unet_name, with {SAME_FILE}")
