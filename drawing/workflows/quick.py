"""The workflow that needs no download."""

from __future__ import annotations

from ..graph import Graph
from ..notes import DIALS
from ..parts import before_and_after, photo_group


def quick_restore(g: Graph) -> None:
    g.note = (
        "# Quick restore\n\nCleans a photo that is noisy, slightly blurred or heavily compressed. "
        "Nothing to download: the light model comes with the pack.\nPress **Run** to see it with the "
        "sample photo, then choose yours in **Load Photo**; the result is saved under "
        "`output/restored`.\n\n"
        + DIALS
        + "- `fidelity` in *Finish Restoration*: 0.5 is the cleaned photo. Above that the photo as it "
        "was is blended in again, with its grain; 1 is the photo alone.\n"
        "- `upscale_by` in *Enlarge Cleaned Photo*: 1 keeps the size, 2 doubles it, by light networks "
        "that come with the pack, too.\n"
        "- `color_correction_method` in *Finish Restoration*: *wavelet* brings back the photo's "
        "own colors and lighting, *none* keeps the model's.\n\n"
        "For a stronger model connect **Load Upscale Model** to `upscale_model`; SwinIR and SCUNet "
        "work well.\n"
    )
    photo = photo_group(g, sample=True)
    with g.group("2  Restore"):
        ready = g.add("RestorationPrepare", image=photo[0], transparency=photo[1])
        clean = g.add("DegradationRemover", image=ready[0])
        done = g.add("RestorationFinish", image=clean[0], info=ready[1])
        large = g.add("RestorationEnlarge", image=done[0], upscale_by=1.0)
    g.shown += [(done, "fidelity"), (large, "upscale_by")]
    before_and_after(g, 3, photo[0], large[0], "photo")


WORKFLOWS = {"quick_restore": ("1 Quick restore, nothing to download", quick_restore)}
