"""The workflows of DiffBIR."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...common.bases import SD21
from ..graph import Graph, Slot
from ..notes import CHOOSE, DIALS, TILES, fidelity, files_note, opened
from ..parts import restoration

BASE_V21 = "sd2.1-base-zsnr-laionaes5.ckpt"
DETECTOR = "face_detection_yunet_2023mar.onnx"
NODE = "Restore with DiffBIR"
FACES = "Restore Faces with DiffBIR"


@dataclass(frozen=True)
class Release:
    """Weights that go together."""

    version: str
    base: str
    control: str


V2 = Release("v2", SD21.name, "v2.pth")
V21 = Release("v2.1", BASE_V21, "DiffBIR_v2.1.pt")


def load(g: Graph, release: Release, stage1: str) -> dict[str, Slot]:
    """The loaders, as the sockets of a Restore node."""
    base = g.add("CheckpointLoaderSimple", ckpt_name=release.base)
    control = g.add("DiffBIRControlLoader", control_net_name=release.control)
    cleans = g.add("UpscaleModelLoader", model_name=stage1)
    return {
        "model": base[0],
        "clip": base[1],
        "vae": base[2],
        "control_net": control[0],
        "upscale_model": cleans[0],
    }


def _restore(g: Graph, release: Release, stage1: str, prefix: str, **settings: Any) -> None:
    def loaders(g: Graph) -> dict[str, Slot]:
        return load(g, release, stage1)

    restoration(g, "RestoreWithDiffBIR", loaders, prefix, version=release.version, **settings)


TURNS = "It turns the control's strength, and above 0.5 blends stage 1's picture in."


def upscale_v2(g: Graph) -> None:
    g.note = (
        "# DiffBIR v2: restore and enlarge x4\n\nStage 1 (BSRNet) removes noise, blur and compression "
        "without inventing anything. Stage 2 (Stable Diffusion 2.1 with DiffBIR's control) draws the "
        "missing detail. The settings are the authors': 50 steps, cfg 4.\n"
        + CHOOSE
        + files_note(g.name, V2.base, V2.control, "BSRNet.pth")
        + DIALS
        + fidelity(NODE, TURNS)
        + f"- `upscale_by` in *{NODE}*: 4, counted from your photo.\n"
        f"- `speed` in *{NODE}*: *fast* takes well under half of the time.\n"
    )
    if g.all_nodes:
        g.note = opened("Restore a photo with DiffBIR")
    _restore(g, V2, "BSRNet.pth", "diffbir_v2", upscale_by=4.0, tile_size=0)


def upscale_4k_tiled(g: Graph) -> None:
    g.note = (
        "# DiffBIR v2: to 4K in tiles\n\nA photo of about 1024 pixels becomes 4096: every stage "
        "works in tiles. Sampling blends the authors' tiles of 512; the VAE's tiles leave no "
        "trace at all.\n"
        + CHOOSE
        + files_note(g.name, V2.base, V2.control, "BSRNet.pth")
        + DIALS
        + fidelity(NODE, TURNS)
        + TILES.format(node=NODE, size=512)
        + f"- `speed` in *{NODE}*: *fast* takes well under half of the time.\n"
    )
    _restore(g, V2, "BSRNet.pth", "diffbir_4k", upscale_by=4.0, tile_size=512)


def denoise(g: Graph) -> None:
    g.note = (
        "# DiffBIR v2: denoise\n\nStage 1 (SCUNet) removes strong noise and keeps the size. Stage 2 "
        "puts texture back where SCUNet left it smooth. Photos whose shorter side is below 512 are "
        "worked on at 512 and brought back.\n"
        + CHOOSE
        + files_note(g.name, V2.base, V2.control, "scunet_color_real_psnr.pth")
        + DIALS
        + fidelity(NODE, TURNS)
        + f"- `prompt` in *{NODE}*: what the photo shows; empty is the authors' way.\n"
        f"- `speed` in *{NODE}*: *fast* takes well under half of the time.\n"
    )
    _restore(g, V2, "scunet_color_real_psnr.pth", "diffbir_denoise", upscale_by=1.0, tile_size=0)


def upscale_v21(g: Graph) -> None:
    g.note = (
        "# DiffBIR v2.1: restore and enlarge x4\n\nThe latest weights, on a base of their own that "
        "predicts v and starts from pure noise. The authors' settings: 10 steps, cfg 6, a long prompt "
        "about photo quality. They put a caption of the photo in front of it: write it into `prompt`.\n"
        + CHOOSE
        + files_note(g.name, V21.base, V21.control, "realesrgan_s4_swinir_100k.pth")
        + DIALS
        + fidelity(NODE, TURNS)
        + f"- `prompt` in *{NODE}*: what the photo shows.\n"
        f"- `upscale_by` in *{NODE}*: 4.\n"
    )
    _restore(g, V21, "realesrgan_s4_swinir_100k.pth", "diffbir_v2.1", upscale_by=4.0, tile_size=0)


def face(g: Graph) -> None:
    g.note = (
        "# DiffBIR v2: faces in a photo, x2\n\nEvery face is cut out upright at 512x512, restored with "
        "DiffBIR's face stage 1, and pasted back with a soft edge onto the restored photo. A photo "
        "without a face comes out restored all the same.\n"
        + CHOOSE
        + files_note(g.name, V2.base, V2.control, "BSRNet.pth", "face_swinir_v1.ckpt", DETECTOR)
        + "The last file and the package `opencv-python-headless` are for finding faces. Without them: "
        "right click on the photo, **Open in MaskEditor**, paint over each face, and connect MASK to "
        f"`mask` of *{FACES}* in place of `transparency`.\n\n"
        + DIALS
        + fidelity(FACES, "It turns the control's strength, in the background and in the faces.")
        + f"- `upscale_by` in *{FACES}*: 2.\n"
        f"- `speed` in *{FACES}*: *fast* takes well under half of the time.\n"
    )

    def loaders(g: Graph) -> dict[str, Slot]:
        sockets = load(g, V2, "BSRNet.pth")
        cleans = g.add("UpscaleModelLoader", "Network for faces", model_name="face_swinir_v1.ckpt")
        return sockets | {"face_model": cleans[0]}

    done = restoration(
        g,
        "RestoreFacesWithDiffBIR",
        loaders,
        "diffbir_face",
        version=V2.version,
        upscale_by=2.0,
        tile_size=0,
    )
    done.models += (DETECTOR,)


WORKFLOWS = {
    "diffbir_v2_upscale": ("2 Restore a photo with DiffBIR", upscale_v2),
    "diffbir_v2.1_upscale": ("2 Restore a photo with DiffBIR 2.1", upscale_v21),
    "diffbir_face": ("2 Restore faces with DiffBIR", face),
    "diffbir_denoise": ("3 Remove noise with DiffBIR", denoise),
    "diffbir_upscale_4k_tiled": ("3 Enlarge to 4K with DiffBIR", upscale_4k_tiled),
    "diffbir_v2_all_nodes": ("5 Restore a photo with DiffBIR (all nodes)", upscale_v2, True),
}
