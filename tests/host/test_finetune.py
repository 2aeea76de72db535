"""A network of ours learns a little more in the host, is saved, loaded and restores with what it learned."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from restoration.tests.golden import seeded
from restoration.tests.golden.runners_diffbir import control_config
from restoration.tests.golden.runners_training import diffusion_step, pasd_part, shaped
from restoration.tests.golden.suite import FOLDER, read_case
from restoration.tests.host import pasd_networks
from restoration.tests.host.networks import (
    SMALL,
    conditioning,
    ldm_unet_config,
    sample,
    seeded_input,
    tiny_vae,
    unet_model,
)
from restoration.tests.host.test_trainable import tiny_tagger
from restoration.tests.host.workflow_runs import (
    Server,
    TinyText,
    as_shipped,
    executor_of,
    photo,
    replaced_loaders,
    stage1,
)

pytestmark = pytest.mark.host

SIDE, TEXT = 64, 16
LEARNING = {
    "steps": 2,
    "batch_size": 2,
    "grad_accumulation_steps": 1,
    "learning_rate": 1e-2,
    "seed": 5,
    "training_dtype": "fp32",
    "gradient_checkpointing": True,
    "degradation": "authors",
    "crop_size": SIDE,
}
PARTS = ("encoder", "control", "attention")


@pytest.fixture(scope="module")
def host(comfy) -> Any:
    Path(comfy.folder_paths.get_temp_directory()).mkdir(exist_ok=True)  # as ComfyUI's start does
    return comfy


def pictures(count: int, height: int = 72, width: int = 80) -> Tensor:
    """B H W 3."""
    return torch.sigmoid(seeded_input(7, "pictures", count, height, width, 3))


@pytest.fixture(scope="module")
def given(host) -> dict[str, Any]:
    """What the node gets from a graph, beside the network: lists, as the host hands them over."""
    sizes = pasd_networks.sd15()
    text, empty = (conditioning(seeded_input(3, n, 1, 7, TEXT)) for n in ("text", "empty"))
    return {
        "images": [pictures(2), pictures(1, 40, 90)],
        "model": [pasd_networks.base_model(sizes)],
        "vae": [tiny_vae()],
        "positive": [text],
        "empty_text": [empty],
        **{name: [value] for name, value in LEARNING.items()},
    }


def learned(taken: object, given: dict[str, Any], **changes: Any) -> tuple[Any, list[float]]:
    """(the network, losses), as the executor calls the node."""
    from restoration.nodes.training import RestorationFineTune

    with torch.inference_mode():
        result, losses = RestorationFineTune.execute(
            **{"network": [taken], **given, **changes}
        ).result
    return result, losses["loss"]


def state(pasd: Any) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": value.clone()
        for name in PARTS
        for key, value in getattr(pasd, name).model.state_dict().items()
    }


def restored(host: Any, pasd: Any, given: dict[str, Any]) -> Tensor:
    """A latent, three steps."""
    from restoration.nodes.pasd import PACAControlApply

    (model,), (text,), (empty,) = (given[key] for key in ("model", "positive", "empty_text"))
    patched = PACAControlApply.execute(model, pasd, pictures(1, SIDE, SIDE), 1.0, 0.0, 1.0).result[
        0
    ]
    return sample(host, patched, text, empty, torch.zeros(1, 4, SIDE // 8, SIDE // 8), steps=2)


@pytest.mark.parametrize("variant", ["pasd", "pasd_light"])
def test_a_pasd_learns_and_is_saved_and_restores_with_what_it_learned(
    host, given, tmp_path, monkeypatch, variant
) -> None:
    from restoration.nodes.pasd import PASDLoader
    from restoration.nodes.training import RestorationNetworkSave

    folders = host.folder_paths.folder_names_and_paths
    monkeypatch.setitem(folders, "restoration", ([str(tmp_path)], {".safetensors"}))
    rrdb = variant == "pasd_light"
    before = pasd_networks.networks(pasd_networks.sd15(), variant, rrdb=rrdb)
    own, base = state(before), given["model"][0].model.state_dict()
    base = {key: value.clone() for key, value in base.items()}

    after, losses = learned(before, given)
    assert len(losses) == 2 and losses[0] != losses[1] and drawn(losses)
    assert all(torch.equal(v, own[k]) for k, v in state(before).items())
    assert all(torch.equal(v, base[k]) for k, v in given["model"][0].model.state_dict().items())
    changed = state(after)
    assert changed.keys() == own.keys()
    assert all(not torch.equal(value, own[key]) for key, value in changed.items())
    again, same = learned(before, given)
    assert same == losses and all(torch.equal(v, changed[k]) for k, v in state(again).items())

    for number in (1, 2):
        RestorationNetworkSave.execute(after, "mine/scans")
        file = tmp_path / "mine" / f"scans_{number:05}_.safetensors"
        assert file.is_file()
    with safe_open(file, "pt") as opened:
        assert opened.metadata()["restoration.version"] == variant
    loaded = PASDLoader.execute("mine/scans_00001_.safetensors", "the same file").result[0]
    assert loaded.variant == variant
    plain, tuned, read = (restored(host, each, given) for each in (before, after, loaded))
    assert torch.equal(tuned, read) and not torch.equal(tuned, plain)


def test_its_steps_are_the_recorded_ones(host) -> None:
    """Losses and weights of two steps by the authors' own code."""
    from restoration.host.finetune import Rule, optimize

    case = read_case(FOLDER / "training" / "pasd_step.json")
    part, config = pasd_part(case), case.config
    chosen = config["optimizer"]
    rule = Rule(chosen["lr"], chosen["weight_decay"], config["max_grad_norm"])
    losses = optimize(part, lambda step, _: diffusion_step(case, step), rule, 2)
    for step, loss in enumerate(losses):
        case.check(shaped(case, f"loss_{step}", torch.tensor(loss)))
    stepped = {f"param.{name}": p.detach() for name, p in part.trained().items()}
    case.check(stepped, config["tolerance_parameters"])


