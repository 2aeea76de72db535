"""From the published files to SeeSR's networks: read, recognize, split, check, build, place."""

from __future__ import annotations

import logging
from typing import Any

import comfy.model_base
import comfy.ops
import comfy.sd
import comfy.utils

from ..common.state_dict import CheckpointError, StateDict, check_layout, with_prefix
from ..host.control_encoder import control_weights
from ..host.loading import layers_for, placed, read_pair
from ..host.patching import base_words, has_sizes
from .config import SD2, SeeSRConfig
from .keys import (
    ADVICE,
    CONTROL_EXPECTED,
    ENCODER_PREFIX,
    IDENTITY,
    UNET_EXPECTED,
    control_layout,
    control_part,
    rca_layout,
    rca_weights,
    unet_parts,
)
from .networks import SeeSRControlNet, SeeSRModel, rca_layers

log = logging.getLogger(__name__)
SAME = 5e-3
"""Relative difference up to which weights count as the same: half precision rounds by less."""


def load_seesr(
    unet_name: str, control_net_name: str, model: Any | None, config: SeeSRConfig = SD2
) -> tuple[SeeSRModel, Any]:
    """(SEESR_MODEL, MODEL) from files of the folder `restoration`. model: the user's own base;
    None: the UNet that SeeSR was trained with, from its file."""
    if model is not None:
        check_base(model, config)
    (unet, unet_name), (control, control_net_name) = read_pair(unet_name, control_net_name)
    networks, plain = seesr_model(unet, control, unet_name, control_net_name, config)
    if model is None:
        return networks, own_base(plain, unet_name)
    same = same_base(model, networks)
    if same is not None:
        relation = "is the one" if same else "differs from the one"
        log.info("Load SeeSR: the connected model %s that SeeSR was trained with.", relation)
    return networks, model


def seesr_model(
    unet: object,
    control: object,
    unet_file: str = "The UNet",
    control_file: str = "The control network",
    config: SeeSRConfig = SD2,
) -> tuple[SeeSRModel, StateDict]:
    """(the added networks, the plain UNet's weights) in two files' contents, the same twice for a
    converted file. Raises CheckpointError."""
    plain, added = unet_parts(unet, unet_file)
    controlled = control_part(control, control_file)
    check_layout(controlled, control_layout(config), control_file, CONTROL_EXPECTED, ADVICE)
    check_layout(added, rca_layout(config, config.unet_sites), unet_file, UNET_EXPECTED, ADVICE)

    branch = SeeSRControlNet(config, **layers_for(controlled))
    rca = rca_layers(config.unet_sites, config, **layers_for(added))
    identity = {key: plain[key].float().cpu() for key in IDENTITY if key in plain}
    networks = SeeSRModel(
        config,
        placed(branch, branch_weights(controlled, config)),
        placed(rca, rca_weights(added, config.unet_sites)),
        identity,
    )
    return networks, plain


def branch_weights(controlled: StateDict, config: SeeSRConfig) -> StateDict:
    """The published control network's weights under the names of `SeeSRControlNet`."""
    parts = {
        "hint": with_prefix(controlled, ENCODER_PREFIX),
        "encoder": control_weights(controlled, config.unet_config()),
        "rca": rca_weights(controlled, config.encoder_sites),
    }
    return {f"{part}.{key}": value for part, inner in parts.items() for key, value in inner.items()}


def own_base(plain: StateDict, file: str) -> Any:
    """MODEL from the plain part of SeeSR's UNet, predicting noise."""
    if not plain:
        raise CheckpointError(
            f"{file} holds only what SeeSR adds to a UNet. Connect a Stable Diffusion 2 checkpoint "
            f"to `model`, or choose the published UNet. {ADVICE}"
        )
    model = comfy.sd.load_diffusion_model_state_dict(plain)
    if model is None:
        raise CheckpointError(
            f"{file} is not {UNET_EXPECTED}: its plain part ({len(plain)} weights) is not a whole "
            f"Stable Diffusion 2 UNet. {ADVICE}"
        )
    eps = comfy.model_base.ModelType.EPS
    if model.model.model_type != eps:
        # The host tells v prediction from the spread of one bias.
        model.model.model_type = eps
        model.model.model_sampling = comfy.model_base.model_sampling(model.model.model_config, eps)
    return model


def check_base(model: Any, config: SeeSRConfig) -> None:
    """ValueError unless MODEL has the sizes of the UNet that SeeSR belongs to."""
    if not has_sizes(model, config.sizes):
        raise ValueError(
            f"`model` is a {base_words(model)}; SeeSR adds attention to Stable Diffusion 2 "
            f"({config.context_dim} wide). Connect an SD 2.x or SD-Turbo checkpoint, or leave "
            "`model` of Load SeeSR empty and use the MODEL it gives."
        )


def same_base(model: Any, networks: SeeSRModel) -> bool | None:
    """Whether MODEL has the weights that SeeSR was trained with; None: the file does not tell."""
    if not networks.identity:
        return None
    names = comfy.utils.unet_to_diffusers(networks.config.unet_config())
    for key, expected in networks.identity.items():
        found = model.get_model_object(f"diffusion_model.{names[key]}").detach().float().cpu()
        if (found - expected).norm() > SAME * expected.norm():
            return False
    return True
