"""What is asked for before a run, held to what the run makes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from restoration.tests.host import pasd_networks, seesr_networks
from restoration.tests.host.networks import conditioning, sample, seeded_input

pytestmark = pytest.mark.host

ROWS, HEIGHT, WIDTH = 2, 8, 12


def picture() -> Tensor:
    return torch.sigmoid(seeded_input(9, "p", 1, 8 * HEIGHT, 8 * WIDTH, 3))


def pasd(variant: str) -> tuple[Any, torch.nn.Module]:
    from restoration.nodes.pasd import PACAControlApply

    config = pasd_networks.sd15()
    base, made = pasd_networks.base_model(config), pasd_networks.networks(config, variant)
    (patched,) = PACAControlApply.execute(base, made, picture(), 1.0, 0.0, 1.0).result
    return patched, made.control.model


def seesr() -> tuple[Any, torch.nn.Module]:
    from restoration.nodes.seesr import SeeSRControlApply

    base, made = seesr_networks.base_model(), seesr_networks.networks()
    embeds = seesr_networks.tag_embeds()
    (patched,) = SeeSRControlApply.execute(base, made, picture(), embeds, 1.0, 0.0, 1.0).result
    return patched, made.control.model


def announced(patched: Any, shape: list[int], dtype: torch.dtype) -> int:
    """Bytes beyond the latent's own rows, on a host where a row takes one byte."""
    from comfy.patcher_extension import WrappersMP

    model = SimpleNamespace(
        model=SimpleNamespace(memory_required=lambda shape: 1.0), model_dtype=lambda: dtype
    )
    shapes: list[list[int]] = []
    for wrapper in patched.get_all_wrappers(WrappersMP.PREPARE_SAMPLING):
        wrapper(lambda model, shape, *_, **__: shapes.append(list(shape)), model, shape)
    assert all(each[1:] == shape[1:] for each in shapes)
    return sum(each[0] - shape[0] for each in shapes)


@pytest.mark.parametrize(
    "build",
    [lambda: pasd("pasd"), lambda: pasd("pasd_light"), seesr],
    ids=["pasd", "pasd_light", "seesr"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_branch_announces_the_residuals_of_a_guided_step(comfy, build, dtype) -> None:
    patched, network = build()
    values: list[int] = []

    def count(module: Any, inputs: Any, output: Any) -> None:
        residuals, middle = output
        values.append(sum(each.numel() for each in [*residuals, middle]))

    handle = network.register_forward_hook(count)
    texts = [conditioning(seeded_input(3, name, 1, 7, 16)) for name in ("good", "bad")]
    sample(comfy, patched, *texts, torch.zeros(ROWS, 4, HEIGHT, WIDTH), steps=1)
    handle.remove()
    made = max(values) * dtype.itemsize  # conditional and unconditional rows are one call
    asked = announced(patched, [ROWS, 4, HEIGHT, WIDTH], dtype)
    assert made <= asked <= 1.3 * made
