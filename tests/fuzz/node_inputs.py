"""Inputs of every node, drawn from its schema: in the node itself, and in the host's own check."""

from __future__ import annotations

import asyncio
import functools
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from restoration.tests.fuzz.campaign import Campaign, Fault, checked_sentence
from restoration.tests.fuzz.mutations import HOSTILE_TEXTS
from restoration.tests.host import onestep_networks, pasd_networks, seesr_networks
from restoration.tests.host.networks import (
    SMALL,
    conditioning,
    executed,
    ldm_unet_config,
    sample,
    seeded_input,
    tiny_vae,
    unet_model,
)

HEIGHT, WIDTH = 8, 12
"""Cells of the latent."""
REFUSALS = (ValueError, FileNotFoundError)
COSTLY = ("steps", "repeat", "count", "levels", "multiple", "tile", "side", "upscale", "size")
"""Numbers whose upper end is time or memory, not a rule: drawn near their lower end."""
MOST_STEPS = 50


def image(rows: int = 1) -> Tensor:
    return torch.sigmoid(seeded_input(9, "p", rows, 8 * HEIGHT, 8 * WIDTH, 3))


def latent(rows: int = 1) -> dict[str, Tensor]:
    return {"samples": seeded_input(9, "z", rows, 4, HEIGHT, WIDTH)}


def diffbir_control() -> Any:
    from restoration.diffbir.keys import layout
    from restoration.diffbir.load import diffbir_control
    from restoration.tests.golden import seeded
    from restoration.tests.golden.runners_diffbir import control_config

    config = control_config(SMALL)
    weights = seeded.state_dict(11, layout(config))
    return diffbir_control({k: torch.from_numpy(v) for k, v in weights.items()}, config)


def restore_info() -> Any:
    from restoration.common.sizing import prepare

    return prepare(image(), 1.0, 0, 8, "pad")[1]


VALID: dict[str, Callable[[], Any]] = {
    "IMAGE": image,
    "MASK": lambda: image()[..., 0],
    "LATENT": latent,
    "MODEL": lambda: pasd_networks.base_model(pasd_networks.sd15()),
    "VAE": tiny_vae,
    "CONDITIONING": lambda: conditioning(seeded_input(3, "good", 1, 7, 16)),
    "SIGMAS": lambda: torch.tensor([14.6146, 3.0, 0.5, 0.0]),
    "CONTROL_NET": diffbir_control,
    "PASD_MODEL": lambda: pasd_networks.networks(pasd_networks.sd15()),
    "SEESR_MODEL": seesr_networks.networks,
    "ONESTEP_MODEL": lambda: onestep_networks.onestep_model("pisasr"),
    "DAPE_MODEL": seesr_networks.tiny_tagger,
    "PASD_MODEL,CONTROL_NET,DAPE_MODEL": seesr_networks.tiny_tagger,
    "TAG_EMBEDS": seesr_networks.tag_embeds,
    "RESTORE_INFO": restore_info,
}


def hostile_tensors() -> list[Any]:
    whole = image()
    return [
        whole[:0],
        whole[:, :0],
        whole[0],
        whole[0, 0],
        whole[None],
        whole[..., :1],
        whole[..., :2],
        whole[:, :1, :1],
        whole.repeat(1, 1, 1, 2),
        image(3),
        whole * math.nan,
        whole / 0,
        whole * 1e30,
        -whole,
        (whole * 255).to(torch.uint8),
        whole.double(),
        whole.half(),
        whole > 0.5,
        whole.movedim(-1, 1),
        torch.tensor(1.0),
        torch.zeros(0),
    ]


def hostile_latents() -> list[Any]:
    z = latent()["samples"]
    held: list[Any] = [z[:0], z[0], z[None], z[..., :0], z[:, :3], z.repeat(1, 4, 1, 1)]
    held += [z * math.nan, z / 0, z.double(), z.to(torch.int64), z[..., :3, :5], None]
    found: list[Any] = [{"samples": each} for each in held]
    found += [latent(3), {}, {"samples": z, "batch_index": [5]}]
    return [*found, {"samples": z, "noise_mask": torch.zeros(1, 3, 3)}]


def hostile_texts() -> list[Any]:
    text = seeded_input(3, "good", 1, 7, 16)
    held = [text[:0], text[..., :5], text * math.nan, text.repeat(3, 1, 1), text[0]]
    return [*map(conditioning, held), [], [[text]], [[text, None]], [["x", {}]]]


def hostile(kind: str, rng: random.Random) -> Any:
    """Something that a socket of that kind should not hold."""
    anything = (None, "x", 3, [], {}, object())
    if rng.random() < 0.15:
        return rng.choice(anything)
    match kind:
        case "IMAGE":
            return rng.choice(hostile_tensors())
        case "MASK":
            masks = [t[..., 0] if t.ndim > 3 else t for t in hostile_tensors()]
            return rng.choice([*masks, image()])
        case "LATENT":
            return rng.choice(hostile_latents())
        case "CONDITIONING":
            return rng.choice(hostile_texts())
        case "SIGMAS":
            s = torch.tensor([14.6146, 3.0, 0.5, 0.0])
            return rng.choice([s[:0], s[:1], s * math.nan, s.flip(0), -s, s[None], s * 1e9, 0 * s])
        case _:
            return rng.choice(anything)


