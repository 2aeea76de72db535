"""The workflows of PASD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..graph import Graph, Slot
from ..notes import CARDS, DIAL, DIALS, files_note
from ..parts import TITLES, VAE_NODES, before_and_after, encoded, fidelity_dial, sampled

SD15 = "v1-5-pruned-emaonly-fp16.safetensors"
TOONYOU = "toonyou_beta3.safetensors"
SDXL = "sd_xl_base_1.0.safetensors"
SEED = 42
FILE = "diffusion_pytorch_model.safetensors"


@dataclass(frozen=True)
class Release:
    """Weights of one release and the settings of the script that its authors run them with."""

    folder: str
    base: str = SD15
    style: str = "pasd"
    steps: int = 20
    cfg: float = 9.0
    strength: float = 1.0
    min_side: int = 768
    start: str = "pasd"
    """`pasd`: from the photo under noise. `noise`: without it."""

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
STYLE = Release("pasd/checkpoint-100000", base=TOONYOU)
COLOR = Release("pasd_color/checkpoint-180000", style="pasd_colorization")
XL = Release("PASD-SDXL/checkpoint-200000", SDXL, "pasd_sdxl", 25, 7.0, 0.8, 1280, "noise")


@dataclass
class Loaded:
    """What the model group gives to the others."""

    model: Slot
    clip: Slot
    vae: Slot
    pasd: Slot
    prompts: tuple[Slot, Slot]
    fidelity: Slot


def _photo(g: Graph) -> tuple[Slot, Slot]:
    """(photo, fidelity)."""
    with g.group("1  Your photo"):
        return g.add("LoadImage", image="example.png")[0], fidelity_dial(g)


def _models(g: Graph, release: Release, photo: Slot, fidelity: Slot) -> Loaded:
    """Base, PASD's networks, and what the photo shows in the authors' words."""
    with g.group("2  Models and prompt"):
        base = g.add("CheckpointLoaderSimple", ckpt_name=release.base)
        pasd = g.add("PASDLoader", unet_name=release.unet, control_net_name=release.control)
        g.column()
        seen = g.add(
            "HighLevelPrompt", image=photo, classifier="none", detector="none", captioner="none"
        )
        prompt = g.add(
            "RestorationPrompt",
            style=release.style,
            classes=seen[0],
            objects=seen[1],
            caption=seen[2],
        )
    return Loaded(base[0], base[1], base[2], pasd[0], (prompt[0], prompt[1]), fidelity)


def _prepare(g: Graph, release: Release, picture: Slot, factor: float) -> tuple[Slot, Slot]:
    ready = g.add(
        "RestorationPrepare",
        image=picture,
        upscale_by=factor,
        min_side=release.min_side,
        multiple=8,
        fit="stretch",
    )
    return ready[0], ready[1]


def _texts(g: Graph, release: Release, loaded: Loaded) -> list[Slot]:
    """Positive and negative; SDXL is also told a size, by its authors that of the picture."""
    if release is not XL:
        return encoded(g, loaded.clip, loaded.prompts)
    names = ("width", "height", "target_width", "target_height")
    sides: dict[str, Any] = dict.fromkeys(names, release.min_side)
    return [
        g.add("CLIPTextEncodeSDXL", title, clip=loaded.clip, text_g=text, text_l=text, **sides)[0]
        for title, text in zip(TITLES, loaded.prompts, strict=True)
    ]


def _diffuse(
    g: Graph,
    release: Release,
    loaded: Loaded,
    picture: Slot,
    texts: list[Slot],
    tiles: dict[str, Any] | None = None,
) -> Slot:
    """The picture steers the sampling of a new one, which starts from it or from noise. tiles:
    settings of Tiled Restoration; the VAE then works in tiles too."""
    encoder, decoder = VAE_NODES[tiles is not None]
    latent = g.add(encoder, pixels=picture, vae=loaded.vae)
    applied = g.add(
        "PACAControlApply",
        model=loaded.model,
        pasd_model=loaded.pasd,
        image=picture,
        strength=release.strength,
        fidelity=loaded.fidelity,
    )
    model = applied[0]
    if tiles:
        model = g.add("TiledRestoration", model=model, **tiles)[0]
    g.column()
    if release is XL:
        sampler = g.add("KSamplerSelect", sampler_name="euler")
        # Timesteps 961, 921, ... 1: SDXL's own "leading" spacing.
        sigmas = g.add("BasicScheduler", model=model, scheduler="ddim_uniform", steps=release.steps)
    else:
        sampler = g.add("RestorationSampler", sampler_name="pasd_unipc")
        sigmas = g.add("RestorationSigmas", model=model, schedule="pasd_unipc", steps=release.steps)
    noise = g.add(
        "LREmbeddedNoise",
        "Start from the photo" if release.start == "pasd" else "Start from noise",
        model=model,
        latent=latent[0],
        sigmas=sigmas[0],
        seed=SEED,
        start=release.start,
        **(
            {"fidelity": loaded.fidelity}
            if release.start == "pasd" and release is not COLOR
            else {}
        ),
    )
    g.column()
    guider = g.add("CFGGuider", model=model, positive=texts[0], negative=texts[1], cfg=release.cfg)
    result = sampled(g, noise, guider, sampler[0], sigmas[0], latent[0])
    return g.add(decoder, samples=result, vae=loaded.vae)[0]


def _restore(
    g: Graph,
    release: Release,
    factor: float,
    prefix: str,
    tiles: dict[str, Any] | None = None,
) -> None:
    photo, fidelity = _photo(g)
    loaded = _models(g, release, photo, fidelity)
    with g.group("3  Diffusion"):
        ready, info = _prepare(g, release, photo, factor)
        texts = _texts(g, release, loaded)
        g.column()
        decoded = _diffuse(g, release, loaded, ready, texts, tiles)
        done = g.add("RestorationFinish", image=decoded, info=info)
    before_and_after(g, 4, photo, done[0], prefix)


DIAL_PASD = DIAL + (
    " It turns `strength` of *Apply PASD*, and `added_noise_level` of *Start from the photo*.\n"
)
CHOOSE = "Choose your photo in **Load Image**, press **Run**.\n\n"
FOLDERS = (
    "Keep the folders of a release: its two files have the same name. `unet` is read only for the "
    "attention that PASD adds.\n\n"
)
DESCRIBE = (
    "\nPASD likes to be told what the photo shows: write it into `prompt` of *Restoration Prompt*, "
    "or choose models in *High-Level Prompt*.\n"
)


def upscale(g: Graph) -> None:
    g.note = (
        "# PASD: upscale x2\n\nThe photo, enlarged, steers Stable Diffusion 1.5 at every pixel: "
        "PASD cleans and redraws it in one stage. Sampling as in the authors' script: 20 steps of "
        "their UniPC, cfg 9, started from the photo under noise; the factor 2 is their demo's.\n"
        + CHOOSE
        + files_note(*FULL.files)
        + FOLDERS
        + DIALS
        + DIAL_PASD
        + "- `cfg` in *CFGGuider*: 9. Their demo uses 7.5; lower is calmer.\n"
        "- `start` in *Start from the photo*: *pasd*. *noise* forgets the photo there, as their "
        "demo does.\n" + DESCRIBE
    )
    _restore(g, FULL, 2.0, "pasd_upscale")


def upscale_4k_tiled(g: Graph) -> None:
    g.note = (
        "# PASD: to 4K in tiles\n\nA photo of about 1024 pixels becomes 4096, on any card: the model "
        "samples in blended tiles, and the VAE's tiles leave no trace at all. Otherwise as "
        "`pasd_upscale`: 20 steps of the authors' UniPC, cfg 9. They take tiles of 2560 with an "
        "overlap of 64, which need a large card.\n"
        + CHOOSE
        + files_note(*FULL.files)
        + FOLDERS
        + CARDS
        + DIALS
        + DIAL_PASD
        + "- `tile_overlap` in *Tiled Restoration*: 192. 64 needs fewer tiles and shows their borders "
        "sooner.\n"
        "- `cfg` in *CFGGuider*: 9. Lower is calmer.\n" + DESCRIBE
    )
    tiles = {"tile_size": 768, "tile_overlap": 192}
    _restore(g, FULL, 4.0, "pasd_4k", tiles=tiles)


def light_upscale(g: Graph) -> None:
    g.note = (
        "# PASD light: upscale x2\n\nThe small version: one more attention in each decoder block "
        "instead of a transformer after it. Faster, and more inventive than the full one. "
        "Settings as in the authors' script: 20 steps of their UniPC, cfg 9.\n"
        + CHOOSE
        + files_note(*LIGHT.files)
        + FOLDERS
        + DIALS
        + DIAL_PASD
        + "- `cfg` in *CFGGuider*: 9. Lower is calmer.\n"
        "- `upscale_by` in *Prepare Restoration*: 2. 1 keeps the size.\n" + DESCRIBE
    )
    _restore(g, LIGHT, 2.0, "pasd_light_upscale")


def stylization(g: Graph) -> None:
    g.note = (
        "# PASD: stylize\n\nThe same as the upscaler with another base: PASD was trained beside a "
        "frozen Stable Diffusion 1.5, so any personalized checkpoint of it may draw instead. "
        "ToonYou is the authors' example. Blend two checkpoints with *ModelMergeSimple*, add LoRAs "
        "with *Load LoRA*.\n"
        + CHOOSE
        + files_note(*STYLE.files)
        + FOLDERS
        + DIALS
        + DIAL_PASD.rstrip("\n")
        + " **Lower is more style**; try 0.1 to 0.5.\n"
        "- `start` in *Start from the photo*: *noise* frees the colors of the style; then set "
        "`color_correction_method` in *Finish Restoration* to *none*.\n"
        "- `cfg` in *CFGGuider*: 9, with the words of the style in `prompt`.\n" + DESCRIBE
    )
    _restore(g, STYLE, 1.0, "pasd_stylization")


def colorization(g: Graph) -> None:
    g.note = (
        "# PASD: colorize\n\nTakes the brightness of the photo alone, lets PASD's colorization "
        "weights draw it in color, and puts those colors on the photo's own brightness: no detail "
        "of the photo changes.\n"
        + CHOOSE
        + files_note(*COLOR.files)
        + FOLDERS
        + "Compare *ModelSamplingDiscrete* with `scheduler_config.json` in the folder "
        "`scheduler` of the release, which we could not read: `prediction_type` (epsilon there is "
        "eps here) and `rescale_betas_zero_snr` (zsnr). The authors say it has zero terminal "
        "SNR.\n\n"
        + DIALS
        + DIAL
        + " It turns `strength` of *Apply PASD*.\n"
        + "- `prompt` in *Restoration Prompt*: say what is in the photo, with colors. The authors "
        "always caption it; choose a captioner in *High-Level Prompt* for that.\n"
        "- `cfg` in *CFGGuider*: 9. Lower is paler.\n\n"
        "`seed` in *Start from the photo* gives other colors.\n"
    )
    photo, fidelity = _photo(g)
    loaded = _models(g, COLOR, photo, fidelity)
    with g.group("3  Diffusion"):
        original = g.add("ImageRGBToYUV", "Brightness of the photo", image=photo)
        ready, info = _prepare(g, COLOR, original[0], 1.0)
        loaded.model = g.add(
            "ModelSamplingDiscrete", model=loaded.model, sampling="v_prediction", zsnr=True
        )[0]
        texts = _texts(g, COLOR, loaded)
        g.column()
        decoded = _diffuse(g, COLOR, loaded, ready, texts)
        drawn = g.add("RestorationFinish", image=decoded, info=info, color_correction_method="none")
    with g.group("4  Colors onto the photo"):
        colors = g.add("ImageRGBToYUV", "Colors of the result", image=drawn[0])
        done = g.add("ImageYUVToRGB", Y=original[0], U=colors[1], V=colors[2])
    before_and_after(g, 5, photo, done[0], "pasd_colorization")


def sdxl_upscale(g: Graph) -> None:
    g.note = (
        "# PASD-SDXL: upscale x2\n\nThe latest and largest weights, on SDXL. Settings as in the "
        "authors' script: 25 steps of Euler, cfg 7, strength 0.8, from pure noise; worked on at "
        "1280 pixels or more. Needs far more memory than the others: the added attention alone "
        "has a billion parameters. Both prompts also tell SDXL a size: 1280, unless you set "
        "`width`, `height` and both targets there to the size worked at, as the authors do.\n"
        + CHOOSE
        + files_note(*XL.files)
        + FOLDERS
        + DIALS
        + DIAL
        + " It turns `strength` of *Apply PASD*, which is 0.8.\n"
        "- `cfg` in *CFGGuider*: 7. Lower is calmer.\n"
        "- `min_side` in *Prepare Restoration*: 1280. 1024 is faster.\n" + DESCRIBE
    )
    _restore(g, XL, 2.0, "pasd_sdxl_upscale")


WORKFLOWS = {
    "pasd_upscale": upscale,
    "pasd_light_upscale": light_upscale,
    "pasd_stylization": stylization,
    "pasd_colorization": colorization,
    "pasd_sdxl_upscale": sdxl_upscale,
    "pasd_upscale_4k_tiled": upscale_4k_tiled,
}
