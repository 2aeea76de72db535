"""The workflows of SeeSR."""

from __future__ import annotations

from dataclasses import dataclass

from ...common.bases import SD21
from ..graph import Graph, Node, Slot
from ..notes import CARDS, DIAL, DIALS, files_note
from ..parts import VAE_NODES, before_and_after, encoded, fidelity_dial, sampled

TURBO = "sd_turbo.safetensors"
UNET = "seesr/unet/diffusion_pytorch_model.safetensors"
CONTROL = "seesr/controlnet/diffusion_pytorch_model.safetensors"
TAGGER = ("ram_swin_large_14m.pth", "DAPE.pth")
SEED = 231
"""ComfyUI draws other noise from it than the authors' program."""

TEXT_HEIGHT = 160
"""That the frontend needs to show a text."""


@dataclass(frozen=True)
class Version:
    """A base and the settings of the authors' script for it."""

    base: str
    schedule: str
    steps: int
    cfg: float
    tile_overlap: int
    """In pixels."""

    @property
    def files(self) -> tuple[str, ...]:
        return self.base, UNET, CONTROL, *TAGGER


FULL = Version(SD21.name, "seesr_ddpm", 50, 5.5, 32)
FAST = Version(TURBO, "seesr_turbo", 2, 1.0, 256)


def _tagged(g: Graph, photo: Slot) -> Node:
    """What the tagger sees in the photo as it was loaded."""
    loader = g.add("DAPELoader", ram_name=TAGGER[0], dape_name=TAGGER[1])
    return g.add("DAPETagger", dape_model=loader[0], image=photo)


def _upscale(g: Graph, version: Version, prefix: str, in_4k: bool = False) -> None:
    """in_4k: the VAE works in tiles too, and the tagger looks at every tile."""
    encoder, decoder = VAE_NODES[in_4k]
    with g.group("1  Your photo"):
        photo = g.add("LoadImage", image="example.png")
        dial = fidelity_dial(g)
        ready = g.add(
            "RestorationPrepare",
            image=photo[0],
            upscale_by=4.0,
            min_side=512,
            multiple=8,
            fit="stretch",
        )
    with g.group("2  What is in it"):
        tagged = _tagged(g, photo[0])
        prompt = g.add("RestorationPrompt", style="seesr", tags=tagged[0])
    with g.group("3  Models"):
        base = g.add("CheckpointLoaderSimple", ckpt_name=version.base)
        seesr = g.add("SeeSRLoader", unet_name=UNET, control_net_name=CONTROL)
        if version is FAST:
            seesr.inputs["model"] = base[0]
        positive, negative = encoded(g, base[1], (prompt[0], prompt[1]))
    with g.group("4  Diffusion"):
        applied = g.add(
            "SeeSRControlApply",
            model=seesr[1],
            seesr_model=seesr[0],
            image=ready[0],
            tag_embeds=tagged[1],
            fidelity=dial,
            **({"dape_model": tagged.inputs["dape_model"]} if in_4k else {}),
        )
        model = g.add(
            "TiledRestoration",
            model=applied[0],
            tile_size=768,
            tile_overlap=256 if in_4k else version.tile_overlap,
            weighting="authors",
        )
        guider = g.add(
            "CFGGuider",
            model=model[0],
            positive=positive,
            negative=negative,
            cfg=version.cfg,
        )
        sampler = g.add("RestorationSampler", sampler_name="seesr_ddpm")
        g.column()
        sigmas = g.add(
            "RestorationSigmas", model=model[0], schedule=version.schedule, steps=version.steps
        )
        latent = g.add(encoder, pixels=ready[0], vae=base[2])
        noise = g.add(
            "LREmbeddedNoise",
            "Start from the photo under noise",
            model=model[0],
            latent=latent[0],
            sigmas=sigmas[0],
            seed=SEED,
            start="seesr",
        )
        result = sampled(g, noise, guider, sampler[0], sigmas[0], latent[0])
        g.column()
        decoded = g.add(decoder, samples=result, vae=base[2])
        done = g.add(
            "RestorationFinish", image=decoded[0], info=ready[1], color_correction_method="adain"
        )
    before_and_after(g, 5, photo[0], done[0], prefix)


DIAL_SEESR = DIAL + " It turns `strength` of *Apply SeeSR*.\n"
FOLDERS = (
    "The two networks of SeeSR have the same file name: keep them in the folders `seesr/unet` and "
    "`seesr/controlnet` of `models/restoration`. Their authors publish them by a link in their "
    "README; the links here are of a mirror.\n\n"
)
BATCHES = (
    "Several photos at once: put core's *Rebatch Images* with batch size 1 behind *Load Image*, so "
    "that each gets its own tags.\n"
)


