"""Every method that samples a photo as small real networks, in place of what loaders would read."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch

from restoration.tests.golden import seeded
from restoration.tests.golden.runners_diffbir import control_config
from restoration.tests.host import onestep_networks, pasd_networks, seesr_networks
from restoration.tests.host.networks import SMALL, ldm_unet_config, tiny_vae, unet_model
from restoration.tests.host.workflow_runs import TinyText, stage1

Loaders = dict[str, tuple[str, tuple[str, ...], Callable[[str], tuple]]]
"""See `replaced_loaders`."""


def tiny_methods() -> SimpleNamespace:
    """vae, the networks of the methods, and `bases`: by method, or DiffBIR's second version."""
    from restoration.diffbir.keys import layout
    from restoration.diffbir.load import diffbir_control

    config = control_config(SMALL)
    weights = seeded.state_dict(11, layout(config))
    return SimpleNamespace(
        vae=tiny_vae(),
        bases={
            "diffbir": unet_model(ldm_unet_config(SMALL)),
            "diffbir_v2.1": unet_model(ldm_unet_config(SMALL), prediction="v", zsnr=True),
            "pasd": pasd_networks.base_model(pasd_networks.sd15()),
            "seesr": seesr_networks.base_model(),
            "pisasr": onestep_networks.base_model(),
            "osediff": onestep_networks.base_model(),
        },
        control=diffbir_control({k: torch.from_numpy(v) for k, v in weights.items()}, config),
        pasd=pasd_networks.networks(pasd_networks.sd15()),
        seesr=seesr_networks.networks(),
        dape=seesr_networks.tiny_tagger(),
        onestep={
            "pisa_sr.pkl": onestep_networks.onestep_model("pisasr"),
            **dict.fromkeys(
                ("osediff.pkl", "osediff_face.pkl"), onestep_networks.onestep_model("osediff")
            ),
        },
    )


def loaders_of(tiny: SimpleNamespace, base: Callable[[], Any]) -> Loaders:
    """base: gives the MODEL of the workflow that is run. BSRNet enlarges, other networks do not."""
    return {
        "CheckpointLoaderSimple": (
            "ckpt_name",
            ("MODEL", "CLIP", "VAE"),
            lambda file: (base(), TinyText(), tiny.vae),
        ),
        "UpscaleModelLoader": (
            "model_name",
            ("UPSCALE_MODEL",),
            lambda file: (stage1(4 if file == "BSRNet.pth" else 1),),
        ),
        "DiffBIRControlLoader": (
            "control_net_name",
            ("CONTROL_NET",),
            lambda file: (tiny.control,),
        ),
        "PASDLoader": ("unet_name", ("PASD_MODEL",), lambda file: (tiny.pasd,)),
        "SeeSRLoader": ("unet_name", ("SEESR_MODEL", "MODEL"), lambda file: (tiny.seesr, base())),
        "OneStepLoader": (
            "onestep_name",
            ("ONESTEP_MODEL",),
            lambda file: (tiny.onestep[file],),
        ),
        "DAPELoader": ("ram_name", ("DAPE_MODEL",), lambda file: (tiny.dape,)),
    }
