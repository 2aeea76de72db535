"""SeeSR in the host: its networks, and the branch that a MODEL patch runs at every step."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import comfy.model_base
import comfy.ops
import comfy.sd
import comfy.utils
import torch
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.patcher_extension import CallbacksMP, WrappersMP
from torch import Tensor, nn

from ..common.hint_encoder import HintEncoder
from ..common.state_dict import CheckpointError, StateDict, check_layout, with_prefix
from ..common.tiling import Tile
from ..seesr.checkpoint import (
    ADVICE,
    CONTROL_EXPECTED,
    ENCODER_PREFIX,
    IDENTITY,
    UNET_EXPECTED,
    control_part,
    unet_parts,
)
from ..seesr.config import EMBED_WIDTH, SD2, SeeSRConfig, Site
from .branch import PIXELS, BranchCall, BranchResult, ImageBranch, apply_branch, whole_cells
from .control_encoder import ControlEncoder, control_weights
from .extra_blocks import Block, after, inner_options
from .folders import KIND, SAME_FILE
from .loading import load_network, read_file, shapes_of
from .tagger import DapeModel, TagEmbeds, check_tagger
from .tiles import Place

log = logging.getLogger(__name__)

KEY = "diffusion_restoration_seesr"
SAME = 5e-3
"""Relative difference up to which weights count as the same: half precision rounds by less."""
TURBO_STEPS = 8
"""The authors run SeeSR-Turbo with 2 to 8."""


def rca_layers(
    sites: Sequence[Site], config: SeeSRConfig, operations: Any, **factory: Any
) -> nn.ModuleList:
    """One transformer for each site: representation cross attention, which in the published code
    is a whole transformer with its own self attention and feed-forward."""
    width = config.num_head_channels
    return nn.ModuleList(
        SpatialTransformer(
            site.channels,
            site.channels // width,
            width,
            depth=1,
            context_dim=EMBED_WIDTH,
            use_linear=True,
            # As in the text transformer before it.
            attn_precision=torch.float32,
            operations=operations,
            **factory,
        )
        for site in sites
    )


def rca_blocks(
    layers: nn.ModuleList, sites: Sequence[Site], embeds: Tensor, options: Mapping[str, Any]
) -> dict[str, Block]:
    """What runs after the layers of a network in one call. embeds: rows N 512."""
    inside = inner_options(options)

    def block(layer: nn.Module) -> Block:
        return lambda h: layer(h, embeds, inside)

    return {site.layer: block(layer) for site, layer in zip(sites, layers, strict=True)}


class SeeSRControlNet(nn.Module):
    """The host's control encoder with an RCA after every text transformer."""

    def __init__(self, config: SeeSRConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.sites = config.encoder_sites
        self.hint = HintEncoder(out_channels=config.channels[0], operations=operations, **factory)
        unet_config = {**config.unet_config(), "attn_precision": torch.float32}
        self.encoder = ControlEncoder(unet_config, operations, **factory)
        self.rca = rca_layers(self.sites, config, operations, **factory)

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        hint: Tensor,
        embeds: Tensor,
        options: Mapping[str, Any],
    ) -> tuple[list[Tensor], Tensor]:
        """embeds: rows N 512. The others, and what is returned: see `ControlEncoder`."""
        with after(self.encoder, rca_blocks(self.rca, self.sites, embeds, options)):
            return self.encoder(x, timesteps, context, hint, options=options)


@dataclass(frozen=True)
class SeeSRModel:
    """What travels as SEESR_MODEL: two networks, each with its own patcher."""

    config: SeeSRConfig
    control: Any
    """Patcher of a SeeSRControlNet."""
    rca: Any
    """Patcher of the UNet's RCAs, in the order of `config.unet_sites`."""
    identity: Mapping[str, Tensor]
    """Some weights of the UNet that SeeSR was trained with, by their published keys; empty where
    the file has none."""


def _rca_weights(weights: StateDict, sites: Sequence[Site]) -> StateDict:
    """The published weights of all sites under the names of `rca_layers`."""
    return {
        f"{i}.{name}": value
        for i, site in enumerate(sites)
        for name, value in with_prefix(weights, site.name).items()
    }


def build_rca(
    weights: StateDict, config: SeeSRConfig, file: str, **factory: Any
) -> tuple[nn.ModuleList, StateDict]:
    """(network, its weights under its own names), checked. weights: SeeSR's part of the UNet."""
    sites = config.unet_sites
    network = rca_layers(sites, config, **factory)
    layout = {
        sites[int(name.split(".")[0])].name + name.partition(".")[2]: shape
        for name, shape in shapes_of(network).items()
    }
    check_layout(weights, layout, file, UNET_EXPECTED, ADVICE)
    return network, _rca_weights(weights, sites)


def build_control(
    weights: StateDict, config: SeeSRConfig, file: str, **factory: Any
) -> tuple[SeeSRControlNet, StateDict]:
    """(network, its weights under its own names), checked. weights: as published."""
    network = SeeSRControlNet(config, **factory)
    parts = {
        "hint.": with_prefix(weights, ENCODER_PREFIX),
        "encoder.": control_weights(weights, config.unet_config()),
        "rca.": _rca_weights(weights, network.sites),
    }
    placed = {f"{part}{k}": v for part, inner in parts.items() for k, v in inner.items()}
    known = set(map(id, placed.values()))
    strange = {key: value for key, value in weights.items() if id(value) not in known}
    check_layout(placed | strange, shapes_of(network), file, CONTROL_EXPECTED, ADVICE)
    return network, placed