def upscale(g: Graph) -> None:
    g.note = (
        "# SeeSR: upscale x4\n\nA tagger that was trained on damaged photos (DAPE) says what is in "
        "yours: in words, for the prompt, and in embeddings that the model attends to at every "
        "step. The run starts from the photo itself under noise. The settings are the authors': 50 "
        "steps, cfg 5.5, AdaIN colors, tiles of 768 where the picture is larger.\nChoose your photo "
        "in **Load Image**, press **Run**.\n\n"
        + files_note(*FULL.files)
        + FOLDERS
        + DIALS
        + DIAL_SEESR
        + "- `cfg` in *CFGGuider*: 5.5. Higher brings more detail and less fidelity, 1 is calmest "
        "(and runs twice as fast).\n"
        "- `min_side` in *Prepare Restoration*: 512. 768 keeps closer to the photo and invents "
        "less.\n\n"
        "`steps` in *Restoration Sigmas*: 20 is quick and a little smoother.\n\n" + BATCHES
    )
    _upscale(g, FULL, "seesr")


def upscale_4k_tiled(g: Graph) -> None:
    g.note = (
        "# SeeSR: to 4K in tiles\n\nA photo of about 1024 pixels becomes 4096, on any card: the model "
        "samples in blended tiles, the tagger looks at each of them by itself, and the VAE's tiles "
        "leave no trace at all. Otherwise as `seesr_upscale`: 50 steps, cfg 5.5, AdaIN colors.\n"
        "Choose your photo in **Load Image**, press **Run**.\n\n"
        + files_note(*FULL.files)
        + FOLDERS
        + CARDS
        + DIALS
        + DIAL_SEESR
        + "- `cfg` in *CFGGuider*: 5.5. Higher brings more detail and less fidelity.\n"
        "- `tile_overlap` in *Tiled Restoration*: 256. The authors take 32, with fewer tiles and "
        "borders that may show.\n\n"
        "`dape_model` of *Apply SeeSR*: without it all tiles share what the tagger saw in the "
        "whole photo, as the authors do it.\n\n" + BATCHES
    )
    _upscale(g, FULL, "seesr_4k", in_4k=True)


def turbo(g: Graph) -> None:
    g.note = (
        "# SeeSR-Turbo: upscale x4 in two steps\n\nSeeSR on SD-Turbo: its attention is set into a "
        "base that needs two steps and no guidance, so a picture takes 2 runs of the model instead "
        "of 100. The settings are the authors'.\nChoose your photo in **Load Image**, press "
        "**Run**.\n\n"
        + files_note(*FAST.files)
        + FOLDERS
        + DIALS
        + DIAL_SEESR
        + "- `steps` in *Restoration Sigmas*: 2. Up to 8 brings more detail.\n"
        "- `prompt` in *Restoration Prompt*: your own words beside the tags.\n\n"
        "Leave `cfg` in *CFGGuider* at 1: SD-Turbo was trained without guidance. SD-Turbo has a "
        "license of its own.\n\n" + BATCHES
    )
    _upscale(g, FAST, "seesr_turbo")


def tag_and_prompt(g: Graph) -> None:
    g.note = (
        "# Tag a degraded photo\n\nSeeSR's tagger alone: what it sees in a blurred, noisy or "
        "compressed photo, and the prompts that SeeSR makes of it. Connect the texts to any other "
        "restoration, or edit them.\nChoose your photo in **Load Image**, press **Run**.\n\n"
        + files_note(*TAGGER)
        + DIALS
        + "- `threshold_offset` in *Tag Image (DAPE)*: 0. -0.1 gives more tags, more of them "
        "wrong; 0.1 fewer.\n"
        "- `exclude`: tags that you do not want, separated by commas.\n"
        "- `style` in *Restoration Prompt*: whose words are put around the tags.\n\n"
        "With `lora_strength` 0 in *Load DAPE* the tagger is plain RAM: compare what it makes of "
        "the same photo.\n"
    )
    with g.group("1  Your photo"):
        photo = g.add("LoadImage", image="example.png")
    with g.group("2  What is in it"):
        tagged = _tagged(g, photo[0])
    with g.group("3  Prompts"):
        prompt = g.add("RestorationPrompt", style="seesr", tags=tagged[0])
    with g.group("4  Read them"):
        for title, text in (
            ("Tags", tagged[0]),
            ("Positive prompt", prompt[0]),
            ("Negative prompt", prompt[1]),
        ):
            shown = g.add("PreviewAny", title, source=text)
            shown.size = (shown.size[0], TEXT_HEIGHT)
            g.y = shown.pos[1] + TEXT_HEIGHT + 70


WORKFLOWS = {
    "seesr_upscale": upscale,
    "seesr_turbo_upscale": turbo,
    "seesr_upscale_4k_tiled": upscale_4k_tiled,
    "tag_and_prompt": tag_and_prompt,
}