def test_accumulation_is_a_larger_batch_and_half_precision_nearly_the_same(host, given) -> None:
    network = pasd_networks.networks(pasd_networks.sd15(), "pasd_light")
    given = {**given, "gradient_checkpointing": [False]}
    once = learned(network, given)[1]
    twice = learned(network, given, batch_size=[1], grad_accumulation_steps=[2])[1]
    assert twice == pytest.approx(once, rel=1e-4)
    half = learned(network, given, training_dtype=["bf16"])[1]
    assert half == pytest.approx(once, rel=0.05) and half != once


def drawn(losses: list[float]) -> Any:
    """By the host's own node, of either host."""
    from comfy_extras.nodes_train import LossGraphNode

    if hasattr(LossGraphNode, "execute"):
        return LossGraphNode.execute({"loss": losses}, "loss").ui
    return LossGraphNode().plot_loss({"loss": losses}, "loss")["ui"]


def test_the_base_has_what_its_loras_make_of_it_and_stays_whole(host) -> None:
    from restoration.host.trainable_base import process_of, unet_of

    model = pasd_networks.base_model(pasd_networks.sd15())
    patched = model.clone()
    key = "diffusion_model.out.2.weight"
    own = model.model.diffusion_model.out[2].weight.clone()
    patched.add_patches({key: ("diff", (torch.ones_like(own),))}, 0.5)
    assert torch.equal(unet_of(patched).out[2].weight, own + 0.5)
    assert torch.equal(unet_of(model).out[2].weight, own)
    host.model_management.load_models_gpu([patched])  # now the patch lies in the weights
    assert torch.equal(unet_of(patched).out[2].weight, own + 0.5)
    assert torch.equal(unet_of(model).out[2].weight, own)
    from restoration.common.diffusion import ForwardProcess

    found, wanted = process_of(model), ForwardProcess.scaled_linear()
    assert found.prediction == "eps"
    assert torch.allclose(found.signal, wanted.signal, rtol=1e-5)
    assert torch.allclose(found.noise, wanted.noise, rtol=1e-4)


@pytest.mark.parametrize("changed", ["latent_channels", "first_stage_model"])
def test_the_posterior_is_the_vaes_own_and_another_kind_has_none(host, changed) -> None:
    from restoration.host.trainable_base import moments_of

    vae = tiny_vae()
    moments, image = moments_of(vae), pictures(1, SIDE, SIDE)
    with torch.no_grad():
        mean, logvar = moments(image.movedim(-1, 1) * 2 - 1)
    assert torch.allclose(mean, vae.encode(image).cpu(), atol=1e-5)
    assert not torch.allclose(logvar, mean, atol=0.1)
    setattr(vae, changed, 16 if changed == "latent_channels" else torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match=r"`vae` is a .* with (4|16) latent channels; training"):
        moments_of(vae)


