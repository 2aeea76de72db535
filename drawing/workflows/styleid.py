"""The workflows of StyleID."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..graph import Graph, Node, Slot
from ..notes import DIALS, files_note
from ..parts import before_and_after, fidelity_dial
from .diffbir import NODE, V2, load

BASE = "v1-5-pruned-emaonly-fp16.safetensors"
SIDE = 512
"""The authors' size."""
SEED = 1234


@dataclass
class Loaded:
    """What both pictures are run through, without a prompt."""

    model: Slot
    vae: Slot
    empty: Slot


def _style_at_size(g: Graph, painting: Slot) -> Slot:
    """The painting, as the paper's program brings it to size."""
    return g.folded(
        "ImageScale",
        "Size of the style",
        image=painting,
        upscale_method="lanczos",
        width=SIDE,
        height=SIDE,
        crop="center",
    )[0]


def _working_size(g: Graph, picture: Slot, transparency: Slot | None = None) -> tuple[Slot, Slot]:
    """(picture, info): 512 high in its own proportions, sides of a multiple of 64."""
    scaled = g.add(
        "ImageScale",
        "Size of the result",
        image=picture,
        upscale_method="lanczos",
        width=0,
        height=SIDE,
        crop="disabled",
    )
    more: dict[str, Any] = {} if transparency is None else {"transparency": transparency}
    ready = g.add("RestorationPrepare", image=scaled[0], min_side=SIDE, multiple=64, **more)
    return ready[0], ready[1]


def _stylize(g: Graph, loaded: Loaded, picture: Slot, style: Slot, fidelity: Slot) -> Slot:
    """Both pictures to noise, and back as one."""
    features = []
    for pixels, name in ((picture, "content"), (style, "style")):
        latent = g.add("VAEEncode", f"Encode the {name}", pixels=pixels, vae=loaded.vae)
        inverted = g.folded(
            "StyleIDInvert",
            f"Invert the {name}",
            model=loaded.model,
            conditioning=loaded.empty,
            latent=latent[0],
        )
        features.append(inverted[1])
    applied = g.add(
        "StyleIDApply",
        model=loaded.model,
        content=features[0],
        style=features[1],
        fidelity=fidelity,
    )
    guider = g.add("BasicGuider", model=applied[0], conditioning=loaded.empty)
    noise = g.add("DisableNoise")
    sampler = g.add("KSamplerSelect", sampler_name="euler")
    result = g.add(
        "SamplerCustomAdvanced",
        noise=noise[0],
        guider=guider[0],
        sampler=sampler[0],
        sigmas=applied[2],
        latent_image=applied[1],
    )
    return g.add("VAEDecode", samples=result[0], vae=loaded.vae)[0]


def _finished(g: Graph, drawn: Slot, info: Slot) -> Node:
    return g.add("RestorationFinish", image=drawn, info=info, color_correction_method="none")


STYLE_DIALS = (
    "- `fidelity` in *{dial}*: 0.5, the authors' setting. Lower is more style, higher keeps the "
    "content. It turns `gamma` of *Apply StyleID*.\n"
)
SIZE = "- `height` in *Size of the result*: 512, what the model was trained at.\n"


def transfer(g: Graph) -> None:
    g.note = (
        "# StyleID: paint a photo in the style of a picture\n\nNothing is trained: both pictures "
        "are run back to noise, and on the way forth the content asks and the style answers. The "
        "settings are the authors': 50 steps, no prompt, cfg 1.\nChoose the photo in **The "
        "content** and the painting in **The style**, press **Run**.\n\n"
        + files_note(g.name, BASE)
        + DIALS
        + STYLE_DIALS.format(dial="Fidelity Dial")
        + "- `temperature` in *Apply StyleID*: 1.5. Lower is softer.\n"
        + SIZE
    )
    with g.group("1  Content and style"):
        photo = g.add("LoadImage", "The content", image="example.png")
        painting = g.add("LoadImage", "The style", image="example.png")
    with g.group("2  Model"):
        base = g.add("CheckpointLoaderSimple", ckpt_name=BASE)
        empty = g.folded("CLIPTextEncode", "Empty prompt", clip=base[1], text="")
        dial = fidelity_dial(g)
    with g.group("3  To noise and back"):
        content, info = _working_size(g, photo[0], photo[1])
        style = _style_at_size(g, painting[0])
        drawn = _stylize(g, Loaded(base[0], base[2], empty[0]), content, style, dial)
        done = _finished(g, drawn, info)
    before_and_after(g, 4, photo[0], done[0], "styleid")


def restore_then_style(g: Graph) -> None:
    g.note = (
        "# Restore an old photo, then paint it\n\nDiffBIR v2 restores the photo, then StyleID gives it "
        "the look of a picture, with the same base. Choose the photo in **Load Image** and the "
        "picture in **The style**, press **Run**.\n\n"
        + files_note(g.name, V2.base, V2.control, "BSRNet.pth")
        + DIALS
        + f"- `fidelity` in *{NODE}*: 0.5, the authors' setting. Higher keeps closer to the photo, "
        "lower draws more freely.\n" + STYLE_DIALS.format(dial="Fidelity of the style") + SIZE
    )
    with g.group("1  Photo and style"):
        photo = g.add("LoadImage", image="example.png")
        painting = g.add("LoadImage", "The style", image="example.png")
    with g.group("2  Models"):
        loaded = load(g, V2, "BSRNet.pth")
        empty = g.folded("CLIPTextEncode", "Empty prompt", clip=loaded["clip"], text="")
        styling = g.add("RestorationFidelity", "Fidelity of the style")[0]
    with g.group("3  Restore"):
        restored = g.restore(
            "RestoreWithDiffBIR",
            image=photo[0],
            transparency=photo[1],
            version=V2.version,
            upscale_by=2.0,
            tile_size=0,
            **loaded,
        )
    with g.group("4  Paint"):
        content, info = _working_size(g, restored[0])
        style = _style_at_size(g, painting[0])
        drawn = _stylize(
            g, Loaded(loaded["model"], loaded["vae"], empty[0]), content, style, styling
        )
        done = _finished(g, drawn, info)
    before_and_after(g, 5, photo[0], done[0], "restored_and_styled")


WORKFLOWS = {
    "styleid_transfer": ("4 Paint a photo in the style of a picture", transfer),
    "restore_then_style": ("4 Restore an old photo, then paint it", restore_then_style),
}
