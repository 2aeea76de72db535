"""The workflows of StyleID, and of DDNM."""

from __future__ import annotations

from dataclasses import dataclass

from ..graph import Graph, Slot
from ..notes import DIALS, files_note
from ..parts import before_and_after, fidelity_dial, sampled
from .diffbir import V2, clean_first, diffuse, load_models

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


def _style(g: Graph) -> Slot:
    """The painting, as the paper's program brings it to size."""
    painting = g.add("LoadImage", "The style", image="example.png")
    return g.add(
        "ImageScale",
        "Size of the style",
        image=painting[0],
        upscale_method="lanczos",
        width=SIDE,
        height=SIDE,
        crop="center",
    )[0]


def _working_size(g: Graph, picture: Slot) -> tuple[Slot, Slot]:
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
    ready = g.add("RestorationPrepare", image=scaled[0], min_side=SIDE, multiple=64)
    return ready[0], ready[1]


def _stylize(
    g: Graph,
    number: int,
    loaded: Loaded,
    content: tuple[Slot, Slot],
    style: Slot,
    fidelity: Slot,
) -> Slot:
    """Both pictures to noise, and back as one."""
    picture, info = content
    with g.group(f"{number}  To noise and back"):
        features = []
        for pixels, name in ((picture, "content"), (style, "style")):
            latent = g.add("VAEEncode", f"Encode the {name}", pixels=pixels, vae=loaded.vae)
            inverted = g.add(
                "StyleIDInvert",
                f"Invert the {name}",
                model=loaded.model,
                conditioning=loaded.empty,
                latent=latent[0],
            )
            features.append(inverted[1])
        g.column()
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
        g.column()
        result = sampled(g, noise, guider, sampler[0], applied[2], applied[1])
        decoded = g.add("VAEDecode", samples=result, vae=loaded.vae)
        done = g.add(
            "RestorationFinish", image=decoded[0], info=info, color_correction_method="none"
        )
    return done[0]


STYLE_DIALS = (
    "- `fidelity` in *Fidelity Dial*: 0.5, the authors' setting. Lower is more style, higher keeps "
    "the content. It turns `gamma` of *Apply StyleID*, from 0 over 0.75 to 1.\n"
    "- `temperature` in *Apply StyleID*: 1.5. Lower is softer.\n"
)
COST = (
    "Inverting takes as long as sampling, once for each picture; ComfyUI keeps both while you "
    "turn the dials of *Apply StyleID*. The features of a square of 512 pixels take 0.55 GiB of "
    "RAM; with `features` on *lockstep* in both inverting nodes almost none, but the style must "
    "then have the content's size.\n"
)


def transfer(g: Graph) -> None:
    g.note = (
        "# StyleID: paint a photo in the style of a picture\n\nNothing is trained: both pictures "
        "are run back to noise, and on the way forth the content asks and the style answers. The "
        "settings are the authors': 50 steps, no prompt, cfg 1.\nChoose the photo in **The "
        "content** and the painting in **The style**, press **Run**.\n\n"
        + files_note(BASE)
        + DIALS
        + STYLE_DIALS
        + "- `height` in *Size of the result*: 512, what the model was trained at. Time and memory "
        "grow with the area.\n\n" + COST
    )
    with g.group("1  Content and style"):
        photo = g.add("LoadImage", "The content", image="example.png")
        dial = fidelity_dial(g)
        content = _working_size(g, photo[0])
        g.column()
        style = _style(g)
    with g.group("2  Model"):
        base = g.add("CheckpointLoaderSimple", ckpt_name=BASE)
        empty = g.add("CLIPTextEncode", "Empty prompt", clip=base[1], text="")
    done = _stylize(g, 3, Loaded(base[0], base[2], empty[0]), content, style, dial)
    before_and_after(g, 4, photo[0], done, "styleid")


