"""Memory that runs out, and interrupts, at any call of any network of a run.

Seeded positions among all calls of all layers. What must hold afterwards: the result, or the host's
own error and nothing else; no hook and no patch left; and the next run equal bit for bit.
"""

from __future__ import annotations

import itertools
import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from restoration.tests.golden import seeded
from restoration.tests.golden.runners_diffbir import control_config
from restoration.tests.host import pasd_networks, seesr_networks
from restoration.tests.host.networks import (
    SMALL,
    conditioning,
    ldm_unet_config,
    sample,
    seeded_input,
    tiny_vae,
    unet_model,
)

pytestmark = pytest.mark.host

HEIGHT, WIDTH = 8, 12
TRIES = 4
"""Positions of every fault in every rig."""


@dataclass
class Rig:
    """A run, and every network in which it can be stopped."""

    run: Callable[[], Tensor]
    networks: dict[str, nn.Module]
    models: tuple[Any, ...] = ()
    """MODELs that must be as they were: run alone, they give `plain`."""
    plain: Callable[[], Tensor] | None = None
    shrinks: bool = False
    """Whether it goes on with smaller tiles, whose result may differ."""


def text(name: str) -> list:
    return conditioning(seeded_input(3, name, 1, 7, 16))


def picture() -> Tensor:
    return torch.sigmoid(seeded_input(9, "p", 1, 8 * HEIGHT, 8 * WIDTH, 3))


def sampled(host: Any, model: Any, *conds: list) -> Tensor:
    conds = conds or (text("good"), text("bad"))
    return sample(host, model, *conds, torch.zeros(1, 4, HEIGHT, WIDTH))


def tiled(model: Any) -> Any:
    """Smaller than the node allows: two tiles."""
    from restoration.host.tiled_sampling import TilePlan, apply_tiles

    return apply_tiles(model, TilePlan(8, 2))


def of_model(host: Any, base: Any, patched: Any, shrinks: bool, **networks: nn.Module) -> Rig:
    return Rig(
        lambda: sampled(host, patched),
        {"unet": base.model.diffusion_model, **networks},
        (base, patched),
        lambda: sampled(host, base),
        shrinks,
    )


def diffbir(host: Any, under_tiles: bool) -> Rig:
    from restoration.diffbir.keys import layout
    from restoration.diffbir.load import diffbir_control
    from restoration.nodes.diffbir import LAControlApply

    config = control_config(SMALL)
    weights = seeded.state_dict(11, layout(config))
    control = diffbir_control({k: torch.from_numpy(v) for k, v in weights.items()}, config)
    hint = {"samples": seeded_input(3, "hint", 1, 4, HEIGHT, WIDTH)}
    conds = LAControlApply.execute(text("good"), text("bad"), control, hint, 1.0, 0.0, 1.0).result
    base = unet_model(ldm_unet_config(SMALL))
    patched = tiled(base) if under_tiles else base
    return Rig(
        lambda: sampled(host, patched, *conds),
        {"unet": base.model.diffusion_model, "branch": control.control_model},
        (base, patched),
        lambda: sampled(host, base),
        under_tiles,
    )


def pasd(host: Any, under_tiles: bool, variant: str = "pasd") -> Rig:
    from restoration.nodes.pasd import PACAControlApply

    config = pasd_networks.sd15()
    base, made = pasd_networks.base_model(config), pasd_networks.networks(config, variant)
    (patched,) = PACAControlApply.execute(base, made, picture(), 1.0, 0.0, 1.0).result
    return of_model(
        host,
        base,
        tiled(patched) if under_tiles else patched,
        under_tiles,
        encoder=made.encoder.model,
        branch=made.control.model,
        attention=made.attention.model,
    )


def seesr(host: Any, under_tiles: bool) -> Rig:
    from restoration.nodes.seesr import SeeSRControlApply

    base, made = seesr_networks.base_model(), seesr_networks.networks()
    embeds = seesr_networks.tag_embeds()
    (patched,) = SeeSRControlApply.execute(base, made, picture(), embeds, 1.0, 0.0, 1.0).result
    return of_model(
        host,
        base,
        tiled(patched) if under_tiles else patched,
        under_tiles,
        branch=made.control.model,
        attention=made.rca.model,
    )