def test_who_cancels_leaves_everything_as_it_was(host, given, monkeypatch) -> None:
    import comfy.model_management as mm

    from restoration.host import finetune

    network = pasd_networks.networks(pasd_networks.sd15(), "pasd_light")
    own = state(network)

    def cancel(text: str) -> None:
        mm.interrupt_current_processing(True)

    monkeypatch.setattr(finetune, "show", cancel)
    try:
        with pytest.raises(mm.InterruptProcessingException):
            learned(network, given)
    finally:
        mm.interrupt_current_processing(False)
    assert all(torch.equal(v, own[k]) for k, v in state(network).items())


def broken(name: str) -> Any:
    """A PASD that cannot be told by its type alone."""
    if name == "sdxl":
        return pasd_networks.networks(pasd_networks.sdxl())
    return pasd_networks.networks(pasd_networks.sd15(), heads=name != "no heads")


def hole(shape: tuple[int, ...]) -> Tensor:
    return torch.full(shape, float("nan"))


REFUSED = [
    ("pasd", {"images": []}, "holds no picture"),
    ("pasd", {"images": [hole((1, 8, 8, 3))]}, "`images` contains NaN"),
    ("pasd", {"lq_images": [torch.rand(1, 8, 8, 3)]}, "holds 1 pictures and `images` 3"),
    ("pasd", {"lq_images": [torch.rand(3, 8, 30, 3)]}, "proportions differ"),
    ("pasd", {"images": [None]}, "`images` is missing"),
    ("pasd", {"positive": [None]}, "`positive` is not connected"),
    ("pasd", {"model": None}, "`model` is not connected; PASD learns with the MODEL"),
    ("pasd", {"vae": None}, "`vae` is not connected"),
    ("pasd", {"positive": None}, "`positive` is not connected"),
    ("pasd", {"positive": [[[torch.rand(1, 7, 12), {}]]]}, "features 12 wide"),
    ("pasd", {"positive": [[[torch.rand(2, 7, TEXT), {}]]]}, "2 texts for 3 pictures"),
    ("pasd", {"positive": [[[hole((1, 7, TEXT)), {}]]]}, "`positive` contains NaN"),
    ("pasd", {"empty_text": [[]]}, "`empty_text` is empty"),
    ("pasd", {"crop_size": [96]}, "must be a multiple of 64, such as"),
    ("pasd", {"steps": [2, 3]}, "`steps` comes as a list of 2 values"),
    ("pasd", {"network": [{}]}, "`network` is a dict, not a network"),
    ("pasd", {"model": [pasd_networks.sd15]}, "belong to Stable Diffusion 1.x"),
    ("no heads", {}, "without toRGB heads"),
    ("sdxl", {}, "PASD-SDXL, whose training was not published"),
]


@pytest.mark.parametrize(("name", "changes", "words"), REFUSED)
def test_what_cannot_be_learned_from_is_one_sentence(host, given, name, changes, words) -> None:
    if changes.get("model"):
        changes = {"model": [pasd_networks.base_model(changes["model"][0](context_dim=24))]}
    with pytest.raises(ValueError, match=words):
        learned(broken(name), given, **changes)


@pytest.mark.parametrize("name", ["", "  ", "../up", "/up", "folder/..", ".", "a\0b"])
def test_a_name_that_leads_nowhere_is_refused(host, tmp_path, monkeypatch, name) -> None:
    from restoration.nodes.training import RestorationNetworkSave

    folders = host.folder_paths.folder_names_and_paths
    monkeypatch.setitem(folders, "restoration", ([str(tmp_path / "models")], {".safetensors"}))
    with pytest.raises(ValueError, match=r"`filename_prefix` is .* names no file below"):
        RestorationNetworkSave.execute(pasd_networks.networks(pasd_networks.sd15()), name)
    assert not list(tmp_path.iterdir())


FULL = "No space left on device"


