"""From a published file to DiffBIR's control network."""

from __future__ import annotations

import comfy.ops
from comfy import model_management as mm
from torch import Tensor

from ..host.loading import preferred_dtype, read_file
from ..host.saving import Saved
from .attach import DiffBIRControl
from .config import SD21, ControlConfig
from .keys import convert
from .networks import DiffBIRControlNet


def load_diffbir_control(file: str, config: ControlConfig = SD21) -> DiffBIRControl:
    """The DiffBIR ControlNet in a file of the `controlnet` folder."""
    return diffbir_control(convert(read_file("controlnet", file), file, config), config)


def diffbir_control(weights: dict[str, Tensor], config: ControlConfig = SD21) -> DiffBIRControl:
    """A control around a network with these weights (see keys.py for the keys), in
    the precision the host prefers for them."""
    device = mm.get_torch_device()
    dtype = preferred_dtype(weights)
    cast = mm.unet_manual_cast(dtype, device)
    network = DiffBIRControlNet(
        config, dtype, mm.unet_offload_device(), comfy.ops.pick_operations(dtype, cast)
    )
    network.load_state_dict(weights)
    return DiffBIRControl(network.eval(), device, cast)


def saved_diffbir(control: DiffBIRControl) -> Saved:
    """Its file, as published. The versions have the same keys; who saves it knows which it is."""
    said = {"restoration.method": "diffbir"}
    return Saved("controlnet", control.control_model.state_dict(), said, "Load DiffBIR ControlNet")