def tagger(host: Any) -> Rig:
    from restoration.nodes.seesr import DAPETagger

    model = seesr_networks.tiny_tagger()
    image = torch.cat([picture(), 1 - picture()])

    def run() -> Tensor:
        _, embeds = DAPETagger.execute(model, image, 0.0, 0, "").result
        return embeds.embeds

    return Rig(run, {"tagger": model.network})


def preview(host: Any) -> Rig:
    from restoration.nodes.pasd import PASDPyramidPreview

    made = pasd_networks.networks(pasd_networks.sd15())
    return Rig(
        lambda: PASDPyramidPreview.execute(made, picture()).result[0],
        {"encoder": made.encoder.model},
    )


def encode(host: Any) -> Rig:
    from restoration.nodes.vae import TiledVAEEncodeExact

    vae = tiny_vae()
    with torch.inference_mode():
        image = torch.sigmoid(seeded_input(9, "v", 1, 96, 160, 3))
    return Rig(
        lambda: TiledVAEEncodeExact.execute(image, vae, 64).result[0]["samples"],
        {"encoder": vae.first_stage_model.encoder},
    )


def decode(host: Any) -> Rig:
    from restoration.nodes.vae import TiledVAEDecodeExact

    vae = tiny_vae()
    latent = {"samples": seeded_input(9, "z", 1, 4, HEIGHT, WIDTH)}
    return Rig(
        lambda: TiledVAEDecodeExact.execute(latent, vae, 64).result[0],
        {"decoder": vae.first_stage_model.decoder},
    )


RIGS: dict[str, Callable[[Any], Rig]] = {
    "diffbir": lambda host: diffbir(host, False),
    "diffbir tiled": lambda host: diffbir(host, True),
    "pasd": lambda host: pasd(host, False),
    "pasd_light tiled": lambda host: pasd(host, True, "pasd_light"),
    "seesr": lambda host: seesr(host, False),
    "seesr tiled": lambda host: seesr(host, True),
    "tagger": tagger,
    "encoder preview": preview,
    "exact encode": encode,
    "exact decode": decode,
}


def leaves(network: nn.Module) -> Iterator[nn.Module]:
    return (module for module in network.modules() if not list(module.children()))


@contextmanager
def at_every_call(networks: dict[str, nn.Module], do: Callable[[], object]) -> Iterator[None]:
    def calling(*_: Any) -> None:
        do()

    handles = [
        leaf.register_forward_pre_hook(calling)
        for network in networks.values()
        for leaf in leaves(network)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def hooks(networks: dict[str, nn.Module]) -> int:
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks)
        for network in networks.values()
        for module in network.modules()
    )


def weights(networks: dict[str, nn.Module]) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": value.clone()
        for name, network in networks.items()
        for key, value in network.state_dict().items()
    }


def kinds(host: Any) -> list[Callable[[], Exception]]:
    """Running out of memory, in every form that this host counts as such."""
    mm = host.model_management
    made: list[Callable[[], Exception]] = [lambda: mm.OOM_EXCEPTION("the card is full")]
    if hasattr(mm, "raise_non_oom"):
        made.append(lambda: mm.ACCELERATOR_ERROR("CUDA error: out of memory"))
    return made


