"""The workflows of the zero-shot family: something is known of the photo, and a model draws the rest."""

from __future__ import annotations

from typing import Any

from ...common.bases import SD15, SD21
from ..graph import Graph, Slot
from ..notes import CHOOSE, DIALS, files_note
from ..parts import before_and_after, photo_group
from .seesr import CONTROL, TAGGER, UNET

BASE = SD15.name
SIDE = 512
SEED = 1234


def ddnm_inpaint(g: Graph) -> None:
    g.note = (
        "# DDNM: fill a hole, keep the rest\n\nFor scratches, spots and things in the way, with any "
        "Stable Diffusion checkpoint (an inpainting one is not needed). Every step's prediction is "
        "replaced by the photo wherever the photo is known. The settings follow the paper: 100 "
        "steps with noise (eta 0.85).\nChoose the photo in **Load Image**, right click on it, "
        "**Open in MaskEditor**, paint over the damage, describe the whole picture in **What the "
        "picture shows**, press **Run**.\n\n"
        + files_note(g.name, BASE)
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
    _fill(g, repaint=False)


def repaint_inpaint(g: Graph) -> None:
    g.note = (
        "# RePaint: fill a hole, in harmony with the rest\n\nFor scratches, spots and things in the way, "
        "with any Stable Diffusion checkpoint. At every step what is known is put under fresh noise "
        "around the hole, and the run goes back again and again, until both have grown together. It "
        "takes three times as long as without, and joins larger holes better.\nChoose "
        "the photo in **Load Image**, right click on it, **Open in MaskEditor**, paint over the damage, "
        "describe the whole picture in **What the picture shows**, press **Run**.\n\n"
        + files_note(g.name, BASE)
        + DIALS
        + "- `jump_repeats` in *Zero-Shot Sampler*: 3. More joins better, in as much more time.\n"
        "- `jump_length` in *Zero-Shot Sampler*: 10 of the 100 steps.\n"
        "- `expand` in *Grow the damage*: 16 pixels around the damage are redrawn. More, if the damage "
        "shines through.\n"
    )
    _fill(g, repaint=True)


def _fill(g: Graph, repaint: bool) -> None:
    """repaint: what is known stands in the latent's noise mask, else in the guidance of the model."""
    with g.group("1  Photo and damage"):
        photo = g.add("LoadImage", image="example.png")
        hole = g.add("GrowMask", "Grow the damage", mask=photo[1], expand=16, tapered_corners=True)
        known = g.add("InvertMask", "Where the photo is known", mask=hole[0])
    with g.group("2  Model and prompt"):
        base = g.add("CheckpointLoaderSimple", ckpt_name=BASE)
        good, bad = _texts(g, base[1], "a photo, high quality", "blurry, low quality")
    with g.group("3  Fill"):
        scaled = g.add(
            "ImageScale",
            "Size to work at",
            image=photo[0],
            upscale_method="lanczos",
            width=0,
            height=SIDE,
            crop="disabled",
        )
        ready = g.add(
            "RestorationPrepare", image=scaled[0], min_side=SIDE, multiple=64, mask=known[0]
        )
        encoded = g.add("VAEEncode", pixels=ready[0], vae=base[2])
        model, latent = base[0], encoded[0]
        if repaint:
            paint = g.folded("InvertMask", "Where to paint", mask=ready[2])
            latent = g.folded("SetLatentNoiseMask", samples=latent, mask=paint[0])[0]
        else:
            model = _guided(g, model, degradation="inpaint", latent=latent, mask=ready[2])
        sigmas = g.folded("BasicScheduler", model=model, scheduler="ddim_uniform", steps=100)
        guider = g.add("CFGGuider", model=model, positive=good, negative=bad, cfg=7.5)
        noise = g.add(
            "LREmbeddedNoise",
            "Start from noise",
            model=model,
            latent=encoded[0],
            sigmas=sigmas[0],
            seed=SEED,
            start="noise",
        )
        sampler = (
            g.add("ZeroShotSampler", method="repaint", jump_length=10, jump_repeats=3)
            if repaint
            else g.folded("SamplerEulerAncestral", eta=0.85)
        )
        result = g.add(
            "SamplerCustomAdvanced",
            noise=noise[0],
            guider=guider[0],
            sampler=sampler[0],
            sigmas=sigmas[0],
            latent_image=latent,
        )
        decoded = g.add("VAEDecode", samples=result[0], vae=base[2])
        done = g.add("RestorationFinish", image=decoded[0], info=ready[1])
        pasted = g.folded(
            "ImageCompositeMasked",
            "Only the damage is replaced",
            destination=photo[0],
            source=done[0],
            resize_source=True,
            mask=hole[0],
        )
    before_and_after(g, 4, photo[0], pasted[0], "repainted" if repaint else "inpainted")


def _guided(g: Graph, model: Slot, **known: Any) -> Slot:
    """The MODEL that agrees with what is known."""
    return g.add("DDNMGuidance", "DDNM Guidance", model=model, **known)[0]


def luma_color(g: Graph) -> None:
    g.note = (
        "# Color for a black and white photo, its brightness kept\n\nAny Stable Diffusion checkpoint "
        "draws; what the photo says, its brightness, is put back at every second step, so every gray "
        "value stays the photo's. No weights beside the checkpoint. **Colorize a photo with PASD** has "
        "weights for it and colors more surely.\n"
        + CHOOSE
        + files_note(g.name, BASE)
        + DIALS
        + "- `text` in *What the picture shows*: the subject and its colors.\n"
        "- `strength` (*trust*) in *DDNM Guidance*: 1. Lower lets the model change the brightness.\n"
        "- `seed` in *Noise*: another number, other colors.\n"
    )
    photo = photo_group(g)
    with g.group("2  Model and prompt"):
        base = g.add("CheckpointLoaderSimple", ckpt_name=BASE)
        good, bad = _texts(g, base[1], "a color photo, natural colors", "black and white, gray")
    with g.group("3  Color"):
        ready = g.folded("RestorationPrepare", image=photo[0], transparency=photo[1])
        luma = g.add("KnownDegradation", kind="luma")
        guided = _guided(
            g,
            base[0],
            image=ready[0],
            vae=base[2],
            known_degradation=luma[0],
            every=2,
        )
        latent = g.add("VAEEncode", pixels=ready[0], vae=base[2])
        sigmas = g.folded("BasicScheduler", model=guided, scheduler="ddim_uniform", steps=50)
        guider = g.add("CFGGuider", model=guided, positive=good, negative=bad, cfg=7.0)
        noise = g.add(
            "LREmbeddedNoise",
            "Noise",
            model=guided,
            latent=latent[0],
            sigmas=sigmas[0],
            seed=SEED,
            start="noise",
        )
        sampler = g.folded("ZeroShotSampler", method="ddnm")
        result = g.add(
            "SamplerCustomAdvanced",
            noise=noise[0],
            guider=guider[0],
            sampler=sampler[0],
            sigmas=sigmas[0],
            latent_image=latent[0],
        )
        decoded = g.add("VAEDecode", samples=result[0], vae=base[2])
        done = g.add(
            "RestorationFinish", image=decoded[0], info=ready[1], color_correction_method="none"
        )
    before_and_after(g, 4, photo[0], done[0], "colored")
    g.shown.clear()  # what matters most, the text, an App would not explain


def _texts(g: Graph, clip: Slot, good: str, bad: str) -> list[Slot]:
    titles = ("What the picture shows", good), ("What it does not", bad)
    return [g.add("CLIPTextEncode", title, clip=clip, text=text)[0] for title, text in titles]


def jpeg_repair(g: Graph) -> None:
    g.note = (
        "# Repair an old JPEG, within what its file says\n\nAny Stable Diffusion checkpoint draws the "
        "second half of a run over the photo; at every second step the picture is brought back to one "
        "that, saved at that quality, gives your file.\n"
        + CHOOSE
        + files_note(g.name, BASE)
        + DIALS
        + "- `quality` in *Known Degradation*: what the file was saved with, 20 if it shows its blocks. One "
        "that is too low blurs.\n"
        "- `denoise` in *KSampler*: 0.4. More draws more.\n"
        "- `text` in *What the picture shows*: in your words.\n"
    )
    photo = photo_group(g)
    with g.group("2  Model and prompt"):
        base = g.add("CheckpointLoaderSimple", ckpt_name=BASE)
        good, bad = _texts(g, base[1], "a sharp photo, high quality", "jpeg artifacts, blurry")
    with g.group("3  Repair"):
        ready = g.add("RestorationPrepare", image=photo[0], transparency=photo[1])
        jpeg = g.add("KnownDegradation", kind="jpeg", quality=30)
        guided = _guided(
            g,
            base[0],
            image=ready[0],
            vae=base[2],
            known_degradation=jpeg[0],
            every=2,
        )
        latent = g.add("VAEEncode", pixels=ready[0], vae=base[2])
        result = g.add(
            "KSampler",
            model=guided,
            seed=SEED,
            steps=30,
            cfg=5.0,
            sampler_name="dpmpp_2m",
            scheduler="karras",
            positive=good,
            negative=bad,
            latent_image=latent[0],
            denoise=0.4,
        )
        decoded = g.add("VAEDecode", samples=result[0], vae=base[2])
        done = g.add("RestorationFinish", image=decoded[0], info=ready[1])
    before_and_after(g, 4, photo[0], done[0], "jpeg")
    g.shown.clear()


def bicubic_seesr(g: Graph) -> None:
    g.note = (
        "# Enlarge x4 without changing the small photo\n\nSeeSR draws the detail, and at every tenth step "
        "and at the end the picture is brought back to one that, made small again, is your photo: what "
        "it says is never contradicted. Its sides must be even and at least 128.\n"
        + CHOOSE
        + files_note(g.name, SD21.name, UNET, CONTROL, *TAGGER)
        + DIALS
        + "- `strength` (*trust*) in *DDNM Guidance*: 1. Lower lets SeeSR change the small photo.\n"
        "- `fidelity` in *Restore with SeeSR*: 0.5, the authors' setting. It turns the strength of SeeSR.\n"
        "- `prompt` in *Restore with SeeSR*: your own words beside the tags.\n"
    )
    photo = photo_group(g)
    with g.group("2  Models"):
        base = g.add("CheckpointLoaderSimple", ckpt_name=SD21.name)
        seesr = g.add("SeeSRLoader", unet_name=UNET, control_net_name=CONTROL)
        tagger = g.add("DAPELoader", ram_name=TAGGER[0], dape_name=TAGGER[1])
    with g.group("3  Restore"):
        small = g.add("KnownDegradation", kind="bicubic", scale=4)
        guided = _guided(
            g,
            seesr[1],
            image=photo[0],
            vae=base[2],
            known_degradation=small[0],
            every=10,
        )
        done = g.add(
            "RestoreWithSeeSR",
            image=photo[0],
            model=guided,
            clip=base[1],
            vae=base[2],
            seesr_model=seesr[0],
            dape_model=tagger[0],
            transparency=photo[1],
            color_correction_method="none",
            tile_size=0,
        )
    g.shown += [(done, name) for name in ("fidelity", "upscale_by", "prompt")]
    g.shown += [(n, name) for n in g.nodes for name, v in n.inputs.items() if v in n.models]
    before_and_after(g, 4, photo[0], done[0], "enlarged")


WORKFLOWS = {
    "ddnm_inpaint": ("4 Fill a hole in a photo", ddnm_inpaint),
    "repaint_inpaint": ("4 Fill a large hole in a photo (RePaint)", repaint_inpaint),
    "luma_color": ("4 Color a photo, its brightness kept", luma_color),
    "bicubic_seesr": ("4 Enlarge without changing the small photo", bicubic_seesr),
    "jpeg_repair": ("4 Repair an old JPEG", jpeg_repair),
}