def number(part: Any, rng: random.Random) -> Any:
    low = 0 if part.min is None else part.min
    high = 10 if part.max is None else part.max
    near = any(word in part.id for word in COSTLY)
    default = min(part.default, MOST_STEPS) if "steps" in part.id else part.default
    inside = [low, default, min(high, low + 1)]
    if not near:
        inside += [high, low + (high - low) * rng.random()]
    if isinstance(part.default, int):
        inside = [int(value or 0) for value in inside]
    odd = [
        low - 1,
        high + 1,
        -0.0,
        math.nan,
        math.inf,
        -math.inf,
        2**70,
        1e-9,
        True,
        "12",
        [1],
        None,
    ]
    return rng.choice(odd) if rng.random() < 0.45 else rng.choice(inside)


def widget(part: Any, rng: random.Random) -> Any:
    """A value of a widget, half of them wrong."""
    if part.io_type == "COMBO":
        return rng.choice(
            [*part.options, *part.options, "no such choice", "", 3, None, HOSTILE_TEXTS[3]]
        )
    if part.io_type in ("INT", "FLOAT"):
        return number(part, rng)
    if part.io_type == "BOOLEAN":
        return rng.choice([True, False, "no", 2, None])
    return rng.choice([*HOSTILE_TEXTS, "a dog", 3, None, ["x"]])


def is_widget(part: Any) -> bool:
    kinds = ("COMBO", "INT", "FLOAT", "STRING", "BOOLEAN")
    return part.io_type in kinds and not part.as_dict().get("forceInput")


WRITES = ("RestorationNetworkSave",)
"""Nodes that put files into the models' folders, which are the user's."""


class NodeInputs(Campaign):
    """`execute` as the host calls it, with one or two inputs drawn; and a step with what comes out."""

    name: ClassVar[str] = "nodes"
    needs_host: ClassVar[bool] = True

    def __init__(self) -> None:
        from restoration.nodes import load_nodes

        self.valid = {kind: functools.cache(make) for kind, make in VALID.items()}
        self.nodes = []
        self.left_out: list[str] = []
        for node in load_nodes():
            schema = node.define_schema()
            missing = [
                part.id
                for part in schema.inputs
                if not part.optional and not is_widget(part) and part.io_type not in VALID
            ]
            # Its choices are files that are not here: the campaign of the loaders has them.
            missing += [p.id for p in schema.inputs if p.io_type == "COMBO" and not p.options]
            left_out = missing or schema.node_id in WRITES
            (self.left_out if left_out else self.nodes).append(node)
        self.left_out = [node.define_schema().node_id for node in self.left_out]

    def inputs(self, node: Any) -> dict[str, Any]:
        """What the node takes without a word, as small as it gets."""
        given: dict[str, Any] = {}
        for part in node.define_schema().inputs:
            if is_widget(part):
                if part.io_type == "COMBO":
                    given[part.id] = part.default or part.options[0]
                elif part.id == "steps":
                    given[part.id] = 2
                elif part.default is not None:  # else a text that comes through a socket
                    given[part.id] = part.default
            elif not part.optional:
                given[part.id] = self.valid[part.io_type]()
        match node.define_schema().node_id:
            case "SeeSRControlApply" | "PiSASRApply":
                given["model"] = self.seesr_base
            case "OSEDiffApply":
                given["model"] = self.seesr_base
                given["onestep_model"] = self.osediff
            case "RestorationFineTune":
                given["crop_size"] = 64
            case "OneStepSigmas":
                given["model"] = self.one_step
            case "StyleIDInvert":
                given["model"] = self.styleid_base
            case "LatentImageGuidance" | "DDNMGuidance":  # one of its optional inputs it needs
                given["latent"] = self.valid["LATENT"]()
        return given

    def warm_up(self) -> list[str]:
        """Runs every node with its valid inputs: what is imported or built at the first call is no
        part of a case. Returns the nodes that lack a file, which nobody has fetched here."""
        without = []
        for node in self.nodes:
            try:
                with torch.inference_mode():
                    executed(node, **self.inputs(node))
            except FileNotFoundError:
                without.append(node.define_schema().node_id)
        return without

    @functools.cached_property
    def styleid_base(self) -> Any:
        """With the twelve decoder blocks that StyleID counts."""
        levels = {"channel_mult": [1, 1, 1, 1], "num_res_blocks": 2}
        return unet_model(ldm_unet_config({**SMALL, **levels, "attention_resolutions": [4, 2, 1]}))

    @functools.cached_property
    def seesr_base(self) -> Any:
        return seesr_networks.base_model()

    @functools.cached_property
    def osediff(self) -> Any:
        return onestep_networks.onestep_model("osediff")

    @functools.cached_property
    def one_step(self) -> Any:
        from restoration.nodes.onestep import PiSASRApply

        return PiSASRApply.execute(self.seesr_base, VALID["ONESTEP_MODEL"](), 1.0, 1.0).result[0]

    def case(self, rng: random.Random, folder: Path) -> str:
        node = rng.choice(self.nodes)
        schema = node.define_schema()
        given = self.inputs(node)
        parts = {part.id: part for part in schema.inputs}
        for name in rng.sample(sorted(parts), min(len(parts), rng.choice((1, 1, 2)))):
            part = parts[name]
            if is_widget(part):
                given[name] = widget(part, rng)
            elif rng.random() < 0.8 or part.io_type not in VALID:
                given[name] = hostile(part.io_type, rng)
            else:
                given[name] = self.valid[part.io_type]()
        said = f"{schema.node_id}({', '.join(f'{k}={short(given[k])}' for k in sorted(given))})"
        state = torch.get_rng_state()
        try:
            with torch.inference_mode():
                found = executed(node, **given) or ()
                for value in found:
                    self.use(value)
        except REFUSALS as error:
            return checked_sentence(str(error))
        except Exception as error:
            raise Fault(f"{type(error).__name__} of {said}") from error
        finally:
            moved = not torch.equal(state, torch.get_rng_state())
        if moved:
            raise Fault(f"the global random state moved: {said}")
        return ""

    def use(self, value: Any) -> None:
        """A MODEL is sampled with for a step; a picture must be one."""
        import comfy.model_patcher

        from restoration.host.one_step import one_step_of

        if isinstance(value, comfy.model_patcher.ModelPatcher):
            import nodes

            host = type("Host", (), {"nodes": nodes})
            pair = [conditioning(seeded_input(3, name, 1, 7, 16)) for name in ("good", "bad")]
            start = latent()["samples"] * float(one_step_of(value) is not None)
            with torch.random.fork_rng(devices=[]):
                sample(host, value, *pair, start, steps=1)
        elif isinstance(value, Tensor) and value.ndim == 4 and not value.is_floating_point():
            raise Fault(f"a picture of {value.dtype}")


