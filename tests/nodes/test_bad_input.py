"""Whatever a prompt or a link brings: every node takes it, or says in a sentence why not. All nodes,
all their inputs, found in the schemas, so that a new node is tested by being there."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from torch import Tensor

from restoration.common.images import from_mask
from restoration.common.latents import from_latent
from restoration.tests.host.networks import executed

pytestmark = pytest.mark.host

HOSTILE = "<img src=x onerror=alert(1)>"
OUR = "Ours"
SINK = "Sink"


# -- through the host's own validation -------------------------------------------------------------


@pytest.fixture(scope="module")
def ours(comfy, tmp_path_factory) -> Iterator[dict[str, Any]]:
    """Our nodes by id, in the host's table; every list of files has something in it."""
    from restoration.host.folders import register_folders
    from restoration.nodes import load_nodes

    register_folders()
    folders, place = comfy.folder_paths.folder_names_and_paths, tmp_path_factory.mktemp("models")
    (place / "network").mkdir()
    (place / "network" / "config.json").write_text("{}")
    (place / "network.safetensors").write_bytes(b"")
    kinds = {kind: folders[kind] for kind in ("restoration", "controlnet")}
    for kind, (_, extensions) in kinds.items():
        folders[kind] = ([str(place)], extensions)
    comfy.folder_paths.filename_list_cache.clear()
    table = comfy.nodes.NODE_CLASS_MAPPINGS
    before = dict(table)
    nodes = {node.define_schema().node_id: node for node in load_nodes()}
    for node in nodes.values():
        node.GET_SCHEMA()  # as the host does when it loads a pack
    sink = {
        "INPUT_TYPES": classmethod(lambda cls: {"required": {"any": ("*", {})}}),
        "VALIDATE_INPUTS": classmethod(lambda cls, input_types: True),
        "RETURN_TYPES": (),
        "OUTPUT_NODE": True,
    }
    table.update(nodes)
    table[SINK] = type(SINK, (), sink)
    for kind in {part.get_io_type() for node in nodes.values() for part in parts(node)}:
        source = {"INPUT_TYPES": classmethod(lambda cls: {}), "RETURN_TYPES": (kind,)}
        table[f"Source {kind}"] = type("Source", (), source)
    yield nodes
    table.clear()
    table.update(before)
    folders.update(kinds)
    comfy.folder_paths.filename_list_cache.clear()


def parts(node: Any) -> list[Any]:
    return node.define_schema().inputs


def takes_links(part: Any) -> bool:
    """Gets the link itself, for a node inside, which then looks at what comes through it."""
    return bool(part.as_dict().get("rawLink"))


def is_widget(part: Any) -> bool:
    from comfy_api.latest import io

    kinds = (io.Combo, io.Int, io.Float, io.String, io.Boolean)
    return isinstance(part, tuple(kind.Input for kind in kinds))


def usual(part: Any) -> Any:
    """A value for a widget: its default, as the front end fills it in."""
    if part.default is not None:
        return part.default
    return part.options[0] if hasattr(part, "options") else ""


def complaints(node: Any, linked: set[str] = frozenset(), **values: Any) -> str:  # type: ignore
    """What the host says of a prompt with this node, "" when it takes it. Sockets are linked, other
    inputs have their defaults; linked: also these; values: instead of the defaults."""
    import execution

    prompt: dict[str, Any] = {}
    inputs: dict[str, Any] = {}
    for part in parts(node):
        if is_widget(part) and part.id not in linked:
            inputs[part.id] = values.get(part.id, usual(part))
        else:
            kind = part.get_io_type()
            prompt[kind] = {"class_type": f"Source {kind}", "inputs": {}}
            inputs[part.id] = [kind, 0]
    prompt[OUR] = {"class_type": node.define_schema().node_id, "inputs": inputs}
    if node.define_schema().outputs:  # else it is an end by itself
        prompt[SINK] = {"class_type": SINK, "inputs": {"any": [OUR, 0]}}
    valid, error, _, problems = asyncio.run(execution.validate_prompt("0", prompt, None))
    assert valid == (not problems), error
    reasons = [reason for found in problems.values() for reason in found["errors"]]
    return "\n".join(f"{reason['message']}: {reason['details']}" for reason in reasons)


