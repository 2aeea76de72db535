"""StyleID through its nodes, with a tiny network in the layout of Stable Diffusion 2's decoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from restoration.tests.host.networks import SMALL, conditioning, seeded_input

SD2_LIKE = {
    **SMALL,
    "model_channels": 64,
    "channel_mult": [1, 2, 2, 2],
    "num_res_blocks": 2,
    "attention_resolutions": [4, 2, 1],
    "num_head_channels": 64,
}
"""Stable Diffusion 2's decoder, narrow: 12 blocks, linear projections, 64 channels a head."""
HEIGHT, WIDTH = 16, 8
SCALE = 0.18215
STEPS = 3
MODES = ("cpu_fp16", "cpu_fp32", "lockstep")


def text(name: str = "empty", **entries: Any) -> list:
    return conditioning(seeded_input(3, f"text {name}", 1, 7, SMALL["context_dim"]), **entries)


def latent(name: str, rows: int = 1, height: int = HEIGHT, width: int = WIDTH) -> dict:
    return {"samples": seeded_input(3, name, rows, 4, height, width) / SCALE}


def invert_now(model, picture: dict | str, features: str = "cpu_fp32", **given: Any) -> tuple:
    from restoration.nodes.style import StyleIDInvert

    picture = latent(picture) if isinstance(picture, str) else picture
    given = {
        "conditioning": text(),
        "steps": STEPS,
        "convention": "diffusers",
        "layers": "6,7,8,9,10,11",
        **given,
    }
    with torch.inference_mode():
        return StyleIDInvert.execute(model, latent=picture, features=features, **given).result


inverted: dict[tuple, tuple] = {}


def invert(model, picture: dict | str, features: str = "cpu_fp32", **given: Any) -> tuple:
    """Inversions of pictures by name are kept: nothing changes them."""
    if not isinstance(picture, str) or "conditioning" in given:
        return invert_now(model, picture, features, **given)
    key = model, picture, features, *sorted(given.items())
    if key not in inverted:
        inverted[key] = invert_now(model, picture, features, **given)
    return inverted[key]


def apply(model, content, style, **given: Any) -> tuple:
    from restoration.nodes.style import StyleIDApply

    given = {
        "gamma": 0.75,
        "temperature": 1.5,
        "layers": "6,7,8,9,10,11",
        "adain": True,
        "start_percent": 0.0,
        "end_percent": 1.0,
        **given,
    }
    return StyleIDApply.execute(model, content, style, **given).result


def run(
    model,
    start: dict,
    sigmas: Tensor,
    cfg: float = 1.0,
    sampler: str = "euler",
    positive: list | None = None,
    negative: list | None = None,
    callback: Any = None,
) -> Tensor:
    """SamplerCustom without noise."""
    import comfy.sample
    import comfy.samplers

    with torch.inference_mode():
        return comfy.sample.sample_custom(
            model,
            torch.zeros_like(start["samples"]),
            cfg,
            comfy.samplers.sampler_object(sampler),
            sigmas,
            positive or text(),
            negative or text(),
            start["samples"],
            callback=callback,
            seed=5,
        )


def stylized(
    model, features: str = "cpu_fp32", content: Any = "content", style: Any = "style", **given: Any
) -> Tensor:
    """The whole method."""
    options = {
        key: given.pop(key) for key in ("steps", "convention", "conditioning") if key in given
    }
    sampling = {
        key: given.pop(key)
        for key in ("cfg", "sampler", "positive", "negative", "callback")
        if key in given
    }
    ends = [invert(model, picture, features, **options)[1] for picture in (content, style)]
    return run(*apply(model, *ends, **given), **sampling)


def close(found: Tensor, expected: Tensor, share: float = 1e-5) -> None:
    """Within a share of the largest value."""
    torch.testing.assert_close(found, expected, rtol=0, atol=share * float(expected.abs().max()))