def short(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"tensor{list(value.shape)} {value.dtype} {value.flatten()[:1].tolist()}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {short(v)}" for k, v in value.items()) + "}"
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}..."


class Anything(str):
    """A type that fits every socket."""

    def __ne__(self, other: object) -> bool:
        return False


class Source:
    RETURN_TYPES = (Anything("*"),)
    FUNCTION = "give"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        return {"required": {}}


class Sink:
    RETURN_TYPES = ()
    FUNCTION = "take"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        return {"required": {"value": (Anything("*"),)}}


class Prompts(NodeInputs):
    """The host's check of a prompt: constants and links drawn, in every node, sockets linked."""

    name: ClassVar[str] = "prompts"

    def __init__(self) -> None:
        super().__init__()
        import nodes
        from restoration.nodes import load_nodes

        self.nodes, self.left_out = load_nodes(), []  # the host's check runs nothing
        ours = {node.GET_SCHEMA().node_id: node for node in self.nodes}
        self.patch = pytest.MonkeyPatch()
        for name, node in {"FuzzSource": Source, "FuzzSink": Sink, **ours}.items():
            self.patch.setitem(nodes.NODE_CLASS_MAPPINGS, name, node)

    def warm_up(self) -> list[str]:
        return []

    def close(self) -> None:
        self.patch.undo()

    def case(self, rng: random.Random, folder: Path) -> str:
        import inspect

        import execution

        node = rng.choice(self.nodes)
        schema = node.define_schema()
        inputs: dict[str, Any] = {}
        for part in schema.inputs:
            if not is_widget(part) or rng.random() < 0.2:
                inputs[part.id] = ["1", 0]
            elif rng.random() < 0.35:
                inputs[part.id] = widget(part, rng)
            elif part.io_type == "COMBO":
                inputs[part.id] = part.default or (part.options or ["none"])[0]
            else:
                inputs[part.id] = part.default
            if rng.random() < 0.03:
                del inputs[part.id]
        if rng.random() < 0.1:
            inputs[rng.choice(HOSTILE_TEXTS)] = 1
        prompt = {
            "1": {"class_type": "FuzzSource", "inputs": {}},
            "2": {"class_type": schema.node_id, "inputs": inputs},
        }
        if schema.outputs:  # else it is an end by itself
            prompt["3"] = {"class_type": "FuzzSink", "inputs": {"value": ["2", 0]}}
        answer = execution.validate_prompt("fuzz", prompt, None)
        valid, error, _, node_errors = (
            asyncio.run(answer) if inspect.isawaitable(answer) else answer
        )
        told = [error] if error else []
        told += [each for one in node_errors.values() for each in one["errors"]]
        for each in told:
            if str(each["type"]).startswith("exception"):
                raise Fault(f"{schema.node_id}: {each} with {inputs}")
        if not valid and not told:
            raise Fault(f"refused without a word: {inputs}")
        return "" if valid else "; ".join(f"{e['message']}: {e['details']}" for e in told)
