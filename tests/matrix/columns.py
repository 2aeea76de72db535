"""Our side of the matrix: every node of ours that takes and gives a MODEL, and those below.

A node that is not named here joins with the defaults of its schema.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from restoration.tests.matrix.scene import HEIGHT, Scene, Setup
from restoration.tests.matrix.wiring import Wired, call, takes_and_gives_model

LATER = {"start_percent": 0.3, "end_percent": 1.0}
"""Not the first step: entries of the prompt then join in the middle of a run."""
STEPS = 2
Order = Literal["ours first", "theirs first"]
RUNS: tuple[tuple[Order, float], ...] = (
    ("ours first", 1.0),
    ("ours first", 4.0),
    ("theirs first", 4.0),
)
KEPT = 1e-2
CFG = 4.0
"""Of what is run once."""


@dataclass(frozen=True, eq=False)
class Column:
    """A node of ours with one setting of it.

    runs: orders of nodes with their cfg. any_order: its help promises that the order of nodes does
    not matter. compared: whether its runs begin where the plain one does, so that effects can be
    told. in_tiles: whether it is tiled together with the host's node. kept: what must be left of
    an effect beside another, as a part of what it is alone.
    """

    wired: Wired
    scene: Literal["small", "twelve"] = "small"
    runs: tuple[tuple[Order, float], ...] = RUNS
    any_order: bool = False
    compared: bool = True
    in_tiles: bool = False
    kept: float = KEPT

    @property
    def name(self) -> str:
        return self.wired.name

    def begin(self, scene: Scene) -> Setup:
        """What the plain model is sampled with, too."""
        return scene.setup

    def apply(self, setup: Setup, scene: Scene) -> Setup:
        return self.wired.apply(setup, scene)


class Tiles(Column):
    """Of a size below what the node offers, for a small picture."""

    def apply(self, setup: Setup, scene: Scene) -> Setup:
        return tiled(setup, HEIGHT)


def tiled(setup: Setup, side: int, batch: int = 1) -> Setup:
    """side: of a tile, in cells."""
    from restoration.host.tiled_sampling import TilePlan, apply_tiles

    return replace(setup, model=apply_tiles(setup.model, TilePlan(side, HEIGHT // 2, batch)))


class OneStep(Column):
    """Runs are one step from a photo's latent, whose noise level is the method's; the plain model
    takes the same."""

    def begin(self, scene: Scene) -> Setup:
        from restoration.host.one_step import one_step_of

        sampling = one_step_of(self.apply(scene.setup, scene).model)
        assert sampling is not None
        sigmas = torch.tensor([float(sampling.sigma_max), 0.0])
        latent = scene.sockets["LATENT"]()["samples"]
        return replace(scene.setup, latent=latent, noise=False, sigmas=sigmas)


@dataclass(frozen=True, eq=False)
class StyleID(Column):
    """Content and style are inverted first; runs begin at the content's noise. invert_last: with
    the model that Apply StyleID gets, else with the plain one."""

    features: str = "cpu_fp32"
    invert_last: bool = False
    scene: Literal["small", "twelve"] = "twelve"

    def _inverted(self, model: Any, scene: Scene, name: str) -> tuple[Any, ...]:
        from restoration.nodes.style import StyleIDInvert

        picture = scene.sockets["LATENT"]()
        latent = {"samples": picture["samples"] * (1.0 if name == "content" else -0.7)}
        given = {
            "conditioning": scene.sockets["CONDITIONING"](),
            "steps": STEPS,
            "convention": "diffusers",
            "layers": "6,7,8,9,10,11",
        }
        return call(
            StyleIDInvert, {"model": model, "latent": latent, "features": self.features, **given}
        )

    @functools.cache  # noqa: B019 -- as many as there are columns
    def _plain(self, scene: Scene) -> tuple[Any, Any, Any]:
        (start, content), (_, style) = (
            self._inverted(scene.model, scene, name) for name in ("content", "style")
        )
        return start, content, style

    def begin(self, scene: Scene) -> Setup:
        _, content, style = self._plain(scene)
        _, latent, sigmas = self._applied(scene.model, content, style)
        return replace(scene.setup, latent=latent["samples"], noise=False, sigmas=sigmas)

    def apply(self, setup: Setup, scene: Scene) -> Setup:
        if self.invert_last:
            content = self._inverted(setup.model, scene, "content")[1]
            style = self._inverted(setup.model, scene, "style")[1]
        else:
            _, content, style = self._plain(scene)
        model, latent, sigmas = self._applied(setup.model, content, style)
        if not self.compared:
            setup = replace(setup, latent=latent["samples"], sigmas=sigmas)
        return replace(setup, model=model)

    def _applied(self, model: Any, content: Any, style: Any) -> tuple[Any, ...]:
        given = {"gamma": 0.75, "temperature": 1.5, "layers": "6,7,8,9,10,11", "adain": False}
        percent = {"start_percent": 0.0, "end_percent": 1.0}
        return call(
            self.wired.node,
            {"model": model, "content": content, "style": style, **given, **percent},
        )


@dataclass(frozen=True)
class Setting:
    """Of one node, for one column."""

    label: str = ""
    given: dict[str, Any] = field(default_factory=dict)
    sockets: dict[str, str] = field(default_factory=dict)
    any_order: bool = False
    in_tiles: bool = False
    kept: float = KEPT


SETTINGS: dict[str, tuple[Setting, ...]] = {
    "PACAControlApply": (
        Setting(in_tiles=True),
        Setting("light", sockets={"pasd_model": "PASD_MODEL light", "mask": "MASK"}),
    ),
    "SeeSRControlApply": (Setting(sockets={"mask": "MASK"}),),
    "OSEDiffApply": (Setting(sockets={"onestep_model": "ONESTEP_MODEL osediff"}, in_tiles=True),),
    "PiSASRApply": (
        Setting(sockets={"onestep_model": "ONESTEP_MODEL pisasr"}),
        Setting(
            "dials",
            {"lambda_pix": 0.6, "lambda_sem": 1.4},
            {"onestep_model": "ONESTEP_MODEL pisasr", "mask": "MASK"},
            in_tiles=True,
        ),
    ),
    "LatentImageGuidance": (Setting(given={"scale": 5.0}, sockets={"latent": "LATENT"}),),
    "DDNMGuidance": (Setting(given={"scale": 2}, sockets={"latent": "LATENT"}),),
    "RestorationCFG": (
        Setting("range", LATER, any_order=True, kept=1e-5),
        Setting("rescale", {"rescale": True}, kept=1e-5),
    ),
}
ON_TEXTS = {"LAControlApply": Setting(given={"noise_aug": 60})}
"""Nodes of ours that patch conditionings: there is no order with nodes that patch the model."""
ONE_STEP = ("OSEDiffApply", "PiSASRApply")
PASSED_ON = {"SeeSRLoader": "passes its MODEL on as it is"}
"""Nodes of ours that take and give a MODEL and are no patch."""


def columns() -> list[Column]:
    from restoration.nodes import load_nodes

    found: list[Column] = []
    for node in load_nodes():
        name = node.GET_SCHEMA().node_id
        if name in PASSED_ON:
            continue
        if name in ON_TEXTS:
            setting = ON_TEXTS[name]
            found.append(Column(Wired(name, node, setting.given, setting.sockets), runs=RUNS[:2]))
        elif name == "StyleIDApply":
            found += [
                StyleID(Wired(name, node)),
                StyleID(Wired(f"{name} lockstep", node), features="lockstep", runs=RUNS[:2]),
                StyleID(
                    Wired("StyleIDInvert", node),
                    invert_last=True,
                    compared=False,
                    runs=(("theirs first", 1.0),),
                ),
            ]
        elif name == "TiledRestoration":
            found.append(Tiles(Wired(name, node), any_order=True, in_tiles=True))
        elif takes_and_gives_model(node):
            kind = OneStep if name in ONE_STEP else Column
            found += [
                kind(
                    Wired(f"{name} {each.label}".strip(), node, each.given, each.sockets),
                    any_order=each.any_order,
                    in_tiles=each.in_tiles,
                    kept=each.kept,
                )
                for each in SETTINGS.get(name, (Setting(),))
            ]
    return found
