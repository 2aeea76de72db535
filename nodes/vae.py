"""The VAE in tiles without a trace of them."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..common.images import from_image
from ..common.latents import from_latent
from ..host.exact_vae import decode_exact, encode_exact
from ..host.schema import CheckedNode, schema


def tile_size_input(done: str) -> io.Int.Input:
    return io.Int.Input(
        "tile_size",
        default=512,
        min=64,
        max=4096,
        step=32,
        tooltip=f"Pixels a side that are {done} at a time. Changes memory and speed only, never "
        "the result: smaller takes less memory and a little longer. Halved by itself when memory "
        "runs out. There is no overlap to choose, because there are no seams.",
    )


class TiledVAEEncodeExact(CheckedNode):
    """VAE Encode with bounded device memory and the same latent."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="TiledVAEEncodeExact",
            display_name="VAE Encode (Tiled, Exact)",
            category="restoration/tiling",
            description="Encodes a picture of any size in tiles to the same latent as VAE Encode, "
            "up to rounding: no seams and no shift of colors, because every normalization sees "
            "the whole picture. For the VAEs of SD 1.5, SD 2 and SDXL.",
            search_aliases=["tiled vae", "vae encode tiled", "out of memory", "4k"],
            inputs=[
                io.Image.Input(
                    "pixels",
                    tooltip="The picture. As with VAE Encode, sides that 8 does not divide lose up "
                    "to 7 pixels, and alpha is left out.",
                ),
                io.Vae.Input("vae", tooltip="The VAE of an SD 1.5, SD 2 or SDXL model."),
                tile_size_input("encoded"),
            ],
            outputs=[io.Latent.Output(tooltip="The latent, as VAE Encode gives it.")],
        )

    @classmethod
    def execute(cls, pixels: Tensor, vae: Any, tile_size: int) -> io.NodeOutput:
        rgb, _ = from_image(pixels, "pixels")
        return io.NodeOutput({"samples": encode_exact(vae, rgb, tile_size)})


class TiledVAEDecodeExact(CheckedNode):
    """VAE Decode with bounded device memory and the same picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="TiledVAEDecodeExact",
            display_name="VAE Decode (Tiled, Exact)",
            category="restoration/tiling",
            description="Decodes a latent of any size in tiles to the same picture as VAE Decode, "
            "up to rounding: no seams and no shift of colors, because every normalization sees "
            "the whole picture. For the VAEs of SD 1.5, SD 2 and SDXL.",
            search_aliases=["tiled vae", "vae decode tiled", "out of memory", "4k"],
            inputs=[
                io.Latent.Input("samples", tooltip="The latent of a sampler, of any size."),
                io.Vae.Input("vae", tooltip="The VAE of an SD 1.5, SD 2 or SDXL model."),
                tile_size_input("decoded"),
            ],
            outputs=[io.Image.Output(tooltip="The picture, as VAE Decode gives it.")],
        )

    @classmethod
    def execute(cls, samples: dict[str, Any], vae: Any, tile_size: int) -> io.NodeOutput:
        return io.NodeOutput(decode_exact(vae, from_latent(samples, "samples"), tile_size))


NODES: list[type[io.ComfyNode]] = [TiledVAEEncodeExact, TiledVAEDecodeExact]
