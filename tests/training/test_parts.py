"""Short runs of the parts on tiny bases, from a folder of pictures to files of a release."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, safe_open
from torch import Tensor, nn

from restoration import registry
from restoration.tests.golden.runners_diffbir import control_config
from restoration.tests.host import pasd_networks, seesr_networks
from restoration.tests.host.networks import (
    SMALL,
    conditioning,
    ldm_unet_config,
    sample,
    seeded_input,
    seeded_weights,
    unet_model,
)
from restoration.tests.training.test_loop import losses, steps
from restoration.training.base import Base, check_family
from restoration.training.config import make_config
from restoration.training.dry_run import dry_run
from restoration.training.errors import TrainingError
from restoration.training.export import export
from restoration.training.loop import make_accelerator, train
from restoration.training.parts import part_module
from restoration.training.presets import preset

pytestmark = pytest.mark.host

SIDE, TEXT = 64, 16
TWO = ("unet", "controlnet")
"""Folders of a release."""
AUTHORS = (
    "pasd_light",
    "pasd_rrdb",
    "diffbir_v21",
    "seesr",
    # These have quicker neighbors above.
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("pasd", "pasd_color", "diffbir_v2")),
)


class Moments(nn.Module):
    """In the VAE's place: the mean of every 8 x 8."""

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        small = torch.nn.functional.avg_pool2d(pixels, 8)
        return torch.cat([small, small[:, :1]], 1), torch.full_like(small[:, :1], -9.0)

    def encoded(self, pixels: Tensor) -> Tensor:
        return self(pixels * 2 - 1)[0]

    def decoded(self, latent: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(latent[:, :3] / 2 + 0.5, scale_factor=8)


class Text(nn.Module):
    def forward(self, captions: list[str]) -> Tensor:
        return torch.stack([torch.full((7, TEXT), len(each) / 10) for each in captions])


class Eyes(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.mean((1, 2, 3))[:, None, None].expand(-1, 5, 512)


@pytest.fixture(scope="module")
def host(comfy) -> Any:
    return comfy


def tiny_base(unet_config: dict[str, Any]) -> Base:
    from restoration.host.trainable_unet import build_unet

    unet = build_unet(unet_config, "cpu")
    unet.load_state_dict(seeded_weights(unet))
    return Base(unet, unet_config, Moments(), Text(), "abc")


def bases() -> dict[str, Any]:
    return {
        "pasd": lambda: {"base": tiny_base(pasd_networks.sd15().unet_config())},
        "diffbir": lambda: {"base": tiny_base(ldm_unet_config(SMALL)), "cleaner": nn.Identity()},
        "seesr": lambda: {
            "base": tiny_base(seesr_networks.config().unet_config()),
            "eyes": Eyes(),
        },
        "dreambooth": lambda: {"base": tiny_base(ldm_unet_config(SMALL))},
    }


def config_of(authors: str, folder, pictures, **sections):
    part, values = preset(authors)
    table = {
        "data": {"pictures": [str(pictures)], "size": SIDE, "workers": 0, "prompt": "sks"},
        "run": {"folder": str(folder), "steps": 2, "batch": 2, "precision": "no"},
    }
    for name, more in sections.items():
        table[name] = {**table.get(name, {}), **more}
    return make_config(part, part_module(part).Model, values, {"authors": authors, **table}, "it")


def open_tiny(config, **changes):
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    given = bases()[config.part]() | changes
    return part_module(config.part).open_part(config, **given)


@dataclass
class Run:
    """A short one: what was there before it, and what it exported."""

    part: Any
    folder: Path
    before: dict[str, Tensor]
    export: Path
    start: Path
    """The same files from before the first step."""


@pytest.fixture(scope="module", params=AUTHORS)
def ran(request, host, tmp_path_factory, pictures) -> Run:
    folder = tmp_path_factory.mktemp(request.param)
    shown = {"pictures": str(pictures), "every": 2, "count": 1, "steps": 2}
    config = config_of(request.param, folder, pictures, samples=shown)
    opened = open_tiny(config)
    before = {k: v.detach().clone() for k, v in opened.part.trained().items()}
    start = folder.with_name(f"{folder.name} start")
    export(opened.part.published_state(), start, {})
    train(config, opened, make_accelerator(config, cpu=True))
    return Run(opened.part, folder, before, folder / "export/00000002", start)


def test_a_short_run_exports_what_the_doctor_knows(ran) -> None:
    name = part_name(ran)
    trained = ran.part.trained()
    assert [k for k, v in trained.items() if not torch.equal(v, ran.before[k])]
    assert len(losses(ran.folder)) == 2
    files = sorted(ran.export.rglob("*.safetensors"))
    assert len(files) == len(ran.part.published_state())
    for file in files:
        with safe_open(file, "pt") as head:
            metadata = head.metadata()
        assert metadata["method"] == name and metadata["base_sha256"] == "abc"
        weights = load_file(file)
        found = [
            made
            for method in registry.methods()
            if method.recognize and (made := method.recognize(weights, file.name, metadata))
        ]
        assert [each.method for each in found] == [name], file


def test_it_draws_samples_restored_by_its_network(ran) -> None:
    """Which says nothing of how well: the networks are drawn."""
    with Image.open(ran.folder / "samples/00000002/00.png") as sheet:
        assert sheet.size == (3 * SIDE, SIDE)
        parts = [sheet.crop((i * SIDE, 0, (i + 1) * SIDE, SIDE)) for i in range(3)]
    assert len({part.tobytes() for part in parts}) == 3


def test_samples_of_a_part_that_restores_nothing_are_refused(host, tmp_path, pictures) -> None:
    for authors in ("dape", "dreambooth"):
        config = config_of(authors, tmp_path, pictures, samples={"pictures": str(pictures)})
        with pytest.raises(TrainingError, match=r"^samples\.pictures is .* restores nothing"):
            part_module(config.part).open_part(config)


def part_name(ran: Run) -> str:
    return type(ran.part).__name__.removesuffix("Trainable").lower()


def test_its_loader_node_takes_the_export_which_changes_a_restoration(
    host, ran, monkeypatch
) -> None:
    """In ComfyUI, by the nodes; the loaders alone learn how small these networks are."""
    folders = host.folder_paths.folder_names_and_paths
    found = []
    for place in (ran.start, ran.export):
        for kind in ("restoration", "controlnet"):
            monkeypatch.setitem(folders, kind, ([str(place)], {".safetensors"}))
        found.append(restored(host, part_name(ran), monkeypatch))
    assert found[0].isfinite().all() and not torch.equal(*found)


def restored(host: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """A latent after two steps."""
    image = torch.sigmoid(seeded_input(3, "image", 1, SIDE, SIDE, 3))
    text, empty = (conditioning(seeded_input(3, each, 1, 7, TEXT)) for each in ("text", "empty"))
    latent = torch.zeros(1, 4, SIDE // 8, SIDE // 8)
    unet, control = (f"{each}/diffusion_pytorch_model.safetensors" for each in TWO)
    if name == "pasd":
        from restoration.nodes.pasd import PACAControlApply, PASDLoader

        loaded = PASDLoader.execute(unet, control).result[0]
        base = pasd_networks.base_model(pasd_networks.sd15())
        model = PACAControlApply.execute(base, loaded, image, 1.0, 0.0, 1.0).result[0]
    elif name == "seesr":
        from restoration.nodes.seesr import SeeSRControlApply, SeeSRLoader
        from restoration.seesr.load import load_seesr

        monkeypatch.setattr(load_seesr, "__defaults__", (seesr_networks.config(),))
        loaded, base = SeeSRLoader.execute(unet, control, seesr_networks.base_model()).result
        embeds = seesr_networks.tag_embeds()
        model = SeeSRControlApply.execute(base, loaded, image, embeds, 1.0, 0.0, 1.0).result[0]
    else:
        from restoration.diffbir.load import load_diffbir_control
        from restoration.nodes.diffbir import DiffBIRControlLoader, LAControlApply

        monkeypatch.setattr(load_diffbir_control, "__defaults__", (control_config(SMALL),))
        loaded = DiffBIRControlLoader.execute("diffbir.safetensors").result[0]
        model = unet_model(ldm_unet_config(SMALL))
        hint = {"samples": seeded_input(3, "latent", *latent.shape)}
        text, empty = LAControlApply.execute(text, empty, loaded, hint, 1.0, 0.0, 1.0).result
    return sample(host, model, text, empty, latent, steps=2)


def test_dreambooth_learns_beside_its_class_and_exports_a_checkpoint(
    host, tmp_path, pictures
) -> None:
    config = config_of(
        "dreambooth",
        tmp_path / "run",
        pictures,
        model={"class_pictures": str(pictures), "class_prompt": "a dog"},
    )
    opened = open_tiny(config)
    train(config, opened, make_accelerator(config, cpu=True))
    weights = load_file(tmp_path / "run/export/00000002/checkpoint.safetensors")
    name = "input_blocks.0.0.weight"
    assert torch.equal(
        weights[f"model.diffusion_model.{name}"], opened.part.unet.get_parameter(name)
    )
    with open(tmp_path / "run/log.csv") as log:
        assert "prior" in log.readline()
    odd = config_of(
        "dreambooth", tmp_path, pictures, model={"class_pictures": "x"}, run={"batch": 3}
    )
    with pytest.raises(TrainingError, match="even number"):
        open_tiny(odd)


def test_a_run_goes_on_from_a_release(host, tmp_path, pictures) -> None:
    config = config_of("pasd_light", tmp_path / "run", pictures)
    opened = open_tiny(config)
    train(config, opened, make_accelerator(config, cpu=True))
    export = tmp_path / "run/export/00000002"
    files = [str(export / name) for name in opened.part.files.values()]
    again = open_tiny(config_of("pasd_light", tmp_path, pictures, model={"start_from": files}))
    for name, parameter in opened.part.trained().items():
        assert torch.equal(parameter, again.part.trained()[name])
    with pytest.raises(TrainingError, match="names 1 files; expected 2"):
        open_tiny(config_of("pasd_light", tmp_path, pictures, model={"start_from": files[:1]}))


def test_a_dry_run_says_what_a_run_needs_and_writes_nothing(host, tmp_path, pictures) -> None:
    config = config_of("seesr", tmp_path / "run", pictures, run={"at_once": 1})
    opened = open_tiny(config)
    said = "\n".join(dry_run(config, opened, make_accelerator(config, cpu=True)))
    count = sum(each.numel() for each in opened.part.trained().values())
    assert f"{count / 1e6:.2f} M parameters" in said
    assert "2 pictures: 1 processes, 1 at once, 2 times" in said and "loss " in said
    assert not (tmp_path / "run").exists()


def test_a_base_of_another_family_is_a_sentence(host) -> None:
    from restoration.host.trainable_base import sizes_of

    sizes = sizes_of(pasd_networks.sd15().unet_config())
    assert sizes.channels == pasd_networks.sd15().channels
    wide = type(sizes)(**{**vars(sizes), "context_dim": 1024})
    with pytest.raises(TrainingError, match=r"x\.ckpt is Stable Diffusion 2\.x, and PASD stands"):
        check_family(wide, 768, "PASD", "x.ckpt")


def test_samples_are_restored_beside_their_damaged_and_clean_ones(tmp_path, pictures) -> None:
    from restoration.training.samples import restorer

    config = config_of(
        "diffbir_stage1_v2", tmp_path, pictures, samples={"pictures": str(pictures), "count": 2}
    )
    restore = restorer(config, lambda batch: batch["lq"])
    assert restore is not None and "PSNR" in restore(tmp_path)
    with Image.open(tmp_path / "01.png") as sheet:
        assert sheet.size == (3 * SIDE, SIDE)
        damaged, restored, clean = (
            sheet.crop((i * SIDE, 0, (i + 1) * SIDE, SIDE)) for i in range(3)
        )
    assert damaged.tobytes() == restored.tobytes() != clean.tobytes()
    assert steps(tmp_path) == []
