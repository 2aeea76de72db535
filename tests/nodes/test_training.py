"""What Fine-Tune Restoration makes of its inputs, short of learning; the head of a saved network."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from restoration.tests.host.networks import SMALL, conditioning, ldm_unet_config, unet_model
from restoration.tests.host.test_finetune import (
    LEARNING,
    diffbir_control,
    given,  # noqa: F401
    host,  # noqa: F401
    learned,
    pictures,
    tagger,
)
from restoration.tests.host.workflow_runs import stage1

pytestmark = pytest.mark.host


@pytest.fixture
def asked(host, given, monkeypatch) -> Any:  # noqa: F811
    """(tuning, crops, settings) of a node that is asked to learn, and does not."""
    from restoration.nodes import training

    def call(network: object, **changes: Any) -> tuple[Any, Any, Any]:
        found = []

        def finetune(*arguments: Any) -> tuple[object, list[float]]:
            found.append(arguments)
            return network, []

        monkeypatch.setattr(training, "finetune", finetune)
        learned(network, given, **changes)
        (arguments,) = found
        return arguments

    return call


def start_of(tuning: Any) -> Tensor:
    """Of what a fresh DAPE draws."""
    return next(iter(tuning.part.trained().values())).detach()


def test_what_is_set_is_what_it_learns_by(asked) -> None:
    tuning, crops, settings = asked(
        tagger(), crop_size=[128], grad_accumulation_steps=[3], learning_rate=[3e-4], seed=[7]
    )
    expected = LEARNING | {"grad_accumulation_steps": 3, "learning_rate": 3e-4, "seed": 7}
    assert vars(settings) == {k: v for k, v in expected.items() if k in vars(settings)}
    assert crops.size == 128
    again, other = (start_of(asked(tagger(), seed=[seed])[0]) for seed in (7, 6))
    assert torch.equal(start_of(tuning), again) and not torch.equal(again, other)


def test_pictures_are_damaged_as_the_authors_did_or_as_was_chosen(asked) -> None:
    from restoration import registry
    from restoration.common.degradation import training_pair
    from restoration.common.jpeg import jpeg_round_trip
    from restoration.nodes.guidance import DiffBIRModelSampling

    control, base = diffbir_control(), unet_model(ldm_unet_config(SMALL))
    bases = [list(DiffBIRModelSampling.execute(base, v).result) for v in ("eps", "v2.1")]
    clean = torch.rand(1, 3, 64, 64)
    for crops, preset in (
        (asked(tagger())[1], "seesr"),
        (asked(control, model=bases[0])[1], "diffbir_v2"),
        (asked(control, model=bases[1])[1], "diffbir_v2.1"),
        (asked(tagger(), degradation=["pasd_exact"])[1], "pasd_exact"),
    ):
        wanted = training_pair(clean, registry.presets()[preset], 3, jpeg_round_trip)
        assert all(map(torch.equal, crops.damage(clean, 3), wanted)), preset


def test_partners_and_texts_are_in_the_order_of_the_pictures(asked) -> None:
    from restoration.common.resample import resize

    damaged = [2 * pictures(2, 36, 40) - 0.5, pictures(1, 20, 46)]  # one rounded, all smaller
    texts = [conditioning(torch.full((1, 7, 16), float(n)).half()) for n in range(3)]
    empty = conditioning(torch.full((1, 7, 16), -1.0))
    model = [unet_model(ldm_unet_config(SMALL))]
    _, crops, _ = asked(
        diffbir_control(), model=model, lq_images=damaged, positive=texts, empty_text=[empty]
    )
    sizes = [(72, 80), (72, 80), (40, 90)]
    assert [tuple(each.shape[-2:]) for each in crops.clean] == sizes
    rows = [row.movedim(-1, 0)[None].clamp(0, 1) for batch in damaged for row in batch]
    for found, row, size in zip(crops.damaged, rows, sizes, strict=True):
        assert torch.equal(found, resize(row, *size)[0].clamp(0, 1))
    assert [text.unique().tolist() for text in crops.texts] == [[0.0], [1.0], [2.0]]
    assert {text.dtype for text in crops.texts} == {torch.float32}
    assert crops.empty.unique().tolist() == [-1.0]
    bright = asked(tagger(), images=[3 * pictures(1) - 1])[1].clean[0]
    assert bright.min() == 0 and bright.max() == 1


def test_partners_may_be_a_rounding_apart_and_no_more(host) -> None:  # noqa: F811
    from restoration.host.training_inputs import partners_of

    def partner(height: int, width: int, of: tuple[int, int]) -> Any:
        return partners_of([torch.rand(3, height, width)], [torch.rand(3, *of)])

    for size, of in (((5, 11), (40, 90)), ((500, 506), (80, 80))):
        assert partner(*size, of)[0].shape[-2:] == of
    with pytest.raises(ValueError, match="Picture 1 of `lq_images` is 520x500"):
        partner(500, 520, (80, 80))


def test_diffbir_learns_behind_the_cleaner_that_is_connected(asked) -> None:
    from restoration.stage1.cleaner import Cleaner

    model, cleaner = [unet_model(ldm_unet_config(SMALL))], stage1(1)
    pixels = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for connected, wanted in ((cleaner, Cleaner(cleaner)), (None, Cleaner())):
            tuning, _, _ = asked(diffbir_control(), model=model, upscale_model=[connected])
            assert torch.equal(tuning.own[0](pixels), wanted(pixels))


@pytest.mark.parametrize("forbidden", [False, True])
def test_a_saved_network_keeps_the_graph_unless_that_is_forbidden(
    asked, tmp_path, monkeypatch, caplog, forbidden
) -> None:
    import comfy.cli_args
    import folder_paths

    from restoration.host.saving import save_network
    from restoration.nodes.training import KINDS

    network = diffbir_control()
    folders = folder_paths.folder_names_and_paths
    monkeypatch.setitem(folders, "controlnet", ([str(tmp_path / "new")], {".safetensors"}))
    monkeypatch.setattr(comfy.cli_args.args, "disable_metadata", forbidden)
    hidden = SimpleNamespace(prompt={"1": {}}, extra_pnginfo={"workflow": {"nodes": []}})
    with caplog.at_level("INFO"):
        file = save_network(KINDS[type(network)].saved(network), " a/scans ", hidden)
    assert file == tmp_path / "new" / "a" / "scans_00001_.safetensors"
    assert (
        f"Saved a/scans_00001_.safetensors ({file.stat().st_size / 2**20:.1f} MiB)" in caplog.text
    )
    assert "Press R, then choose it in Load DiffBIR ControlNet" in caplog.text
    with safe_open(file, "pt") as opened:
        said = opened.metadata()
    assert said["format"] == "pt"
    graph = {k: json.loads(v) for k, v in said.items() if k in ("prompt", "workflow")}
    assert graph == ({} if forbidden else {"prompt": {"1": {}}, "workflow": {"nodes": []}})


def test_a_name_that_somebody_took_meanwhile_is_passed_over(asked, tmp_path, monkeypatch) -> None:
    import folder_paths

    from restoration.nodes.training import RestorationNetworkSave

    taken = tmp_path / "net_00007_.safetensors"
    taken.write_bytes(b"mine")
    folders = folder_paths.folder_names_and_paths
    monkeypatch.setitem(folders, "controlnet", ([str(tmp_path)], {".safetensors"}))
    place = (str(tmp_path), "net", 7, "", "net")
    monkeypatch.setattr(folder_paths, "get_save_image_path", lambda *_: place)
    RestorationNetworkSave.execute(diffbir_control(), "net")
    assert taken.read_bytes() == b"mine" and (tmp_path / "net_00008_.safetensors").is_file()