def seesr_model(
    unet: object,
    control: object,
    unet_file: str = "The UNet",
    control_file: str = "The control network",
    config: SeeSRConfig = SD2,
) -> tuple[SeeSRModel, StateDict]:
    """(the added networks, the plain UNet's weights) in two files' contents, the same twice for a
    converted file. Raises CheckpointError."""
    plain, added = unet_parts(unet, unet_file)
    controlled = control_part(control, control_file)
    identity = {key: plain[key].float().cpu() for key in IDENTITY if key in plain}
    networks = SeeSRModel(
        config,
        load_network(controlled, partial(build_control, controlled, config, control_file)),
        load_network(added, partial(build_rca, added, config, unet_file)),
        identity,
    )
    return networks, plain


def own_base(plain: StateDict, file: str) -> Any:
    """MODEL from the plain part of SeeSR's UNet, predicting noise."""
    if not plain:
        raise CheckpointError(
            f"{file} holds only what SeeSR adds to a UNet. Connect a Stable Diffusion 2 checkpoint "
            f"to `model`, or choose the published UNet. {ADVICE}"
        )
    model = comfy.sd.load_diffusion_model_state_dict(plain)
    if model is None:
        raise CheckpointError(
            f"{file} is not {UNET_EXPECTED}: its plain part ({len(plain)} weights) is not a whole "
            f"Stable Diffusion 2 UNet. {ADVICE}"
        )
    eps = comfy.model_base.ModelType.EPS
    if model.model.model_type != eps:
        # The host tells v prediction from the spread of one bias.
        model.model.model_type = eps
        model.model.model_sampling = comfy.model_base.model_sampling(model.model.model_config, eps)
    return model


def load_seesr(
    unet_name: str, control_net_name: str, model: Any | None, config: SeeSRConfig = SD2
) -> tuple[SeeSRModel, Any]:
    """(SEESR_MODEL, MODEL) from files of the folder `restoration`. model: the user's own base;
    None: the UNet that SeeSR was trained with, from its file."""
    if model is not None:
        check_base(model, config)
    unet = read_file(KIND, unet_name)
    if control_net_name in (SAME_FILE, unet_name):
        control, control_net_name = unet, unet_name
    else:
        control = read_file(KIND, control_net_name)
    networks, plain = seesr_model(unet, control, unet_name, control_net_name, config)
    if model is None:
        return networks, own_base(plain, unet_name)
    same = same_base(model, networks)
    if same is not None:
        relation = "is the one" if same else "differs from the one"
        log.info("Load SeeSR: the connected model %s that SeeSR was trained with.", relation)
    return networks, model


def check_base(model: Any, config: SeeSRConfig) -> None:
    """ValueError unless MODEL has the sizes of the UNet that SeeSR belongs to."""
    found, wanted = getattr(model.model.model_config, "unet_config", {}), config.unet_config()
    names = ("context_dim", "model_channels", "channel_mult", "adm_in_channels")

    def sizes(of: Mapping[str, Any]) -> list[Any]:
        values = [of.get(name) for name in names]
        return [list(value) if isinstance(value, tuple | list) else value for value in values]

    if sizes(found) != sizes(wanted):
        raise ValueError(
            f"`model` is a {type(model.model.model_config).__name__} whose text features are "
            f"{found.get('context_dim')} wide; SeeSR adds attention to Stable Diffusion 2 "
            f"({config.context_dim} wide). Connect an SD 2.x or SD-Turbo checkpoint, or leave "
            "`model` of Load SeeSR empty and use the MODEL it gives."
        )


def same_base(model: Any, networks: SeeSRModel) -> bool | None:
    """Whether MODEL has the weights that SeeSR was trained with; None: the file does not tell."""
    if not networks.identity:
        return None
    names = comfy.utils.unet_to_diffusers(networks.config.unet_config())
    for key, expected in networks.identity.items():
        found = model.get_model_object(f"diffusion_model.{names[key]}").detach().float().cpu()
        if (found - expected).norm() > SAME * expected.norm():
            return False
    return True


class TileEmbeds:
    """What the tagger sees in every tile by itself, made at the tile's first call of a run."""

    def __init__(self, tagger: DapeModel, pixels: Tensor) -> None:
        """pixels: B 3 H W in 0..1, 8 times the latent's size."""
        self.tagger, self.pixels = tagger, pixels
        self._known: dict[Tile, Tensor] = {}

    def of(self, tile: Tile, device: torch.device) -> Tensor:
        """B N 512."""
        if tile not in self._known:
            pictures = tile.scaled(PIXELS).crop(self.pixels).to(device).split(1)
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
        def embeds_at(place: Place) -> Tensor:
            if self.tile_embeds is None or place.tile is None:
                return self.embeds.to(call.x)
            return self.tile_embeds.of(place.tile, call.x.device).to(call.x)

        # The same for conditional and unconditional rows, as trained.
        embeds = call.view.rows(embeds_at, "tag_embeds")
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
        patched.add_callback_with_key(CallbacksMP.ON_CLEANUP, KEY, tiles.forget)
    if same_base(model, networks) is not True:
        patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, _warn_of_guidance)
    return patched
