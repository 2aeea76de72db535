"""The workflows of SeeSR."""

from __future__ import annotations

from dataclasses import dataclass

from ...common.bases import SD21
from ..graph import Graph, Slot
from ..notes import CHOOSE, DIALS, TILES, fidelity, files_note, opened
from ..parts import fidelity_dial, photo_group, restoration

TURBO = "sd_turbo.safetensors"
UNET = "seesr/unet/diffusion_pytorch_model.safetensors"
CONTROL = "seesr/controlnet/diffusion_pytorch_model.safetensors"
TAGGER = ("ram_swin_large_14m.pth", "DAPE.pth")
NODE = "Restore with SeeSR"


@dataclass(frozen=True)
class Release:
    """A base, and how SeeSR runs on it."""

    version: str
    base: str

    @property
    def files(self) -> tuple[str, ...]:
        return self.base, UNET, CONTROL, *TAGGER


FULL = Release("seesr", SD21.name)
FAST = Release("seesr_turbo", TURBO)


def _upscale(g: Graph, release: Release, prefix: str, in_4k: bool = False) -> None:
    """in_4k: the tagger looks at every tile."""

    def loaders(g: Graph) -> dict[str, Slot]:
        base = g.add("CheckpointLoaderSimple", ckpt_name=release.base)
        seesr = g.add("SeeSRLoader", unet_name=UNET, control_net_name=CONTROL)
        if release is FAST:
            seesr.inputs["model"] = base[0]
        tagger = g.add("DAPELoader", ram_name=TAGGER[0], dape_name=TAGGER[1])
        sockets = {
            "model": seesr[1],
            "clip": base[1],
            "vae": base[2],
            "seesr_model": seesr[0],
            "dape_model": tagger[0],
        }
        if in_4k:
            sockets["tile_tagger"] = tagger[0]
        if g.all_nodes:  # where there is room for it
            sockets["fidelity"] = fidelity_dial(g)
        return sockets

    restoration(g, "RestoreWithSeeSR", loaders, prefix, version=release.version)


TURNS = "It turns the strength of SeeSR."
FOLDERS = "Keep the folders, for two files have the same name; they come from a mirror of the authors' link."
SPEED = f"- `speed` in *{NODE}*: *fast* takes well under half of the time.\n"


def upscale(g: Graph) -> None:
    g.note = (
        "# SeeSR: restore and enlarge x4\n\nA tagger that was trained on damaged photos (DAPE) says "
        "what is in yours: in words, for the prompt, and in embeddings that the model attends to at "
        "every step. The run starts from the photo itself under noise. The settings are the authors': "
        "50 steps, cfg 5.5, AdaIN colors, tiles of 768 where the picture is larger.\n"
        + CHOOSE
        + files_note(g.name, *FULL.files, more=FOLDERS)
        + DIALS
        + fidelity(NODE, TURNS)
        + f"- `upscale_by` in *{NODE}*: 4.\n"
        + SPEED
    )
    if g.all_nodes:
        g.note = opened("Restore a photo with SeeSR")
    _upscale(g, FULL, "seesr")


def upscale_4k_tiled(g: Graph) -> None:
    g.note = (
        "# SeeSR: to 4K in tiles\n\nA photo of about 1024 pixels becomes 4096: the model "
        "samples in blended tiles, and the tagger looks at each of them.\n"
        + CHOOSE
        + files_note(g.name, *FULL.files, more=FOLDERS)
        + DIALS
        + fidelity(NODE, TURNS)
        + TILES.format(node=NODE, size=768)
        + SPEED
    )
    _upscale(g, FULL, "seesr_4k", in_4k=True)


def turbo(g: Graph) -> None:
    g.note = (
        "# SeeSR-Turbo: restore and enlarge x4 in two steps\n\nSeeSR on SD-Turbo: its attention is set "
        "into a base that needs two steps and no guidance, so a picture takes 2 runs of the model "
        "instead of 100. The settings are the authors'. SD-Turbo has a license of its own.\n"
        + CHOOSE
        + files_note(g.name, *FAST.files, more=FOLDERS)
        + DIALS
        + fidelity(NODE, TURNS)
        + f"- `steps` in *{NODE}*: 0, which is 2. Up to 8 brings more detail.\n"
        f"- `prompt` in *{NODE}*: your own words beside the tags.\n"
    )
    _upscale(g, FAST, "seesr_turbo")


def tag_and_prompt(g: Graph) -> None:
    g.note = (
        "# What is in a damaged photo\n\nSeeSR's tagger alone: what it sees in a blurred, noisy or "
        "compressed photo, and the prompts that SeeSR makes of it. Connect the texts to any other "
        "restoration, or edit them.\n"
        + CHOOSE
        + files_note(g.name, *TAGGER)
        + DIALS
        + "- `threshold_offset` in *Tag Image (DAPE)*: 0. -0.1 gives more tags, more of them "
        "wrong; 0.1 fewer.\n"
        "- `exclude` in *Tag Image (DAPE)*: tags that you do not want, separated by commas.\n"
        "- `style` in *Restoration Prompt*: whose words are put around the tags.\n\n"
        "With `lora_strength` 0 in *Load DAPE* the tagger is plain RAM: compare what it makes of "
        "the same photo.\n"
    )
    photo = photo_group(g)
    with g.group("2  What is in it"):
        loader = g.add("DAPELoader", ram_name=TAGGER[0], dape_name=TAGGER[1])
        tagged = g.add("DAPETagger", dape_model=loader[0], image=photo[0])
    with g.group("3  Prompts"):
        prompt = g.add("RestorationPrompt", style="seesr", tags=tagged[0])
    with g.group("4  Read them"):
        for title, text in (
            ("Tags", tagged[0]),
            ("Positive prompt", prompt[0]),
            ("Negative prompt", prompt[1]),
        ):
            g.add("PreviewAny", title, source=text)
    g.shown.clear()  # an App shows pictures, and this one gives texts


WORKFLOWS = {
    "seesr_upscale": ("2 Restore a photo with SeeSR", upscale),
    "seesr_turbo_upscale": ("2 Restore a photo with SeeSR in two steps", turbo),
    "seesr_upscale_4k_tiled": ("3 Enlarge to 4K with SeeSR", upscale_4k_tiled),
    "tag_and_prompt": ("4 See what is in a photo (tags)", tag_and_prompt),
    "seesr_all_nodes": ("5 Restore a photo with SeeSR (all nodes)", upscale, True),
}
