"""The key tables against the manifests of the published files."""

from __future__ import annotations

import pytest

from restoration.pasd.keys import added_part, config_from, control_part
from restoration.seesr.config import SD2
from restoration.tests.tools.weights.published import manifest, shapes
from restoration.tools.weights import layouts


@pytest.mark.parametrize("kind", ["controlnet", "controlnet_rrdb", "controlnet_sdxl"])
def test_pasd_control_networks(kind) -> None:
    published = manifest(f"pasd/manifest_{kind}")
    config = config_from(control_part(published)[0])
    sizes = {"rrdb": kind.endswith("rrdb"), "heads": True}
    assert layouts.controlnet(config.unet_config(), **sizes) == shapes(published)


@pytest.mark.parametrize("kind", ["unet_pasd", "unet_pasd_light", "unet_pasd_sdxl"])
def test_pasd_unets(kind) -> None:
    published = manifest(f"pasd/manifest_{kind}")
    config = config_from(published)
    variant, added = added_part(published)
    plain = {key: value for key, value in published.items() if key not in added}
    assert layouts.pasd_attention(variant, config, added) == shapes(added)
    assert layouts.unet(config.unet_config()) == shapes(plain)


def test_seesr() -> None:
    control = layouts.controlnet(SD2.unet_config()) | layouts.rca(SD2.encoder_sites, SD2)
    assert control == shapes(manifest("seesr/manifest_seesr_controlnet"))
    unet = layouts.unet(SD2.unet_config()) | layouts.rca(SD2.unet_sites, SD2)
    assert unet == shapes(manifest("seesr/manifest_seesr_unet"))
