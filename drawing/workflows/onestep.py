"""The workflows of the one-step methods."""

from __future__ import annotations

from ...common.bases import SD21
from ..graph import Graph, Slot
from ..notes import CHOOSE, DIALS, TILES, fidelity, files_note, opened
from ..parts import before_and_after, fidelity_dial, photo_group, restoration

OSEDIFF, OSEDIFF_FACE, PISASR = "osediff.pkl", "osediff_face.pkl", "pisa_sr.pkl"
TAGGER = ("ram_swin_large_14m.pth", "DAPE.pth")
DETECTOR = "face_detection_yunet_2023mar.onnx"
PISASR_NODE, OSEDIFF_NODE = "Restore with PiSA-SR", "Restore with OSEDiff"
DRIVE = (
    "The authors publish pisa_sr.pkl on Google Drive alone: with `gdown` installed the command "
    "fetches it, else it tells where to click."
)


def load(g: Graph, file: str) -> dict[str, Slot]:
    """The loaders, as the sockets of a Restore node."""
    base = g.add("CheckpointLoaderSimple", ckpt_name=SD21.name)
    onestep = g.add("OneStepLoader", onestep_name=file)
    sockets = {"model": base[0], "clip": base[1], "vae": base[2], "onestep_model": onestep[0]}
    if g.all_nodes:
        sockets["fidelity"] = fidelity_dial(g)
    return sockets


def _pisasr(g: Graph, prefix: str, tile_size: int) -> None:
    dials = ("fidelity", "upscale_by", "lambda_sem", "lambda_pix")  # the authors have no prompt
    kind = "RestoreWithPiSASR"
    restoration(g, kind, lambda g: load(g, PISASR), prefix, dials, tile_size=tile_size)


def pisasr(g: Graph) -> None:
    g.note = (
        "# PiSA-SR: restore and enlarge x4 in one step\n\nOne run of the network instead of fifty or "
        "a hundred, on plain Stable Diffusion 2.1 with one small file. Two dials: how much damage is "
        "removed, and how much detail is drawn. The settings are the authors'.\n"
        + CHOOSE
        + files_note(g.name, SD21.name, PISASR, more=DRIVE)
        + DIALS
        + fidelity(PISASR_NODE, "It turns `lambda_sem`.")
        + f"- `lambda_sem` in *{PISASR_NODE}*: 1. More draws more detail, 0 draws none.\n"
        f"- `lambda_pix` in *{PISASR_NODE}*: 1. More removes more damage, and finally too much.\n"
    )
    if g.all_nodes:
        g.note = opened("Restore a photo in one step with PiSA-SR")
    _pisasr(g, "pisasr", tile_size=0)


def pisasr_4k_tiled(g: Graph) -> None:
    g.note = (
        "# PiSA-SR: to 4K in tiles, in one step\n\nA photo of about 1024 pixels becomes 4096: the "
        "network looks at each tile once, and the tiles are blended as the authors blend them. The "
        "VAE takes most of the time; its tiles leave no trace at all.\n"
        + CHOOSE
        + files_note(g.name, SD21.name, PISASR, more=DRIVE)
        + DIALS
        + fidelity(PISASR_NODE, "It turns `lambda_sem`.")
        + TILES.format(node=PISASR_NODE, size=768)
        + f"- `decode_vae` of *{PISASR_NODE}*: connect TAESD from *Load VAE* for a fast, softer look.\n"
    )
    _pisasr(g, "pisasr_4k", tile_size=768)


def osediff(g: Graph) -> None:
    g.note = (
        "# OSEDiff: restore and enlarge x4 in one step\n\nOne run of the network, told what is in the "
        "photo: SeeSR's tagger looks at it, and your own words may stand behind its tags. Without the "
        "tagger (delete *Load DAPE*) your words alone do. The settings are the authors'.\n"
        + CHOOSE
        + files_note(g.name, SD21.name, OSEDIFF, *TAGGER)
        + DIALS
        + f"- `prompt` in *{OSEDIFF_NODE}*: what the photo shows; empty is fine beside the tagger.\n"
        f"- `fidelity` in *{OSEDIFF_NODE}*: 0.5, the authors' setting. Higher blends the enlarged "
        "photo in; lower does nothing here.\n"
        f"- `upscale_by` in *{OSEDIFF_NODE}*: 4.\n"
    )
    if g.all_nodes:
        g.note = opened("Restore a photo in one step with OSEDiff")

    def loaders(g: Graph) -> dict[str, Slot]:
        sockets = load(g, OSEDIFF)
        tagger = g.add("DAPELoader", ram_name=TAGGER[0], dape_name=TAGGER[1])
        return sockets | {"dape_model": tagger[0]}

    restoration(g, "RestoreWithOSEDiff", loaders, "osediff", tile_size=0)


def osediff_face(g: Graph) -> None:
    g.note = (
        "# OSEDiff: faces in a photo, in one step\n\nEvery face is cut out upright at 512x512, "
        "restored with OSEDiff's weights for faces, and pasted back with a soft edge. The rest of the "
        "photo stays as it is. A photo without a face passes through.\n"
        + CHOOSE
        + files_note(g.name, SD21.name, OSEDIFF_FACE, DETECTOR)
        + "The last file and the package `opencv-python-headless` are for finding faces. Without them: "
        "right click on the photo, **Open in MaskEditor**, paint over each face, and connect MASK to "
        "`mask` of *Crop Faces*.\n\n"
        + DIALS
        + f"- `fidelity` in *{OSEDIFF_NODE}*: 0.5, the authors' setting. Higher blends the faces of "
        "your photo in.\n"
        f"- `prompt` in *{OSEDIFF_NODE}*: what a face shows, such as: old man, glasses.\n"
        "- `confidence` in *Crop Faces*: lower finds more faces.\n"
    )
    photo = photo_group(g)
    with g.group("2  Models"):
        sockets = load(g, OSEDIFF_FACE)
    with g.group("3  Faces"):
        # At the photo's size, but no smaller than a face is worked on.
        at_work = g.add(
            "RestorationPrepare",
            image=photo[0],
            transparency=photo[1],
            upscale_by=1.0,
            min_side=512,
            multiple=1,
        )
        faces = g.add("RestorationFaceCrop", image=at_work[0])
        faces.models += (DETECTOR,)
        done = g.restore(
            "RestoreWithOSEDiff",
            image=faces[0],
            **sockets,
            upscale_by=1.0,
            tile_size=0,
            color_correction_method="none",
        )
        pasted = g.add("RestorationFacePaste", image=at_work[0], faces=done[0], info=faces[1])
        finished = g.add(
            "RestorationFinish", image=pasted[0], info=at_work[1], color_correction_method="none"
        )
    g.shown += [(done, "fidelity"), (at_work, "upscale_by"), (done, "prompt")]
    g.shown += [(n, name) for n in g.nodes for name, v in n.inputs.items() if v in n.models]
    before_and_after(g, 4, photo[0], finished[0], "osediff_face")


WORKFLOWS = {
    "pisasr_upscale": ("1 Restore a photo in one step with PiSA-SR", pisasr),
    "osediff_upscale": ("2 Restore a photo in one step with OSEDiff", osediff),
    "osediff_face": ("2 Restore faces in one step with OSEDiff", osediff_face),
    "pisasr_upscale_4k_tiled": ("3 Enlarge to 4K in one step with PiSA-SR", pisasr_4k_tiled),
    "pisasr_all_nodes": ("5 Restore a photo with PiSA-SR (all nodes)", pisasr, True),
    "osediff_all_nodes": ("5 Restore a photo with OSEDiff (all nodes)", osediff, True),
}