@pytest.mark.parametrize(
    ("place", "error"),
    [("os.fsync", OSError(28, FULL)), ("safetensors.torch.save_file", SafetensorError(FULL))],
)
def test_a_full_disk_is_a_sentence_and_leaves_no_file(
    host, tmp_path, monkeypatch, place, error
) -> None:
    from restoration.nodes.training import RestorationNetworkSave

    def full(*_: object) -> None:
        raise error

    folders = host.folder_paths.folder_names_and_paths
    monkeypatch.setitem(folders, "restoration", ([str(tmp_path)], {".safetensors"}))
    monkeypatch.setattr(place, full)
    with pytest.raises(ValueError, match=r"could not be written .*No space left .* queue again"):
        RestorationNetworkSave.execute(pasd_networks.networks(pasd_networks.sd15()), "net")
    assert not list(tmp_path.iterdir())


def diffbir_control() -> Any:
    from restoration.diffbir.keys import layout
    from restoration.diffbir.load import diffbir_control

    config = control_config(SMALL)
    weights = seeded.state_dict(11, layout(config))
    return diffbir_control({k: torch.from_numpy(v) for k, v in weights.items()}, config)


def diffbir_state(control: Any) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in control.control_model.state_dict().items()}


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_a_diffbir_learns_beside_the_base_of_its_version_and_is_saved(
    host, given, tmp_path, monkeypatch, prediction
) -> None:
    from restoration.diffbir import load
    from restoration.host.trainable_unet import DiffusionTrainable
    from restoration.nodes.diffbir import DiffBIRControlLoader
    from restoration.nodes.training import RestorationNetworkSave

    folders = host.folder_paths.folder_names_and_paths
    monkeypatch.setitem(folders, "controlnet", ([str(tmp_path)], {".safetensors"}))
    base = unet_model(ldm_unet_config(SMALL), prediction=prediction, zsnr=prediction == "v")
    cleaner = [None] if prediction == "eps" else [stage1(1)]
    control = diffbir_control()
    own = diffbir_state(control)
    text = {} if prediction == "eps" else {"empty_text": None}
    halved, plain = [], DiffusionTrainable.checkpointed
    monkeypatch.setattr(DiffusionTrainable, "checkpointed", lambda p: halved.append(plain(p)))
    text["gradient_checkpointing"] = [prediction == "v"]
    after, losses = learned(control, given, model=[base], upscale_model=cleaner, **text)
    changed = diffbir_state(after)
    assert len(halved) == (prediction == "v")
    assert len(losses) == 2 and type(after) is type(control)
    assert all(torch.equal(v, own[k]) for k, v in diffbir_state(control).items())
    assert all(not torch.equal(value, own[key]) for key, value in changed.items())

    RestorationNetworkSave.execute(after, "mine")
    config = control_config(SMALL)
    monkeypatch.setattr(load.load_diffbir_control, "__defaults__", (config,))
    loaded = DiffBIRControlLoader.execute("mine_00001_.safetensors").result[0]
    found = [diffbir_restored(host, base, each, given) for each in (control, after, loaded)]
    assert torch.equal(found[1], found[2]) and not torch.equal(found[0], found[1])


