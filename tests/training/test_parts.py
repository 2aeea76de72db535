"""Short runs of the parts on tiny bases, from a folder of pictures to files of a release."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, safe_open
from torch import Tensor, nn

from restoration import registry
from restoration.tests.host import pasd_networks, seesr_networks
from restoration.tests.host.networks import SMALL, ldm_unet_config, seeded_weights
from restoration.tests.training.test_loop import losses, steps
from restoration.training.base import Base, check_family
from restoration.training.config import make_config
from restoration.training.dry_run import dry_run
from restoration.training.errors import TrainingError
from restoration.training.loop import make_accelerator, train
from restoration.training.parts import part_module
from restoration.training.presets import preset

pytestmark = pytest.mark.host

SIDE, TEXT = 64, 16
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


@pytest.mark.parametrize("authors", AUTHORS)
def test_a_short_run_exports_what_the_doctor_knows(host, tmp_path, pictures, authors) -> None:
    config = config_of(authors, tmp_path / "run", pictures)
    opened = open_tiny(config)
    before = {k: v.detach().clone() for k, v in opened.part.trained().items()}
    train(config, opened, make_accelerator(config, cpu=True))
    moved = [k for k, v in opened.part.trained().items() if not torch.equal(v, before[k])]
    assert moved and len(losses(tmp_path / "run")) == 2
    files = sorted((tmp_path / "run/export/00000002").rglob("*.safetensors"))
    assert len(files) == len(opened.part.published_state())
    for file in files:
        with safe_open(file, "pt") as head:
            metadata = head.metadata()
        assert metadata["method"] == config.part and metadata["base_sha256"] == "abc"
        weights = load_file(file)
        found = [
            made
            for method in registry.methods()
            if method.recognize and (made := method.recognize(weights, file.name, metadata))
        ]
        assert [each.method for each in found] == [config.part], file


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
    config = config_of("pasd", tmp_path / "run", pictures)
    opened = open_tiny(config)
    train(config, opened, make_accelerator(config, cpu=True))
    export = tmp_path / "run/export/00000002"
    files = [str(export / name) for name in opened.part.files.values()]
    again = open_tiny(config_of("pasd", tmp_path, pictures, model={"start_from": files}))
    for name, parameter in opened.part.trained().items():
        assert torch.equal(parameter, again.part.trained()[name])
    with pytest.raises(TrainingError, match="names 1 files; expected 2"):
        open_tiny(config_of("pasd", tmp_path, pictures, model={"start_from": files[:1]}))


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
    restore = restorer(config, lambda pixels: pixels)
    assert restore is not None and "PSNR" in restore(tmp_path)
    with Image.open(tmp_path / "01.png") as sheet:
        assert sheet.size == (3 * SIDE, SIDE)
        damaged, restored, clean = (
            sheet.crop((i * SIDE, 0, (i + 1) * SIDE, SIDE)) for i in range(3)
        )
    assert damaged.tobytes() == restored.tobytes() != clean.tobytes()
    assert steps(tmp_path) == []
