"""The workflows of DiffBIR."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...common.bases import SD21
from ..graph import Graph, Node, Slot
from ..notes import CARDS, DIAL, DIALS, files_note
from ..parts import VAE_NODES, before_and_after, encoded, fidelity_dial, sampled

BASE_V2 = SD21.name
BASE_V21 = "sd2.1-base-zsnr-laionaes5.ckpt"
DETECTOR = "face_detection_yunet_2023mar.onnx"
SEED = 231
"""The authors' seed; ComfyUI draws other noise from it than their program."""


@dataclass(frozen=True)
class Version:
    """Weights of one release and the settings its authors give for them."""

    base: str
    control: str
    style: str
    schedule: str
    steps: int
    cfg: float


V2 = Version(BASE_V2, "v2.pth", "diffbir_v2", "diffbir_spaced", 50, 4.0)
V21 = Version(BASE_V21, "DiffBIR_v2.1.pt", "diffbir_v2.1", "diffbir_edm", 10, 6.0)


@dataclass
class Loaded:
    """What the model group gives to the others."""

    model: Slot
    vae: Slot
    control: Slot
    positive: Slot
    negative: Slot
    sampler: Slot
    sigmas: Slot


def load_models(g: Graph, version: Version) -> Loaded:
    """Base, control, prompt and the authors' steps: shared by all pictures of a workflow."""
    with g.group("2  Models and prompt"):
        base = g.add("CheckpointLoaderSimple", ckpt_name=version.base)
        control = g.add("DiffBIRControlLoader", control_net_name=version.control)
        model = base[0]
        if version is V21:
            model = g.add("DiffBIRModelSampling", model=model, version="v2.1")[0]
        sigmas = g.add(
            "RestorationSigmas", model=model, schedule=version.schedule, steps=version.steps
        )
        if version is V21:
            sampler = g.add("KSamplerSelect", sampler_name="dpmpp_3m_sde")
        else:
            sampler = g.add("RestorationSampler", sampler_name="diffbir_spaced")
        g.column()
        prompt = g.add("RestorationPrompt", style=version.style)
        positive, negative = encoded(g, base[1], (prompt[0], prompt[1]))
    return Loaded(model, base[2], control[0], positive, negative, sampler[0], sigmas[0])


DIAL_DIFFBIR = DIAL + (
    " It turns the control's strength, and above 0.5 blends stage 1's picture in; 1 is that "
    "alone.\n"
)


def diffuse(
    g: Graph,
    loaded: Loaded,
    picture: Slot,
    cfg: float,
    fidelity: Slot,
    tiles: dict[str, Any] | None = None,
) -> Slot:
    """Stage 2: the cleaned picture steers the sampling of a new one. tiles: settings of Tiled
    Restoration; the VAE then works in tiles too."""
    encoder, decoder = VAE_NODES[tiles is not None]
    model = loaded.model
    if tiles:
        model = g.add("TiledRestoration", model=model, **tiles)[0]
    latent = g.add(encoder, pixels=picture, vae=loaded.vae)
    applied = g.add(
        "LAControlApply",
        positive=loaded.positive,
        negative=loaded.negative,
        control_net=loaded.control,
        latent=latent[0],
        fidelity=fidelity,
    )
    g.column()
    guider = g.add("CFGGuider", model=model, positive=applied[0], negative=applied[1], cfg=cfg)
    noise = g.add(
        "LREmbeddedNoise",
        "Start from noise",
        model=loaded.model,
        latent=latent[0],
        sigmas=loaded.sigmas,
        seed=SEED,
        start="noise",
    )
    result = sampled(g, noise, guider, loaded.sampler, loaded.sigmas, latent[0])
    return g.add(decoder, samples=result, vae=loaded.vae)[0]


def clean_first(g: Graph, photo: Slot, stage1: str, factor: float) -> Node:
    """The order of BSRNet and SCUNet: clean the photo as it is, then bring it to working size, which
    is Prepare Restoration, the node returned. factor: of the photo, whatever stage 1 enlarges."""
    network = g.add("UpscaleModelLoader", model_name=stage1)
    clean = g.add("DegradationRemover", image=photo, upscale_model=network[0])
    return g.add(
        "RestorationPrepare",
        image=clean[0],
        upscale_by=factor,
        min_side=512,
        multiple=64,
        fit="black",
        original=photo,
    )


