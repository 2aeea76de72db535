"""How the picture of every help page is made.

    .venv/bin/python drawing pictures                 # all of them
    .venv/bin/python drawing pictures LRConsistency   # some

Nothing in them is staged: what a node does to a picture comes out of ComfyUI (`runs`, `faces`,
`texts`), though the pictures that go in may be made for it (a color cast, a stain); the rest is drawn
from the functions that the node itself calls (`computed`, `curves`), or shows the node in its
workflow (`in_graph`). Run it again when a node, a shipped workflow or the bundled model has changed,
and look at what it made. The photographs are the demo's (scripts/photo/README.md).
"""

# ruff: noqa: T201
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from PIL import Image

from ...tools.comfyui.find import PACK_ROOT
from . import computed, curves, runs
from .faces import faces
from .in_graph import in_graph
from .studio import Studio, open_studio
from .texts import prompts
from .wipe import wiped

DOCS = PACK_ROOT / "web" / "docs"
LARGEST = 45_000
"""Bytes of a picture."""

DRAWN: dict[str, Callable[[], Image.Image]] = {
    "DDNMGuidance": computed.null_space,
    "DiffBIRModelSampling": curves.noise_tables,
    "LREmbeddedNoise": curves.start_points,
    "LatentImageGuidance": computed.flat_areas,
    "RestorationCFG": curves.guidance,
    "RestorationFidelity": curves.dial,
    "RestorationSamplePhoto": computed.sample,
    "RestorationSigmas": curves.sigmas,
    "TiledRestoration": computed.tiles,
}
"""Here, without ComfyUI."""

IN_GRAPH = {
    "DiffBIRControlLoader": "diffbir_v2_all_nodes",
    "LAControlApply": "diffbir_v2_all_nodes",
    "PASDLoader": "pasd_all_nodes",
    "PACAControlApply": "pasd_all_nodes",
    "PASDPyramidPreview": "pasd_all_nodes",
    "HighLevelPrompt": "pasd_all_nodes",
    "RestorationSampler": "pasd_all_nodes",
    "SeeSRLoader": "seesr_turbo_upscale",
    "SeeSRControlApply": "seesr_all_nodes",
    "DAPELoader": "seesr_all_nodes",
    "DAPETagger": "seesr_all_nodes",
    "StyleIDInvert": "styleid_transfer",
    "StyleIDApply": "styleid_transfer",
    "TiledVAEEncodeExact": "seesr_all_nodes",
    "TiledVAEDecodeExact": "seesr_all_nodes",
    "OneStepLoader": "pisasr_all_nodes",
    "PiSASRApply": "pisasr_all_nodes",
    "OSEDiffApply": "osediff_all_nodes",
    "OneStepSigmas": "pisasr_all_nodes",
    "RestoreWithPiSASR": "pisasr_upscale",
    "RestoreWithOSEDiff": "osediff_upscale",
    "KnownDegradation": "luma_color",
    "ZeroShotSampler": "repaint_inpaint",
    "TimeTravelSampler": "repaint_inpaint",
    "RestorationFineTune": "finetune_pasd",
    "RestorationNetworkSave": "finetune_pasd",
    "RestoreWithDiffBIR": "diffbir_v2_upscale",
    "RestoreFacesWithDiffBIR": "diffbir_face",
    "RestoreWithPASD": "pasd_upscale",
    "RestoreWithSeeSR": "seesr_upscale",
}
"""The workflow that shows a node."""

IN_COMFYUI: dict[str, Callable[[Studio], Image.Image]] = {
    "AdaINColorFix": partial(runs.color_fixed, kind="AdaINColorFix"),
    "DegradationRemover": runs.cleaned,
    "LRConsistency": runs.consistency,
    "LatentAdaIN": runs.latent_adain,
    "RealWorldDegradation": runs.damaged,
    "RestorationCompare": wiped,
    "RestorationEnlarge": runs.enlarged,
    "RestorationFaceCrop": partial(faces, kind="RestorationFaceCrop"),
    "RestorationFacePaste": partial(faces, kind="RestorationFacePaste"),
    "RestorationFinish": runs.finished,
    "RestorationMetrics": runs.measured,
    "RestorationPrepare": runs.prepared,
    "RestorationPrompt": prompts,
    "WaveletColorFix": partial(runs.color_fixed, kind="WaveletColorFix"),
    **{
        kind: partial(in_graph, kind=kind, workflow=workflow) for kind, workflow in IN_GRAPH.items()
    },
}
"""Out of a run, or among its neighbors of a workflow."""


def save(picture: Image.Image, path: Path) -> None:
    """As the best JPEG that is small enough."""
    for quality in range(90, 40, -5):
        picture.save(path, quality=quality, optimize=True)
        if path.stat().st_size <= LARGEST:
            break
    print(
        f"{path.stem}: {picture.width}x{picture.height}, {path.stat().st_size // 1000} KB",
        flush=True,
    )


def place(kind: str) -> Path:
    return DOCS / "pictures" / f"{kind}.jpg"


def main(arguments: Sequence[str]) -> None:
    """Makes the pictures named on the command line, else those of every help page."""
    names = arguments or sorted(page.stem for page in DOCS.glob("*.md"))
    if unknown := [name for name in names if name not in DRAWN.keys() | IN_COMFYUI.keys()]:
        raise SystemExit(f"Nothing says how to make the picture of {', '.join(unknown)}.")
    for name in names:
        if name in DRAWN:
            save(DRAWN[name](), place(name))
    if shown := [name for name in names if name in IN_COMFYUI]:
        with open_studio() as studio:
            for name in shown:
                save(IN_COMFYUI[name](studio), place(name))
