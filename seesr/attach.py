"""SeeSR as a patch of MODEL: the branch that runs at every step."""

from __future__ import annotations

import logging
from typing import Any

import torch
from comfy.patcher_extension import CallbacksMP, WrappersMP
from torch import Tensor

from ..common.tiling import Tile
from ..host.branch import BranchCall, BranchResult, ImageBranch, apply_branch, whole_cells
from ..host.errors import claiming_wrapper
from ..host.view import PIXELS_PER_CELL, PicturePart
from ..tagger.load import DapeModel
from ..tagger.run import TagEmbeds, check_tagger
from .load import check_base, same_base
from .networks import SeeSRModel, rca_blocks

log = logging.getLogger(__name__)

SEESR_KEY = "diffusion_restoration_seesr"
TURBO_STEPS = 8
"""The authors run SeeSR-Turbo with 2 to 8."""


class TileEmbeds:
    """What the tagger sees in every tile by itself, made at the tile's first call of a run."""

    def __init__(self, tagger: DapeModel, pixels: Tensor) -> None:
        """pixels: B 3 H W in 0..1, 8 times the latent's size."""
        self.tagger, self.pixels = tagger, pixels
        self._known: dict[Tile, Tensor] = {}

    def of(self, tile: Tile, device: torch.device) -> Tensor:
        """B N 512."""
        if tile not in self._known:
            pictures = tile.scaled(PIXELS_PER_CELL).crop(self.pixels).to(device).split(1)
            self._known[tile] = torch.cat([self.tagger.embed(picture) for picture in pictures])
        return self._known[tile]

    def forget(self, *_: Any) -> None:
        self._known.clear()


class SeeSRBranch(ImageBranch):
    """SeeSR with one picture's embeddings."""

    def __init__(
        self,
        networks: SeeSRModel,
        embeds: Tensor,
        strength: float,
        tile_embeds: TileEmbeds | None = None,
    ) -> None:
        """embeds: B N 512, of the whole picture. tile_embeds: takes their place in tiles."""
        self.networks, self.embeds, self.strength = networks, embeds, strength
        self.tile_embeds = tile_embeds
        taggers = (tile_embeds.tagger.patcher,) if tile_embeds else ()
        self.patchers = (networks.control, networks.rca, *taggers)
        self.residuals_per_cell = networks.control.model.encoder.residuals_per_cell()

    def embed(self, pixels: Tensor) -> Tensor:
        return self.networks.control.model.hint(pixels)

    def run(self, call: BranchCall) -> BranchResult:
        def embeds_at(part: PicturePart) -> Tensor:
            if self.tile_embeds is None or part.tile is None:
                return self.embeds.to(call.x)
            return self.tile_embeds.of(part.tile, call.x.device).to(call.x)

        # The same for conditional and unconditional rows, as trained.
        embeds = call.layout.rows(embeds_at, "tag_embeds")
        residuals, middle = self.networks.control.model(
            call.x, call.timesteps, call.context, call.hint, embeds, call.options
        )
        sites = self.networks.config.unet_sites
        return BranchResult(
            residuals=[self.strength * residual for residual in residuals],
            middle=self.strength * middle,
            blocks=rca_blocks(self.networks.rca.model, sites, embeds, call.options),
        )


def _warn_of_guidance(
    executor: Any,
    noise: Tensor,
    latent: Tensor,
    sampler: Any,
    sigmas: Tensor,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """OUTER_SAMPLE: says once a run that few steps on another base look like Turbo with guidance."""
    steps, cfg = len(sigmas) - 1, getattr(executor.class_obj, "cfg", 1.0)
    if steps <= TURBO_STEPS and cfg != 1.0:
        log.warning(
            "SeeSR: %d steps at cfg %g on a base that is not SeeSR's own. If it is SD-Turbo, set "
            "cfg to 1: it was trained without guidance.",
            steps,
            cfg,
        )
    return executor(noise, latent, sampler, sigmas, *args, **kwargs)


def apply_seesr(
    model: Any,
    networks: object,
    image: Tensor,
    tag_embeds: object,
    strength: float,
    start_percent: float,
    end_percent: float,
    mask: Tensor | None = None,
    dape_model: object | None = None,
) -> Any:
    """A clone of MODEL with SeeSR, or at strength 0 without it. image, range, mask: see
    `apply_branch`. dape_model: tags every tile by itself; None: tiles see the whole's embeddings.
    """
    if not isinstance(networks, SeeSRModel):
        raise ValueError(
            f"`seesr_model` is a {type(networks).__name__}, not SeeSR's networks. Connect Load "
            "SeeSR."
        )
    if not isinstance(tag_embeds, TagEmbeds):
        raise ValueError(
            f"`tag_embeds` is a {type(tag_embeds).__name__}, not embeddings of SeeSR's tagger. "
            "Connect tag_embeds of Tag Image (DAPE)."
        )
    check_base(model, networks.config)
    tagger = None if dape_model is None else check_tagger(dape_model)
    if strength == 0:
        return model.clone()
    tiles = None if tagger is None else TileEmbeds(tagger, whole_cells(image))
    branch = SeeSRBranch(networks, tag_embeds.embeds, strength, tiles)
    patched, _ = apply_branch(model, branch, image, start_percent, end_percent, mask)
    if tiles is not None:
        patched.add_callback_with_key(CallbacksMP.ON_CLEANUP, SEESR_KEY, tiles.forget)
    if same_base(model, networks) is not True:
        warn = claiming_wrapper(_warn_of_guidance)
        patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, SEESR_KEY, warn)
    return patched