def restore_then_style(g: Graph) -> None:
    g.note = (
        "# Restore an old photo, then paint it\n\nFirst DiffBIR v2 restores the photo and enlarges "
        "it twice, then StyleID gives it the look of a picture, both with the same Stable "
        "Diffusion 2.1. Restoring first matters: StyleID keeps the content's structure, noise and "
        "blocks of compression too.\nChoose the photo in **Load Image** and the painting in **The "
        "style**, press **Run**.\n\n"
        + files_note(V2.base, V2.control, "BSRNet.pth")
        + DIALS
        + "- `fidelity` in *Fidelity of the restoration*: 0.5, the authors' setting. Higher keeps "
        "closer to the photo, lower draws more freely.\n"
        "- `fidelity` in *Fidelity of the style*: 0.5, the authors' setting. Lower is more style, "
        "higher keeps the content.\n"
        "- `height` in *Size of the result*: 512, what the model was trained at. Time and memory "
        "grow with the area.\n\n" + COST
    )
    with g.group("1  Photo and style"):
        photo = g.add("LoadImage", image="example.png")
        restoring = g.add("RestorationFidelity", "Fidelity of the restoration")[0]
        styling = g.add("RestorationFidelity", "Fidelity of the style")[0]
        g.column()
        style = _style(g)
    loaded = load_models(g, V2)
    with g.group("3  Restore"):
        ready = clean_first(g, photo[0], "BSRNet.pth", 2.0)
        g.column()
        decoded = diffuse(g, loaded, ready[0], V2.cfg, restoring)
        restored = g.add("RestorationFinish", image=decoded, info=ready[1], fidelity=restoring)
        g.add("PreviewImage", "Restored", images=restored[0])
    with g.group("4  Content"):
        content = _working_size(g, restored[0])
        (base,) = (node for node in g.nodes if node.kind == "CheckpointLoaderSimple")
        empty = g.add("CLIPTextEncode", "Empty prompt", clip=base[1], text="")
    done = _stylize(g, 5, Loaded(loaded.model, loaded.vae, empty[0]), content, style, styling)
    before_and_after(g, 6, photo[0], done, "restored_and_styled")


def ddnm_inpaint(g: Graph) -> None:
    g.note = (
        "# DDNM: fill a hole, keep the rest\n\nFor scratches, spots and things in the way, with any "
        "Stable Diffusion checkpoint (an inpainting one is not needed). Every step's prediction is "
        "replaced by the photo wherever the photo is known. The settings follow the paper: 100 "
        "steps with noise (eta 0.85).\nChoose the photo in **Load Image**, right click on it, "
        "**Open in MaskEditor**, paint over the damage, describe the whole picture in **What the "
        "picture shows**, press **Run**.\n\n"
        + files_note(BASE)
        + DIALS
        + "- `expand` in *Grow the damage*: 16 pixels around the damage are redrawn, because each cell of "
        "the latent sees its surroundings. More, if the damage shines through.\n"
        "- `end_percent` in *DDNM Guidance*: 1. 0.9 leaves the last steps to the model, which "
        "smooths seams.\n"
        "- `height` in *Size to work at*: 512. The hole is drawn at that size and enlarged; the "
        "photo around it keeps its own pixels.\n\n"
        "The projection works on latents here, where it costs nothing. A latent cell is 8 pixels "
        "wide: what is thinner is redrawn with its surroundings.\n"
    )
    with g.group("1  Photo and damage"):
        photo = g.add("LoadImage", image="example.png")
        g.column()
        hole = g.add("GrowMask", "Grow the damage", mask=photo[1], expand=16, tapered_corners=True)
        known = g.add("InvertMask", "Where the photo is known", mask=hole[0])
        scaled = g.add(
            "ImageScale",
            "Size to work at",
            image=photo[0],
            upscale_method="lanczos",
            width=0,
            height=SIDE,
            crop="disabled",
        )
        # Stretching by a few pixels keeps the mask on its place.
        ready = g.add(
            "RestorationPrepare", image=scaled[0], min_side=SIDE, multiple=64, fit="stretch"
        )
    with g.group("2  Model and prompt"):
        base = g.add("CheckpointLoaderSimple", ckpt_name=BASE)
        texts = [
            g.add("CLIPTextEncode", title, clip=base[1], text=text)
            for title, text in (
                ("What the picture shows", "a photo, high quality"),
                ("What it does not", "blurry, low quality"),
            )
        ]
    with g.group("3  Fill"):
        latent = g.add("VAEEncode", pixels=ready[0], vae=base[2])
        guided = g.add(
            "DDNMGuidance", model=base[0], degradation="inpaint", latent=latent[0], mask=known[0]
        )
        sigmas = g.add("BasicScheduler", model=guided[0], scheduler="ddim_uniform", steps=100)
        g.column()
        guider = g.add(
            "CFGGuider", model=guided[0], positive=texts[0][0], negative=texts[1][0], cfg=7.5
        )
        noise = g.add(
            "LREmbeddedNoise",
            "Start from noise",
            model=guided[0],
            latent=latent[0],
            sigmas=sigmas[0],
            seed=SEED,
            start="noise",
        )
        sampler = g.add("SamplerEulerAncestral", eta=0.85)
        g.column()
        result = sampled(g, noise, guider, sampler[0], sigmas[0], latent[0])
        decoded = g.add("VAEDecode", samples=result, vae=base[2])
        done = g.add("RestorationFinish", image=decoded[0], info=ready[1])
        pasted = g.add(
            "ImageCompositeMasked",
            "Only the damage is replaced",
            destination=photo[0],
            source=done[0],
            resize_source=True,
            mask=hole[0],
        )
    before_and_after(g, 4, photo[0], pasted[0], "inpainted")


WORKFLOWS = {
    "styleid_transfer": transfer,
    "restore_then_style": restore_then_style,
    "ddnm_inpaint": ddnm_inpaint,
}
