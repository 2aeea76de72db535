"""Diffusion Restoration: PASD, DiffBIR, SeeSR and StyleID as native ComfyUI nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfy_api.latest import ComfyExtension

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> ComfyExtension:
    """What ComfyUI calls once to get the pack's nodes; nothing is imported before."""
    from .nodes import extension

    return extension()
