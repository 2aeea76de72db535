"""The workflows of PASD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..graph import Graph, Slot
from ..notes import CHOOSE, DIALS, TILES, fidelity, files_note, opened
from ..parts import restoration

SD15 = "v1-5-pruned-emaonly-fp16.safetensors"
TOONYOU = "toonyou_beta3.safetensors"
SDXL = "sd_xl_base_1.0.safetensors"
FILE = "diffusion_pytorch_model.safetensors"
NODE = "Restore with PASD"


@dataclass(frozen=True)
class Release:
    """Weights that go together."""

    folder: str
    base: str = SD15
    version: str = "pasd"

    @property
    def unet(self) -> str:
        return f"{self.folder}/unet/{FILE}"

    @property
    def control(self) -> str:
        return f"{self.folder}/controlnet/{FILE}"

    @property
    def files(self) -> tuple[str, str, str]:
        return self.base, self.unet, self.control


FULL = Release("pasd/checkpoint-100000")
LIGHT = Release("pasd_light/checkpoint-120000")
STYLE = Release("pasd/checkpoint-100000", TOONYOU)
COLOR = Release("pasd_color/checkpoint-180000", version="pasd_color")
XL = Release("PASD-SDXL/checkpoint-200000", SDXL, "pasd_sdxl")


def _restore(g: Graph, release: Release, prefix: str, **settings: Any) -> None:
    def loaders(g: Graph) -> dict[str, Slot]:
        base = g.add("CheckpointLoaderSimple", ckpt_name=release.base)
        pasd = g.add("PASDLoader", unet_name=release.unet, control_net_name=release.control)
        return {"model": base[0], "clip": base[1], "vae": base[2], "pasd_model": pasd[0]}

    restoration(g, "RestoreWithPASD", loaders, prefix, version=release.version, **settings)


TURNS = "It turns PASD's strength, and how far the photo is noised at the start."
FOLDERS = "Keep the folders of a release, for its two files have the same name."
SAYS = f"- `prompt` in *{NODE}*: what the photo shows. PASD likes to be told.\n"
SPEED = f"- `speed` in *{NODE}*: *fast* takes under half of the time.\n"


def upscale(g: Graph) -> None:
    g.note = (
        "# PASD: restore and enlarge x2\n\nThe photo, enlarged, steers Stable Diffusion 1.5 at every "
        "pixel: PASD cleans and redraws it in one stage, with the authors' 20 steps, cfg 9.\n"
        + CHOOSE
        + files_note(g.name, *FULL.files, more=FOLDERS)
        + DIALS
        + fidelity(NODE, TURNS)
        + SAYS
        + f"- `upscale_by` in *{NODE}*: 2.\n"
    )
    if g.all_nodes:
        g.note = opened("Restore a photo with PASD")
    _restore(g, FULL, "pasd_upscale", upscale_by=2.0, tile_size=0)


def upscale_4k_tiled(g: Graph) -> None:
    g.note = (
        "# PASD: to 4K in tiles\n\nA photo of about 1024 pixels becomes 4096: the model "
        "samples in blended tiles, and the VAE's tiles leave no trace.\n"
        + CHOOSE
        + files_note(g.name, *FULL.files, more=FOLDERS)
        + DIALS
        + fidelity(NODE, TURNS)
        + SAYS
        + TILES.format(node=NODE, size=768)
    )
    _restore(g, FULL, "pasd_4k", upscale_by=4.0, tile_size=768)


def light_upscale(g: Graph) -> None:
    g.note = (
        "# PASD light: restore and enlarge x2\n\nThe small version: one more attention in each decoder "
        "block instead of a transformer after it. Faster, and more inventive than the full one.\n"
        + CHOOSE
        + files_note(g.name, *LIGHT.files, more=FOLDERS)
        + DIALS
        + fidelity(NODE, TURNS)
        + SAYS
        + f"- `upscale_by` in *{NODE}*: 2. 1 keeps the size.\n"
    )
    _restore(g, LIGHT, "pasd_light_upscale", upscale_by=2.0, tile_size=0)


def stylization(g: Graph) -> None:
    g.note = (
        "# PASD: stylize\n\nThe same as the upscaler with another base: PASD was trained beside a "
        "frozen Stable Diffusion 1.5, so any personalized checkpoint of it may draw instead. ToonYou "
        "is the authors' example. Add LoRAs with *Load LoRA*.\n"
        + CHOOSE
        + files_note(g.name, *STYLE.files, more=FOLDERS)
        + DIALS
        + fidelity(NODE, "**Lower is more style**; try 0.1 to 0.3.")
        + f"- `prompt` in *{NODE}*: the words of the style, and what the photo shows.\n"
        f"- `color_correction_method` in *{NODE}*: *none* keeps the colors of the style.\n"
    )
    _restore(g, STYLE, "pasd_stylization", upscale_by=1.0, tile_size=0)


def colorization(g: Graph) -> None:
    g.note = (
        "# PASD: colorize\n\nTakes the brightness of the photo alone, lets PASD's colorization weights "
        "draw it in color, and puts those colors on the photo's own brightness: no detail of the photo "
        "changes.\n"
        + CHOOSE
        + files_note(g.name, *COLOR.files, more=FOLDERS)
        + DIALS
        + fidelity(NODE, "It turns PASD's strength.")
        + f"- `prompt` in *{NODE}*: what is in the photo, with colors; the authors always say it.\n"
        f"- `seed` in *{NODE}*: another number gives other colors.\n"
    )
    _restore(g, COLOR, "pasd_colorization", upscale_by=1.0, tile_size=0)


def sdxl_upscale(g: Graph) -> None:
    g.note = (
        "# PASD-SDXL: restore and enlarge x2\n\nThe latest and largest weights, on SDXL. As in the "
        "authors' script: 25 steps of Euler, cfg 7, strength 0.8, from pure noise; worked on at 1280 "
        "pixels or more. Needs far more memory than the others.\n"
        + CHOOSE
        + files_note(g.name, *XL.files, more=FOLDERS)
        + DIALS
        + fidelity(NODE, "It turns PASD's strength.")
        + SAYS
        + SPEED
    )
    _restore(g, XL, "pasd_sdxl_upscale", upscale_by=2.0, tile_size=0)


WORKFLOWS = {
    "pasd_upscale": ("2 Restore a photo with PASD", upscale),
    "pasd_light_upscale": ("2 Restore a photo with PASD light", light_upscale),
    "pasd_sdxl_upscale": ("2 Restore a photo with PASD SDXL", sdxl_upscale),
    "pasd_colorization": ("3 Colorize a photo with PASD", colorization),
    "pasd_stylization": ("3 Turn a photo into a drawing with PASD", stylization),
    "pasd_upscale_4k_tiled": ("3 Enlarge to 4K with PASD", upscale_4k_tiled),
    "pasd_all_nodes": ("5 Restore a photo with PASD (all nodes)", upscale, True),
}
