"""Load SeeSR: the published folders, converted files, the user's own base, and wrong files."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from restoration.common.state_dict import CheckpointError
from restoration.tests.golden.suite import FOLDER, read_case
from restoration.tests.host.networks import (
    SMALL,
    call_model,
    conditioning,
    ldm_unet_config,
    seeded_input,
    unet_model,
)
from restoration.tests.host.seesr_networks import (
    TEXT,
    base_model,
    config,
    published_files,
    tag_embeds,
)

pytestmark = pytest.mark.host

UNET = str(Path("seesr", "unet", "diffusion_pytorch_model.safetensors"))
CONTROL = str(Path("seesr", "controlnet", "diffusion_pytorch_model.safetensors"))


@pytest.fixture(scope="module")
def host(comfy):
    return comfy


@pytest.fixture(scope="module")
def files(host) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    return published_files()


@pytest.fixture
def folder(host, tmp_path: Path, monkeypatch, files) -> Path:
    """models/restoration with SeeSR as published and in other forms."""
    from restoration.host import folders

    folders.register_folders()
    table = host.folder_paths.folder_names_and_paths
    monkeypatch.setitem(table, folders.KIND, ([str(tmp_path)], table[folders.KIND][1]))
    host.folder_paths.filename_list_cache.pop(folders.KIND, None)
    unet, control = files
    for name, weights in ((UNET, unet), (CONTROL, control)):
        (tmp_path / name).parent.mkdir(parents=True)
        save_file(weights, tmp_path / name)
    torch.save({"state_dict": control}, tmp_path / "control.bin")
    both = {f"unet.{k}": v for k, v in unet.items()}
    both |= {f"controlnet.{k}": v for k, v in control.items()}
    save_file(both, tmp_path / "converted.safetensors")
    added = {k: v for k, v in unet.items() if ".image_attentions." in k}
    save_file(added, tmp_path / "added.safetensors")
    yield tmp_path
    host.folder_paths.filename_list_cache.pop(folders.KIND, None)


def load(unet: str, control: str, model: Any = None) -> tuple[Any, Any]:
    from restoration.seesr.load import load_seesr

    return load_seesr(unet, control, model, config())


def restored(networks: Any, model: Any) -> Tensor:
    from restoration.seesr.attach import apply_seesr

    image = torch.sigmoid(seeded_input(9, "p", 1, 96, 128, 3))
    patched = apply_seesr(model, networks, image, tag_embeds(), 1.0, 0.0, 1.0)
    x, text = seeded_input(5, "x", 1, 4, 12, 16), seeded_input(3, "good", 1, 7, TEXT)
    return call_model(patched, x, torch.tensor([500]), conditioning(text))[0]


def test_every_form_of_the_files_gives_the_same(folder) -> None:
    model = base_model()
    expected = restored(load(UNET, CONTROL, model)[0], model)
    for unet, control in (
        (UNET, "control.bin"),
        ("converted.safetensors", "the same file"),
        ("converted.safetensors", "converted.safetensors"),
        ("added.safetensors", CONTROL),
    ):
        networks, given = load(unet, control, model)
        assert given is model
        assert torch.equal(restored(networks, model), expected), (unet, control)


def test_the_converted_file_is_read_once(folder, monkeypatch) -> None:
    from restoration.host import loading

    read: list[str] = []
    original = loading.read_file

    def spy(kind: str, name: str) -> Any:
        read.append(name)
        return original(kind, name)

    monkeypatch.setattr(loading, "read_file", spy)
    load("converted.safetensors", "the same file", base_model())
    assert read == ["converted.safetensors"]


@pytest.mark.parametrize(
    ("seed", "cast", "words"),
    [(0, None, "is the one"), (0, torch.float16, "is the one"), (7, None, "differs from the one")],
    ids=["same", "same in half precision", "other"],
)
def test_the_log_says_whether_the_base_matches(folder, caplog, seed, cast, words) -> None:
    caplog.set_level(logging.INFO)
    model = base_model(seed)
    if cast:
        for parameter in model.model.diffusion_model.parameters():
            parameter.data = parameter.data.to(cast).float()
    load(UNET, CONTROL, model)
    (message,) = (r.getMessage() for r in caplog.records if "Load SeeSR" in r.getMessage())
    assert message == f"Load SeeSR: the connected model {words} that SeeSR was trained with."


def test_the_same_base_other_weights_and_unknown_are_told_apart(host, folder) -> None:
    """A LoRA on the base, loaded or not, does not make it another."""
    from restoration.seesr.load import same_base

    model = base_model()
    networks, _ = load(UNET, CONTROL, model)
    assert same_base(model, networks) is True
    assert same_base(base_model(7), networks) is False
    assert same_base(model, load("added.safetensors", CONTROL, model)[0]) is None
    key = "diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q.weight"
    tuned = model.clone()
    change = torch.ones_like(model.model.state_dict()[key])
    tuned.add_patches({key: ("diff", (change,))}, 1.0)
    assert same_base(tuned, networks) is True
    host.model_management.load_models_gpu([tuned])
    assert same_base(tuned, networks) is True
    host.model_management.unload_all_models()


def test_without_a_model_the_files_own_unet_is_the_model(folder, files, monkeypatch) -> None:
    """The host gets the plain weights alone, and its guess of v prediction is corrected."""
    import comfy.sd

    given: list[dict[str, Tensor]] = []

    def host_loader(weights: dict[str, Tensor], **_: Any) -> Any:
        given.append(weights)
        return unet_model(config().unet_config(), prediction="v")

    monkeypatch.setattr(comfy.sd, "load_diffusion_model_state_dict", host_loader)
    networks, model = load(UNET, CONTROL)
    unet, _ = files
    assert set(given[0]) == {k for k in unet if ".image_attentions." not in k}
    import comfy.model_base
    import comfy.model_sampling

    assert model.model.model_type == comfy.model_base.ModelType.EPS
    sampling = model.get_model_object("model_sampling")
    assert isinstance(sampling, comfy.model_sampling.EPS)
    assert not isinstance(sampling, comfy.model_sampling.V_PREDICTION)
    torch.testing.assert_close(restored(networks, model), restored(networks, base_model()))


@pytest.mark.filterwarnings("ignore:for output_blocks.11:UserWarning")
def test_the_host_reads_the_published_unet_as_stable_diffusion_2(host, monkeypatch) -> None:
    """The real loader and the full key table, on the meta device, but for the one bias by which
    the host guesses the prediction: it is set to what it takes for v prediction."""
    import comfy.model_base

    from restoration.seesr.config import SD2
    from restoration.seesr.load import check_base, own_base

    meta = torch.device("meta")
    mm = host.model_management
    monkeypatch.setattr(mm, "unet_offload_device", lambda: meta)
    monkeypatch.setattr(mm, "get_torch_device", lambda: meta)
    table = read_case(FOLDER / "seesr" / "manifest_seesr_unet.json").manifest()["base"]
    plain = {k: torch.empty(shape, device="meta") for k, (shape, _) in table.items()}
    guess = "up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias"
    plain[guess] = torch.linspace(-1, 1, 320)
    with meta:
        model = own_base(plain, "unet.safetensors")
    check_base(model, SD2)
    assert type(model.model.model_config).__name__ == "SD20"
    assert model.model.model_type == comfy.model_base.ModelType.EPS
    keys = model.model.diffusion_model.state_dict()
    assert sum(value.numel() for value in keys.values()) == 865_910_724


def test_without_a_model_the_added_weights_are_not_enough(folder) -> None:
    with pytest.raises(CheckpointError, match=r"^added\.safetensors holds only what SeeSR adds"):
        load("added.safetensors", CONTROL)
    with pytest.raises(CheckpointError, match=r"unet.*is not a whole Stable Diffusion 2 UNet"):
        load(UNET, CONTROL)  # tiny: the host does not know it


def test_wrong_files_get_a_sentence(folder, files) -> None:
    from restoration.nodes.seesr import SeeSRLoader

    unet, control = files
    save_file({"a.lora_down.weight": torch.zeros(1)}, folder / "lora.safetensors")
    short = {k: v for k, v in control.items() if k != "controlnet_mid_block.bias"}
    save_file(short, folder / "short.safetensors")
    few = {k: v for k, v in unet.items() if "up_blocks.1.image_attentions.0.norm.bias" not in k}
    save_file(few, folder / "few.safetensors")
    save_file(control | {"extra.bias": torch.zeros(1)}, folder / "more.safetensors")
    model = base_model()
    for names, words in (
        ((CONTROL, CONTROL), r"is not the UNet of SeeSR.*It belongs into control_net_name"),
        ((UNET, UNET), r"is not the control network of SeeSR.*It belongs into unet_name"),
        (("lora.safetensors", CONTROL), r"^lora\.safetensors is not the UNet of .* a LoRA\. Get"),
        ((UNET, "short.safetensors"), r"1 of \d+ weights are missing \(controlnet_mid_block"),
        ((UNET, "more.safetensors"), r"1 do not belong to it \(extra\.bias\)"),
        (("few.safetensors", CONTROL), r"1 of \d+ weights are missing \(up_blocks\.1\.image_att"),
    ):
        with pytest.raises(CheckpointError, match=words):
            load(*names, model)
    with pytest.raises(CheckpointError, match=r"^lora\.safetensors is not the UNet of SeeSR"):
        SeeSRLoader.execute("lora.safetensors", "the same file")
    # The node knows the published sizes only.
    with pytest.raises(
        CheckpointError, match=r"is not the control network of SeeSR.*another shape"
    ):
        SeeSRLoader.execute(UNET, CONTROL)


def test_another_base_is_refused_before_the_files_are_read(folder) -> None:
    other = unet_model(ldm_unet_config({**SMALL, "context_dim": 24}))
    with pytest.raises(ValueError, match=r"text features are 24 wide.*SD 2\.x or SD-Turbo"):
        load("missing.safetensors", CONTROL, other)


def test_a_replaced_file_loads_again(folder) -> None:
    from restoration.nodes.seesr import SeeSRLoader

    first = SeeSRLoader.fingerprint_inputs(UNET, CONTROL)
    assert SeeSRLoader.fingerprint_inputs(UNET, CONTROL, model=None) == first
    assert len(SeeSRLoader.fingerprint_inputs(UNET, "the same file")) == 1
    (folder / CONTROL).write_bytes(b"1")
    assert SeeSRLoader.fingerprint_inputs(UNET, CONTROL) != first
