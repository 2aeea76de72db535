"""The key tables against the manifests of the published files."""

from __future__ import annotations

import pytest

from restoration.common.unet_layout import diffusers_unet
from restoration.pasd import keys as pasd
from restoration.seesr import keys as seesr
from restoration.seesr.config import SD2
from restoration.tests.tools.weights.published import manifest, shapes


@pytest.mark.parametrize("kind", ["controlnet", "controlnet_rrdb", "controlnet_sdxl"])
def test_pasd_control_networks(kind) -> None:
    published = manifest(f"pasd/manifest_{kind}")
    control, encoder = pasd.control_part(published)
    assert pasd.control_layout(pasd.config_from(control), encoder) == shapes(published)


@pytest.mark.parametrize("kind", ["unet_pasd", "unet_pasd_light", "unet_pasd_sdxl"])
def test_pasd_unets(kind) -> None:
    published = manifest(f"pasd/manifest_{kind}")
    config = pasd.config_from(published)
    variant, added = pasd.added_part(published)
    plain = {key: value for key, value in published.items() if key not in added}
    assert pasd.attention_layout(variant, config, added) == shapes(added)
    assert diffusers_unet(config) == shapes(plain)


def test_seesr() -> None:
    assert seesr.control_layout(SD2) == shapes(manifest("seesr/manifest_seesr_controlnet"))
    assert seesr.unet_layout(SD2, plain=True) == shapes(manifest("seesr/manifest_seesr_unet"))