def test_every_node_takes_its_defaults_and_links_in_their_place(ours) -> None:
    for name, node in ours.items():
        assert not complaints(node), name
        ids = {part.id for part in parts(node)}
        for linked in (*({each} for each in ids), ids):
            assert not complaints(node, linked), f"{name}: {linked} linked"


def numbers(node: Any) -> list[Any]:
    from comfy_api.latest import io

    return [part for part in parts(node) if isinstance(part, io.Int.Input | io.Float.Input)]


def test_every_number_keeps_its_range_also_beside_links(ours) -> None:
    for name, node in ours.items():
        for part in numbers(node):
            assert part.min is not None and part.max is not None, f"{name}: {part.id} has no range"
            others = {each.id for each in parts(node)} - {part.id}
            for value in (part.min - 1, part.max + 1):
                for linked in (set(), others):
                    said = complaints(node, linked, **{part.id: value})
                    assert part.id in said and str(value) in said, f"{name}: {part.id} = {value}"


def combos(node: Any) -> list[Any]:
    from comfy_api.latest import io

    return [part for part in parts(node) if isinstance(part, io.Combo.Input)]


def test_no_unknown_choice_is_queued_and_the_sentence_names_the_choices(ours) -> None:
    for name, node in ours.items():
        for part in combos(node):
            for value in (HOSTILE, "../../etc", "/etc", ["a", "b", "c"]):
                said = complaints(node, **{part.id: value})
                assert f"`{part.id}` is " in said, f"{name}: {part.id} = {value} is taken"
                assert str(part.options[-1]) in said, f"{name}: {part.id}"
                assert "<img" not in said, f"{name}: {part.id} hands HTML on"


def test_a_tile_is_larger_than_its_overlap(ours) -> None:
    for name in ("TiledRestoration", "DegradationRemover", "RestorationEnlarge"):
        said = complaints(ours[name], tile_size=256, tile_overlap=256)
        assert "tile_overlap is 256 and tile_size 256" in said
        for linked in ("tile_size", "tile_overlap"):
            assert not complaints(ours[name], {linked}, tile_size=256, tile_overlap=256)


# -- at execute: what came through a link ----------------------------------------------------------


def called(node: Any, **values: Any) -> Any:
    """Runs a node with its defaults, pictures, and something for all other sockets."""

    def value(part: Any) -> Any:
        if is_widget(part):
            return usual(part)
        return torch.rand(1, 32, 32, 3) if part.get_io_type() == "IMAGE" else MagicMock()

    return executed(node, **{**{part.id: value(part) for part in parts(node)}, **values})


def sentence(node: Any, **values: Any) -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        called(node, **values)
    return str(caught.value)


def test_every_node_is_checked(ours) -> None:
    from restoration.host.schema import CheckedNode

    assert [name for name, node in ours.items() if not issubclass(node, CheckedNode)] == []


def test_a_choice_that_comes_through_a_link_is_checked_too(ours) -> None:
    from restoration.host.schema import FileInput

    for node in ours.values():
        for part in combos(node):
            for value in (HOSTILE, 7, ["a"], torch.zeros(2)):
                said = sentence(node, **{part.id: value})
                assert "<img" not in said and len(said) > 40
                # Of a file's name its loader speaks, which may miss another file first.
                if not (isinstance(value, str) and isinstance(part, FileInput)):
                    assert f"`{part.id}` is " in said and str(part.options[-1]) in said