def _restore(
    g: Graph,
    version: Version,
    stage1: str,
    factor: float,
    prefix: str,
    tiles: dict[str, Any] | None = None,
) -> None:
    with g.group("1  Your photo"):
        photo = g.add("LoadImage", image="example.png")
        dial = fidelity_dial(g)
    loaded = load_models(g, version)
    with g.group("3  Stage 1: remove degradation"):
        ready = clean_first(g, photo[0], stage1, factor)
    with g.group("4  Stage 2: diffusion"):
        decoded = diffuse(g, loaded, ready[0], version.cfg, dial, tiles)
        done = g.add("RestorationFinish", image=decoded, info=ready[1], fidelity=dial)
    before_and_after(g, 5, photo[0], done[0], prefix)


def upscale_v2(g: Graph) -> None:
    g.note = (
        "# DiffBIR v2: upscale x4\n\nStage 1 (BSRNet) removes noise, blur and compression without "
        "inventing anything and enlarges four times. Stage 2 (Stable Diffusion 2.1 with DiffBIR's "
        "control) draws the missing detail. The settings are the authors' for their paper: 50 "
        "steps, cfg 4, no positive prompt.\nChoose your photo in **Load Image**, press **Run**.\n\n"
        + files_note(BASE_V2, "v2.pth", "BSRNet.pth")
        + DIALS
        + DIAL_DIFFBIR
        + "- `cfg` in *CFGGuider*: 4. Higher gives more and harder detail, 1 the calmest result "
        "(and runs twice as fast).\n"
        "- `upscale_by` in *Prepare Restoration*: 4, counted from your photo.\n\n"
        "`start` in *Start from noise*: *diffbir* starts from the cleaned photo under noise, with "
        "more stable colors and a little less detail. More faithful and smoother: put **Latent Image Guidance** between *Load Checkpoint* and "
        "*CFGGuider*.\n"
    )
    _restore(g, V2, "BSRNet.pth", 4.0, "diffbir_v2")


def upscale_4k_tiled(g: Graph) -> None:
    g.note = (
        "# DiffBIR v2: to 4K in tiles\n\nA photo of about 1024 pixels becomes 4096, on any card: "
        "every stage works in tiles. Sampling blends the authors' tiles of 512 with an overlap of "
        "256; the VAE's tiles leave no trace at all. 50 steps, cfg 4.\nChoose your photo in **Load "
        "Image**, press **Run**.\n\n"
        + files_note(BASE_V2, "v2.pth", "BSRNet.pth")
        + CARDS
        + DIALS
        + DIAL_DIFFBIR
        + "- `tile_overlap` in *Tiled Restoration*: 256. 128 needs little more than half as many "
        "tiles, 256 hides their borders best.\n"
        "- `cfg` in *CFGGuider*: 4. Lower is calmer, 1 is twice as fast.\n"
    )
    tiles = {"tile_size": 512, "tile_overlap": 256}
    _restore(g, V2, "BSRNet.pth", 4.0, "diffbir_4k", tiles)


def denoise(g: Graph) -> None:
    g.note = (
        "# DiffBIR v2: denoise\n\nStage 1 (SCUNet) removes strong noise and keeps the size. Stage "
        "2 puts texture back where SCUNet left it smooth. The settings are the authors': 50 steps, "
        "cfg 4. Photos whose shorter side is below 512 are worked on at 512 and brought back.\n"
        "Choose your photo in **Load Image**, press **Run**.\n\n"
        + files_note(BASE_V2, "v2.pth", "scunet_color_real_psnr.pth")
        + DIALS
        + DIAL_DIFFBIR
        + "- `strength` in *Remove Degradation*: 1 removes all noise; 0.8 leaves some grain, part "
        "of which stage 2 takes for texture.\n"
        "- `cfg` in *CFGGuider*: 4. Lower is calmer, 1 is fastest.\n\n"
        "`steps` in *Restoration Sigmas*: 20 is quick and a little smoother.\n"
    )
    _restore(g, V2, "scunet_color_real_psnr.pth", 1.0, "diffbir_denoise")