def diffbir_restored(host: Any, base: Any, control: Any, given: dict[str, Any]) -> Tensor:
    from restoration.nodes.diffbir import LAControlApply

    (text,), (empty,) = given["positive"], given["empty_text"]
    latent = seeded_input(3, "latent", 1, 4, SIDE // 8, SIDE // 8)
    pair = LAControlApply.execute(text, empty, control, {"samples": latent}, 1.0, 0.0, 1.0).result
    return sample(host, base, *pair, torch.zeros_like(latent), steps=2)


DIFFBIR_REFUSED = [
    ({"model": [lambda: pasd_networks.base_model(pasd_networks.sd15())]}, "beside another base"),
    ({"model": [lambda: unet_model(ldm_unet_config({**SMALL, "context_dim": 24}))]}, "24 wide"),
    ({"model": [lambda: unet_model(ldm_unet_config(SMALL), prediction="v")]}, "Model Sampling"),
    ({"upscale_model": [lambda: stage1(4)]}, "`upscale_model` is a ESRGAN that enlarges by 4"),
    ({"upscale_model": [lambda: 3]}, "`upscale_model` is a int"),
]


@pytest.mark.parametrize(("changes", "words"), DIFFBIR_REFUSED)
def test_what_diffbir_cannot_learn_beside_is_one_sentence(host, given, changes, words) -> None:
    given = {**given, "model": [unet_model(ldm_unet_config(SMALL))]}
    made = {name: [make() for make in values] for name, values in changes.items()}
    with pytest.raises(ValueError, match=words):
        learned(diffbir_control(), given, **made)


def tagger(lora: Any = None) -> Any:
    from restoration.tagger.load import build_tagger
    from restoration.tagger.tags import TagList

    weights, sizes = tiny_tagger()
    tags = TagList(tuple(f"tag {i}" for i in range(sizes.labels)), torch.full((sizes.labels,), 0.5))
    return build_tagger(weights, tags, lora, 0.5, sizes)


def seen(model: Any) -> Tensor:
    with torch.no_grad():
        return model.embed(pictures(1, 48, 48).movedim(-1, 1))


def test_a_tagger_learns_a_dape_and_goes_on_from_it(host, given, tmp_path, monkeypatch) -> None:
    from restoration.host.loading import read_file
    from restoration.nodes.training import RestorationNetworkSave

    folders = host.folder_paths.folder_names_and_paths
    monkeypatch.setitem(folders, "restoration", ([str(tmp_path)], {".safetensors"}))
    given = {k: v for k, v in given.items() if k not in ("model", "vae", "positive", "empty_text")}
    plain = tagger()
    with pytest.raises(ValueError, match="plain RAM, which has learned nothing"):
        RestorationNetworkSave.execute(plain, "dape")
    before = seen(plain)
    first, losses = learned(plain, given)
    assert torch.equal(seen(plain), before) and losses[0] != losses[1]
    assert not torch.allclose(seen(first), before, rtol=1e-3)

    RestorationNetworkSave.execute(first, "dape")
    file = read_file("restoration", "dape_00001_.safetensors")
    loaded = tagger(file)  # at half of its strength
    assert not torch.allclose(seen(loaded), seen(first), rtol=1e-4)
    weights = {k: v.clone() for k, v in loaded.network.state_dict().items()}
    second, _ = learned(loaded, given, learning_rate=[1e-7])
    # It went on from half of the strength, and hardly moved.
    for key, value in second.network.state_dict().items():
        assert torch.allclose(value, weights[key], atol=1e-5), key
    assert second.lora is not None and loaded.lora is not None
    key = next(key for key in file if key.endswith("lora_B"))
    assert torch.allclose(loaded.lora[key], file[key] / 2)
    assert torch.allclose(second.lora[key], loaded.lora[key], atol=1e-6)


def test_the_shipped_workflow_learns_saves_and_draws(host, tmp_path, monkeypatch) -> None:
    """Through ComfyUI's own executor, which gives lists and runs in inference mode."""
    import execution

    folders = host.folder_paths.folder_names_and_paths
    monkeypatch.setitem(folders, "restoration", ([str(tmp_path)], {".safetensors"}))
    prompt = as_shipped("finetune_pasd", photo(host))
    (node,) = (each for each in prompt.values() if each["class_type"] == "RestorationFineTune")
    node["inputs"] |= {"steps": 2, "crop_size": SIDE}
    base = pasd_networks.base_model(pasd_networks.sd15())
    network = pasd_networks.networks(pasd_networks.sd15(), "pasd_light")
    loaders = {
        "CheckpointLoaderSimple": (
            "ckpt_name",
            ("MODEL", "CLIP", "VAE"),
            lambda file: (base, TinyText(), tiny_vae()),
        ),
        "PASDLoader": ("unet_name", ("PASD_MODEL",), lambda file: (network,)),
    }
    with replaced_loaders(host, loaders):
        valid, error, outputs, problems = asyncio.run(execution.validate_prompt("0", prompt, None))
        assert valid, (error, problems)
        executor = executor_of(Server())
        executor.execute(prompt, "0", {}, outputs)
        assert executor.success, executor.status_messages
    (drawn,) = executor.history_result["outputs"].values()
    assert drawn["images"]
    with safe_open(tmp_path / "finetuned" / "pasd_00001_.safetensors", "pt") as file:
        said = json.loads(file.metadata()["prompt"])
    assert said.keys() == prompt.keys()