def test_a_number_that_comes_through_a_link_is_one_in_its_range(ours) -> None:
    for name, node in ours.items():
        for part in numbers(node):
            beyond = (part.min - 1, part.max + 1)
            for value in (math.nan, math.inf, -math.inf, "8", None, [1], torch.zeros(2), *beyond):
                if value is None and part.optional:
                    continue
                said = sentence(node, **{part.id: value})
                assert f"`{part.id}` " in said, f"{name}: {part.id} = {value}: {said}"


def test_texts_switches_and_objects_of_the_host_are_told_from_other_values(ours) -> None:
    for name, node in ours.items():
        for part in parts(node):
            kind = part.get_io_type()
            if takes_links(part):
                continue
            if kind in ("STRING", "BOOLEAN"):
                values: tuple = ({"a": 1},)
            elif kind in ("MODEL", "VAE", "CLIP", "SIGMAS", "CONDITIONING"):
                values = (HOSTILE, 7, {"a": 1})
            else:
                continue
            for value in values:
                assert f"`{part.id}` is " in sentence(node, **{part.id: value}), (
                    f"{name}: {part.id}"
                )


# -- tensors ---------------------------------------------------------------------------------------

IMAGE, MASK, LATENT = "IMAGE", "MASK", "LATENT"
NETWORK = "PASD_MODEL,CONTROL_NET,DAPE_MODEL"
"""What can be trained."""
SIDE = 32
LEARNING = {"steps": 2, "crop_size": 64}
MORE: dict[tuple[str, str], dict[str, Any]] = {
    ("LatentImageGuidance", "image"): {"loss": "rgb_mse", "vae": "VAE"},
    ("LatentImageGuidance", "mask"): {"latent": LATENT},
    ("DDNMGuidance", "image"): {"vae": "VAE"},
    ("DDNMGuidance", "mask"): {"latent": LATENT},
    ("KnownDegradation", "mask"): {"kind": "inpaint"},
    ("RestorationFaceCrop", "image"): {"detector": "aligned"},
    ("RestorationFaceCrop", "mask"): {"detector": "aligned"},
    ("RestorationFineTune", "images"): LEARNING,
    ("RestorationFineTune", "lq_images"): LEARNING,
    ("StyleIDInvert", "latent"): {"steps": 2, "layers": "6"},
}
"""Beside the defaults, for an input to be looked at; socket types stand for their objects."""


