"""Parts that several workflows have."""

from __future__ import annotations

from collections.abc import Sequence

from .graph import Graph, Node, Slot

VAE_NODES = {
    False: ("VAEEncode", "VAEDecode"),
    True: ("TiledVAEEncodeExact", "TiledVAEDecodeExact"),
}
"""The VAE nodes of a workflow that works in tiles, or not."""

TITLES = ("Positive prompt", "Negative prompt")


def before_and_after(g: Graph, number: int, before: Slot, after: Slot, prefix: str) -> None:
    with g.group(f"{number}  Before and after"):
        g.add("PreviewImage", "Before", images=before)
        g.column()
        g.add("SaveImage", "After (saved)", images=after, filename_prefix=f"restored/{prefix}")


def fidelity_dial(g: Graph) -> Slot:
    """One dial for every `fidelity` of a workflow."""
    return g.add("RestorationFidelity")[0]


def encoded(g: Graph, clip: Slot, texts: Sequence[Slot]) -> list[Slot]:
    """Positive and negative text as conditioning."""
    return [
        g.add("CLIPTextEncode", title, clip=clip, text=text)[0]
        for title, text in zip(TITLES, texts, strict=True)
    ]


def sampled(g: Graph, noise: Node, guider: Node, sampler: Slot, sigmas: Slot, latent: Slot) -> Slot:
    """The latent that the authors' steps make."""
    return g.add(
        "SamplerCustomAdvanced",
        noise=noise[0],
        guider=guider[0],
        sampler=sampler,
        sigmas=sigmas,
        latent_image=latent,
    )[0]