class Prepared:
    """A rig with what its undisturbed run gives."""

    def __init__(self, rig: Rig) -> None:
        self.rig, count = rig, itertools.count()
        self.before, self.hooks = weights(rig.networks), hooks(rig.networks)
        with at_every_call(rig.networks, lambda: next(count)):
            self.expected = rig.run()
        self.calls = next(count)
        self.plain = rig.plain and rig.plain()
        self.carried = [sorted(model.object_patches) for model in rig.models]

    def disturbed(self, fault: Callable[[], None], first: int, last: int) -> Tensor | Exception:
        """The run with the fault at its calls first to last."""
        count = itertools.count()

        def at_call() -> None:
            if first <= next(count) <= last:
                fault()

        with at_every_call(self.rig.networks, at_call):
            try:
                return self.rig.run()
            except Exception as error:
                # As the host does: what the traceback holds is not kept.
                return error.with_traceback(None)

    def is_as_before(self) -> None:
        rig = self.rig
        assert hooks(rig.networks) == self.hooks, "a hook was left behind"
        after = weights(rig.networks)
        changed = [key for key, value in self.before.items() if not torch.equal(after[key], value)]
        assert not changed, f"weights changed: {changed[:3]}"
        assert [sorted(model.object_patches) for model in rig.models] == self.carried
        if rig.plain is not None:
            assert torch.equal(rig.plain(), self.plain), "the model without the patch changed"
        assert torch.equal(rig.run(), self.expected), "the next run differs"


@pytest.fixture(scope="module")
def prepare(comfy) -> Callable[[str], Prepared]:
    made: dict[str, Prepared] = {}

    def get(name: str) -> Prepared:
        if name not in made:
            made[name] = Prepared(RIGS[name](comfy))
        return made[name]

    return get


@pytest.fixture
def host(comfy) -> SimpleNamespace:
    return comfy


def raising(make: Callable[[], Exception]) -> Callable[[], None]:
    def fault() -> None:
        raise make()

    return fault


@pytest.mark.parametrize("name", RIGS)
def test_out_of_memory_at_any_call(host, prepare, name, caplog) -> None:
    from restoration.host.memory import is_out_of_memory

    rig, choose = prepare(name), random.Random(f"memory {name}")
    caplog.set_level(logging.WARNING)
    for number in range(TRIES):
        make = choose.choice(kinds(host))
        first = choose.randrange(rig.calls)
        last = first if number < TRIES - 1 else 10**9  # once, and at last for good
        caplog.clear()
        found = rig.disturbed(raising(make), first, last)
        where = f"{name}: call {first} of {rig.calls}, {type(make()).__name__}: {found!r}"
        if isinstance(found, Tensor):
            said = [line for line in caplog.messages if "out of memory" in line]
            assert said, f"{where} was not told"
            same = found.shape == rig.expected.shape and torch.isfinite(found).all()
            near = torch.allclose(found, rig.expected, rtol=1e-4, atol=1e-4)
            assert same and (near or rig.rig.shrinks), where
        else:
            assert is_out_of_memory(found), where
        rig.is_as_before()


@pytest.mark.parametrize("name", RIGS)
def test_an_interrupt_at_any_call(host, prepare, name) -> None:
    """As the host's own: raised by whichever layer, or by the first check after the request."""
    mm = host.model_management
    rig, choose = prepare(name), random.Random(f"interrupt {name}")

    def now() -> None:
        raise mm.InterruptProcessingException

    def asked() -> None:
        mm.interrupt_current_processing(True)

    for fault in (now, asked, asked):
        first = choose.randrange(rig.calls)
        try:
            found = rig.disturbed(fault, first, first)
        finally:
            mm.interrupt_current_processing(False)
        if isinstance(found, Tensor):  # asked for after the last check
            assert fault is asked and torch.equal(found, rig.expected)
        else:
            assert isinstance(found, mm.InterruptProcessingException), f"call {first}: {found!r}"
        rig.is_as_before()


@pytest.mark.parametrize("name", ["diffbir tiled", "pasd", "seesr tiled"])
def test_memory_that_runs_out_twice_in_a_row_ends_like_once(host, prepare, name) -> None:
    from restoration.host.memory import is_out_of_memory

    rig, oom = prepare(name), raising(kinds(host)[0])
    for first in (0, rig.calls // 2):
        for _ in range(2):
            found = rig.disturbed(oom, first, 10**9)
            assert isinstance(found, Exception) and is_out_of_memory(found)
    rig.is_as_before()