@pytest.fixture(scope="module")
def things(comfy) -> dict[str, Any]:
    """Something good for every socket, by type; by node and type where a node needs its own."""
    from restoration.diffbir.keys import layout
    from restoration.diffbir.load import diffbir_control
    from restoration.faces.geometry import crop_faces, whole_picture
    from restoration.tests.golden import seeded
    from restoration.tests.golden.runners_diffbir import control_config
    from restoration.tests.host import onestep_networks, pasd_networks, seesr_networks
    from restoration.tests.host.networks import (
        SMALL,
        conditioning,
        ldm_unet_config,
        seeded_input,
        tiny_vae,
        unet_model,
    )
    from restoration.tests.host.test_styleid import SD2_LIKE

    model = unet_model(ldm_unet_config(SMALL))
    weights = seeded.state_dict(11, layout(control_config(SMALL)))
    control = {key: torch.from_numpy(value) for key, value in weights.items()}
    pixels = torch.rand(1, 3, SIDE, SIDE)
    pasd = pasd_networks.sd15()
    return {
        IMAGE: torch.rand(1, SIDE, SIDE, 3),
        MASK: torch.rand(1, SIDE, SIDE),
        LATENT: {"samples": torch.randn(1, 4, SIDE // 8, SIDE // 8)},
        "MODEL": model,
        "VAE": tiny_vae(),
        "CONDITIONING": conditioning(seeded_input(3, "text", 1, 7, SMALL["context_dim"])),
        "SIGMAS": torch.tensor([14.6, 5.0, 0.0]),
        "CONTROL_NET": diffbir_control(control, control_config(SMALL)),
        "FACE_INFO": crop_faces(pixels, [[whole_picture(SIDE, SIDE)]])[1],
        "PASD_MODEL": pasd_networks.networks(pasd),
        "SEESR_MODEL": seesr_networks.networks(),
        "TAG_EMBEDS": seesr_networks.tag_embeds(),
        "DAPE_MODEL": seesr_networks.tiny_tagger(),
        NETWORK: seesr_networks.tiny_tagger(),
        "ONESTEP_MODEL": onestep_networks.onestep_model("pisasr"),
        ("PiSASRApply", "MODEL"): onestep_networks.base_model(),
        ("PACAControlApply", "MODEL"): pasd_networks.base_model(pasd),
        ("SeeSRControlApply", "MODEL"): seesr_networks.base_model(),
        ("StyleIDInvert", "MODEL"): unet_model(ldm_unet_config(SD2_LIKE)),
    }


def good(name: str, node: Any, looked_at: str, things: dict[str, Any]) -> dict[str, Any]:
    """Arguments with which a node runs, and looks at the input."""
    from restoration.common.sizing import prepare

    def thing(kind: str) -> Any:
        if kind == "RESTORE_INFO":
            return prepare(things[IMAGE], 1.0, 0, 8, "pad")[1]
        return things.get((name, kind), things.get(kind))

    given = {
        part.id: usual(part) if is_widget(part) else thing(part.get_io_type())
        for part in parts(node)
        if not part.optional or part.id == looked_at
    }
    if "layers" in given:
        given["layers"] = "6"
    for key, value in MORE.get((name, looked_at), {}).items():
        given[key] = thing(value) if isinstance(value, str) and value.isupper() else value
    return given


def hostile(kind: str) -> dict[str, Any]:
    shape = {IMAGE: (1, 32, 32, 3), MASK: (1, 32, 32), LATENT: (1, 4, 4, 4)}[kind]

    def wrap(tensor: Any) -> Any:
        return {"samples": tensor} if kind == LATENT else tensor

    def holed(value: float) -> Tensor:
        tensor = torch.rand(shape)
        tensor.view(-1)[3] = value
        return tensor

    values = {
        "a text": HOSTILE,
        "a list": [1, 2],
        "a dictionary": {"a": 1},
        "one axis": wrap(torch.rand(5)),
        "five axes": wrap(torch.rand(1, *[2] * 4)),
        "no rows": wrap(torch.rand(0, *shape[1:])),
        "no height": wrap(torch.rand(*shape[:-2], 0, shape[-1])),
        "NaN": wrap(holed(math.nan)),
        "infinity": wrap(holed(math.inf)),
    }
    if kind == IMAGE:
        channels = {f"{n} channels": torch.rand(1, 32, 32, n) for n in (0, 2, 5)}
        return {**values, **channels, "three axes": torch.rand(32, 32, 3)}
    if kind == MASK:
        return {**values, "a picture": torch.rand(1, 32, 32, 3), "no width": torch.rand(1, 32, 0)}
    return {
        **values,
        "no samples": {"samples": None},
        "three axes": {"samples": torch.rand(4, 4, 4)},
    }


def each_tensor_input(ours: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name, node in ours.items():
        for part in parts(node):
            if part.get_io_type() in (IMAGE, MASK, LATENT) and not takes_links(part):
                yield name, node, part


def test_no_tensor_ends_a_node_without_a_sentence(ours, things) -> None:
    for name, node, part in each_tensor_input(ours):
        given = good(name, node, part.id, things)
        for what, value in hostile(part.get_io_type()).items():
            with pytest.raises(ValueError) as caught, torch.inference_mode():
                executed(node, **{**given, part.id: value})
                pytest.fail(f"{name}: {part.id} as {what} is taken")
            said = str(caught.value)
            assert f"`{part.id}`" in said and len(said) > 40, f"{name}: {part.id} as {what}: {said}"


def test_the_smallest_and_odd_tensors_are_taken_or_get_a_sentence(ours, things) -> None:
    sizes = {
        IMAGE: [torch.rand(1, 1, 1, 3), torch.rand(1, 7, 3, 4), torch.rand(2, 9, 32, 1)],
        MASK: [torch.ones(1, 1), torch.rand(1, 1, 3, 5), torch.rand(3, 2, 2)],
        LATENT: [{"samples": torch.rand(*shape)} for shape in ((1, 4, 1, 1), (3, 16, 4, 4))],
    }
    for name, node, part in each_tensor_input(ours):
        given = good(name, node, part.id, things)
        for value in sizes[part.get_io_type()]:
            try:
                with torch.inference_mode():
                    executed(node, **{**given, part.id: value})
            except ValueError as error:
                assert len(str(error)) > 40, f"{name}: {part.id}: {error}"


def test_no_node_moves_the_global_random_state(ours, things) -> None:
    for name, node, part in each_tensor_input(ours):
        before = torch.get_rng_state()
        with torch.inference_mode():
            executed(node, **good(name, node, part.id, things))
        assert torch.equal(torch.get_rng_state(), before), name


# -- the borders themselves ------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 6), (1, 4, 6), (1, 1, 4, 6)])
def test_a_mask_of_every_form_becomes_rows(comfy, shape) -> None:
    mask = torch.rand(shape)
    assert torch.equal(from_mask(mask), mask.view(1, 4, 6))
    assert from_mask((mask > 0.5).to(torch.uint8)).dtype == torch.float32


def test_a_latent_of_another_vae_is_told_by_its_channels() -> None:
    latent = {"samples": torch.rand(2, 16, 4, 4, dtype=torch.float16)}
    assert from_latent(latent).dtype == torch.float32
    with pytest.raises(ValueError, match=r"`reference` has 16 channels .*4 are needed"):
        from_latent(latent, "reference", channels=4)


@pytest.mark.parametrize("denoise", [1e-3, 1e-6, 1e-9, 5e-324])
def test_a_denoise_of_more_steps_than_there_are_levels_is_refused_at_once(
    ours, things, denoise: float
) -> None:
    node = ours["RestorationSigmas"]
    with pytest.raises(ValueError, match=r"`denoise` .* trained on 1000 .*Raise `denoise` to 0.05"):
        node.execute(things["MODEL"], "diffbir_spaced", 50, denoise)
    (sigmas,) = node.execute(things["MODEL"], "diffbir_spaced", 50, 0.05).result
    assert len(sigmas) == 51


@pytest.mark.parametrize("sigmas", [torch.tensor(3.0), torch.rand(2, 2), torch.tensor([math.nan])])
def test_noise_levels_are_finite_and_in_a_row(ours, things, sigmas: Tensor) -> None:
    with pytest.raises(ValueError, match="`sigmas` must be finite noise levels in a row"):
        node = ours["LREmbeddedNoise"]
        node.execute(**{**good("LREmbeddedNoise", node, "latent", things), "sigmas": sigmas})


def test_nothing_through_a_link_is_as_nothing_connected(ours, things) -> None:
    """A node before may give None, whatever its output is called."""
    said = ours["RestorationPrompt"]
    words = {"style": "seesr", "prompt": "a cat", "negative_prompt": ""}
    assert said.execute(**words, caption=None, tags=None).result == said.execute(**words).result
    for name in ("PACAControlApply", "SeeSRControlApply", "LAControlApply"):
        node = ours[name]
        given = good(name, node, "fidelity", things)
        node.execute(**{**given, "fidelity": None})
    start, node = good("LREmbeddedNoise", ours["LREmbeddedNoise"], "latent", things), "pasd"
    start["start"] = node
    noise, noised = ours["LREmbeddedNoise"].execute(**start, added_noise_level=None).result
    _, expected = ours["LREmbeddedNoise"].execute(**start).result
    assert noise.seed == start["seed"] and torch.equal(noised["samples"], expected["samples"])


@pytest.mark.parametrize(
    "text", [torch.rand(7, 16), torch.rand(0, 7, 16), torch.rand(1, 0, 16), torch.rand(1, 7, 3)]
)
def test_text_features_of_other_shapes_get_a_sentence(ours, things, text: Tensor) -> None:
    with pytest.raises(ValueError, match="`conditioning` has text features"):
        node = ours["StyleIDInvert"]
        given = good("StyleIDInvert", node, "latent", things)
        node.execute(**{**given, "conditioning": [[text, {}]]})


@pytest.mark.parametrize("entry", [None, [torch.rand(1, 7, 16), None], [None, {}], "text"])
def test_every_entry_of_a_conditioning_is_looked_at(ours, things, entry) -> None:
    with pytest.raises(ValueError, match="`conditioning` is no CONDITIONING: an entry of it is"):
        called(ours["StyleIDInvert"], conditioning=[*things["CONDITIONING"], entry])


@pytest.mark.parametrize(
    "name",
    [
        "LAControlApply",
        "PACAControlApply",
        "SeeSRControlApply",
        "LatentImageGuidance",
        "DDNMGuidance",
    ],
)
def test_a_mask_that_fails_in_the_sampler_names_its_node_and_a_black_one_is_logged(
    ours, things, caplog, name: str
) -> None:
    import comfy.sample
    import comfy.samplers

    node = ours[name]
    given = good(name, node, "mask", things)
    result = node.execute(**{**given, "mask": torch.ones(2, SIDE, SIDE)}).result
    model = given.get("model", things["MODEL"])
    width = model.model.model_config.unet_config["context_dim"]
    text = [[torch.zeros(1, 7, width), {}]]
    model, positive, negative = (
        (model, *result) if name == "LAControlApply" else (result[0], text, text)
    )
    latent = torch.zeros(1, 4, SIDE // 8, SIDE // 8)
    with pytest.raises(ValueError) as caught:
        comfy.sample.sample_custom(
            model,
            latent,
            2.0,
            comfy.samplers.ksampler("euler"),
            torch.tensor([10.0, 0.0]),
            positive,
            negative,
            latent,
            disable_pbar=True,
        )
    title = node.define_schema().display_name
    assert str(caught.value).startswith(f"{title}: ") and "mask" in str(caught.value)
    assert not caplog.records
    node.execute(**{**given, "mask": torch.zeros(1, SIDE, SIDE)})
    (record,) = [each for each in caplog.records if "is black everywhere" in each.getMessage()]
    assert record.getMessage().startswith(f"{title}: `mask` ")


def test_what_another_node_remembers_is_told_from_other_values(ours, things) -> None:
    finish, paste, style = (
        ours[name] for name in ("RestorationFinish", "RestorationFacePaste", "StyleIDApply")
    )
    with pytest.raises(ValueError, match=r"`info` is a dict.*Prepare Restoration"):
        called(finish, image=things[IMAGE], info={})
    with pytest.raises(ValueError, match=r"`info` is a str.*Crop Faces"):
        called(paste, image=things[IMAGE], faces=things[IMAGE], info="x")
    with pytest.raises(ValueError, match=r"`info` is a str.*Crop Faces"):
        paste.check_lazy_status(things[IMAGE], "x", 0.05)
    with pytest.raises(ValueError, match=r"`content` is a str.*DDIM Invert"):
        called(style, content="x")


def test_the_host_s_own_clone_of_a_node_checks_once(ours) -> None:
    node = ours["RestorationFidelity"]
    clone: Any = type("Clone", (node, *node.__bases__), dict(vars(node)))
    assert vars(clone)["execute"] is vars(node)["execute"]
    assert clone.execute(0.5).result == (0.5,)
    with pytest.raises(ValueError, match="`fidelity` is 2"):
        clone.execute(2)