def upscale_v21(g: Graph) -> None:
    g.note = (
        "# DiffBIR v2.1: upscale x4\n\nThe latest weights, on a base of their own that predicts v "
        "and starts from pure noise: *DiffBIR Model Sampling* sets that. The authors' settings: 10 "
        "steps of dpmpp_3m_sde, cfg 6 (their demo uses 8), a long prompt about photo quality. "
        "They put a caption of the photo in front of it: connect any captioner to `caption`.\n"
        "Choose your photo in **Load Image**, press **Run**.\n\n"
        + files_note(BASE_V21, "DiffBIR_v2.1.pt", "realesrgan_s4_swinir_100k.pth")
        + DIALS
        + DIAL_DIFFBIR
        + "- `cfg` in *CFGGuider*: 6. Lower is calmer and more faithful, 8 is the demo's.\n"
        "- `noise_aug` in *Apply LA Control*: 0. For badly damaged photos up to 200: more is "
        "invented.\n"
    )
    with g.group("1  Your photo"):
        photo = g.add("LoadImage", image="example.png")
        dial = fidelity_dial(g)
    loaded = load_models(g, V21)
    with g.group("3  Stage 1: remove degradation"):
        ready = g.add(
            "RestorationPrepare",
            image=photo[0],
            upscale_by=4.0,
            min_side=512,
            multiple=64,
            fit="black",
        )
        network = g.add("UpscaleModelLoader", model_name="realesrgan_s4_swinir_100k.pth")
        clean = g.add("DegradationRemover", image=ready[0], upscale_model=network[0])
    with g.group("4  Stage 2: diffusion"):
        decoded = diffuse(g, loaded, clean[0], V21.cfg, dial)
        done = g.add(
            "RestorationFinish", image=decoded, info=ready[1], reference=clean[0], fidelity=dial
        )
    before_and_after(g, 5, photo[0], done[0], "diffbir_v2.1")


def face(g: Graph) -> None:
    g.note = (
        "# DiffBIR v2: faces in a photo, x2\n\nEvery face is cut out upright at 512x512, restored "
        "with DiffBIR's face stage 1, and pasted back with a soft edge onto the restored photo. "
        "The settings are the authors': 50 steps, cfg 4, x2.\nChoose your photo in **Load Image**, "
        "press **Run**. A photo without a face comes out restored all the same, and the group for "
        "faces is skipped.\n\n"
        + files_note(
            BASE_V2,
            "v2.pth",
            "BSRNet.pth",
            "face_swinir_v1.ckpt",
            DETECTOR,
        )
        + "The last file and the package `opencv-python-headless` are for finding faces. Without "
        "them: right click on the photo, **Open in MaskEditor**, paint over each face.\n\n"
        + DIALS
        + DIAL
        + " It turns the control's strength, in the background and in the faces.\n"
        "- `confidence` in *Crop Faces*: lower finds more faces in bad photos.\n"
        "- `cfg` in the two *CFGGuider*: 4. Lower keeps faces calmer and closer to the photo.\n\n"
        "For a picture that is one aligned face already, set `detector` to *aligned*.\n"
    )
    with g.group("1  Your photo"):
        photo = g.add("LoadImage", image="example.png")
        dial = fidelity_dial(g)
    loaded = load_models(g, V2)
    with g.group("3  Background"):
        ready = clean_first(g, photo[0], "BSRNet.pth", 2.0)
        g.column()
        decoded = diffuse(g, loaded, ready[0], V2.cfg, dial)
        background = g.add("RestorationFinish", image=decoded, info=ready[1])
    with g.group("4  Faces"):
        enlarged = g.add(
            "RestorationPrepare",
            "Enlarge for the faces",
            image=photo[0],
            upscale_by=2.0,
            min_side=512,
            multiple=1,
        )
        crops = g.add("RestorationFaceCrop", image=enlarged[0], mask=photo[1])
        crops.models += (DETECTOR,)
        network = g.add("UpscaleModelLoader", model_name="face_swinir_v1.ckpt")
        clean = g.add("DegradationRemover", image=crops[0], upscale_model=network[0])
        g.column()
        decoded = diffuse(g, loaded, clean[0], V2.cfg, dial)
        faces = g.add("WaveletColorFix", image=decoded, reference=clean[0])
        g.column()
        done = g.add("RestorationFacePaste", image=background[0], faces=faces[0], info=crops[1])
    before_and_after(g, 5, photo[0], done[0], "diffbir_face")


WORKFLOWS = {
    "diffbir_v2_upscale": upscale_v2,
    "diffbir_v2.1_upscale": upscale_v21,
    "diffbir_denoise": denoise,
    "diffbir_face": face,
    "diffbir_upscale_4k_tiled": upscale_4k_tiled,
}
