"""The methods' networks at full size with random weights: on the meta device, where operations are
counted without computing anything, or on the CPU or a card, where time is taken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from _measuring import randomize

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
CELL = 8
TIMESTEP = 500.0

Run = Callable[[int, int], object]
"""Height and width in pixels -> one row through the network."""


def published(name: str, *groups: str) -> dict[str, torch.Tensor]:
    """The keys and shapes of a published file; the values take no memory."""
    found = json.loads((GOLDEN / f"{name}.json").read_text())["groups"]
    zero = torch.zeros(())
    return {
        key: zero.expand(shape)
        for group in groups
        for key, (shape, kind) in found[group].items()
        if kind == "float"
    }


class Networks:
    """Builds one network at a time, in float32."""

    def __init__(self, device: str, tiny: bool = False) -> None:
        """tiny: for dry runs, where only what `plain`, `vae` and `stage 1` are can be had."""
        self.device, self.tiny = torch.device(device), tiny
        self.dtype = torch.float32
        self.unets: list[Any] = []
        self._modules: list[Any] = []
        self._kept: list[dict] = []
        """What branches keep of the picture that they have seen."""

    def cast(self, dtype: torch.dtype) -> None:
        """Another precision for the network that was built last."""
        self.dtype = dtype
        for module in self._modules:
            module.to(dtype)
        for unet in self.unets:
            unet.dtype = dtype  # to which the host casts what comes in
        for kept in self._kept:
            kept.clear()

    def build(self, name: str) -> dict[str, Run]:
        """The runs that belong to a network, by the names of their calls."""
        builders: dict[str, Callable[[], dict[str, Run]]] = {
            "plain": self._plain,
            "diffbir": self._diffbir,
            "pasd": self._pasd,
            "seesr": self._seesr,
            "dials": self._dials,
            "vae": self._vae,
            "taesd": self._taesd,
            "tagger": self._tagger,
            "stage 1": self._stage1,
            "enlarge": self._enlarger,
        }
        self.dtype, self.unets, self._modules, self._kept = torch.float32, [], [], []
        return builders[name]()

    def _placed(self, module: Any) -> Any:
        module.to(self.device)
        if self.device.type != "meta":
            randomize(module)
        self._modules.append(module)
        return module

    def _rand(self, *shape: int) -> torch.Tensor:
        return torch.rand(*shape, device=self.device).to(self.dtype)

    def _unet(self, config: Any) -> Any:
        from restoration.tests.host.networks import empty_unet

        model = empty_unet(config.unet_config())
        self.unets.append(self._placed(model.model.diffusion_model))
        if self.device.type != "meta":
            model.load_device = self.device
            model.model.model_sampling.to(self.device)
        sampling = model.model.model_sampling  # on the CPU for meta: its table can be read there
        read = sampling.timestep

        def timestep(sigma: torch.Tensor) -> torch.Tensor:
            return torch.full_like(sigma, TIMESTEP) if sigma.device.type == "meta" else read(sigma)

        sampling.timestep = timestep
        return model

    @property
    def _real(self) -> str:
        """Where numbers are that are read."""
        return "cpu" if self.device.type == "meta" else self.device.type

    def _step(self, patched: Any, context: int, height: int, width: int) -> object:
        """One row through a MODEL and all its patches."""
        options = dict(patched.model_options["transformer_options"])
        options |= {
            "wrappers": patched.wrappers,
            "cond_or_uncond": [0],
            "sigmas": torch.tensor([5.0], device=self._real),
        }
        x = self._rand(1, 4, height // CELL, width // CELL)
        text, sigma = self._rand(1, 77, context), torch.full((1,), 5.0, device=self.device)
        return patched.model.apply_model(x, sigma, c_crossattn=text, transformer_options=options)

    def _plain(self) -> dict[str, Run]:
        from restoration.seesr.config import SD2
        from restoration.tests.host.networks import SMALL, ldm_unet_config

        small = SimpleNamespace(unet_config=lambda: ldm_unet_config(SMALL), context_dim=16)
        config = small if self.tiny else SD2
        model = self._unet(config)
        return {"plain": lambda h, w: self._step(model, config.context_dim, h, w)}

    def _dials(self) -> dict[str, Run]:
        from comfy import model_management as mm

        from restoration.onestep.attach import apply_pisasr
        from restoration.onestep.config import SD2
        from restoration.onestep.keys import read
        from restoration.onestep.load import OneStepModel
        from restoration.tests.tools.weights.published import pickled_tables

        tables = pickled_tables("pisasr/manifest_pisa_sr")
        zero = torch.zeros(())
        filled = {
            key: {k: zero.expand(v.shape) for k, v in each.items()}
            if isinstance(each, dict)
            else each
            for key, each in tables.items()
        }
        model = self._unet(SD2.unet)
        adapters = OneStepModel(read(filled), SD2, "pisa_sr.pkl")
        patched = apply_pisasr(model, adapters, 1.0, 0.5, None)
        for added in patched.additional_models.values():
            for each in added:
                self._placed(each.model)

        def run(height: int, width: int) -> object:
            # Both predictions in one call, whatever this machine has free.
            with patch.object(mm, "get_free_memory", lambda *_, **__: 2**50):
                return self._step(patched, 1024, height, width)

        return {"dials": run}

    def _diffbir(self) -> dict[str, Run]:
        from restoration.diffbir.keys import layout
        from restoration.diffbir.load import diffbir_control
        from restoration.seesr.config import SD2

        model = self._unet(SD2)
        zero = torch.zeros(())
        control = diffbir_control({key: zero.expand(shape) for key, shape in layout().items()})
        network = self._placed(control.control_model)

        def run(height: int, width: int) -> object:
            cells = height // CELL, width // CELL
            network(
                x=self._rand(1, 8, *cells),  # the noisy latent and the photo's
                timesteps=torch.full((1,), TIMESTEP, device=self.device),
                context=self._rand(1, 77, SD2.context_dim),
            )
            return self._step(model, SD2.context_dim, height, width)

        return {"diffbir": run}

    def _pasd(self) -> dict[str, Run]:
        from restoration.pasd.attach import apply_pasd
        from restoration.pasd.keys import config_from
        from restoration.pasd.load import pasd_model

        config = config_from(published("pasd/manifest_controlnet", "base"))
        pasd = pasd_model(
            published("pasd/manifest_unet_pasd", "added"),
            published("pasd/manifest_controlnet", "added", "base"),
        )
        for patcher in (pasd.encoder, pasd.control, pasd.attention):
            self._placed(patcher.model)

        def applied(model: Any, picture: torch.Tensor) -> Any:
            return apply_pasd(model, pasd, picture, 1.0, 0.0, 1.0)

        runs = self._controlled("pasd", config, applied)
        return runs | {"pasd, picture": lambda h, w: pasd.encoder.model(self._rand(1, 3, h, w))}

    def _seesr(self) -> dict[str, Run]:
        from restoration.seesr.attach import apply_seesr
        from restoration.seesr.config import SD2
        from restoration.seesr.load import seesr_model
        from restoration.tagger.config import EMBED_WIDTH, RAM
        from restoration.tagger.run import TagEmbeds

        networks, _ = seesr_model(
            published("seesr/manifest_seesr_unet", "added"),
            published("seesr/manifest_seesr_controlnet", "added", "base"),
        )
        control = self._placed(networks.control.model)
        self._placed(networks.rca.model)
        cells = RAM.image_size // RAM.patch_size // 2 ** (len(RAM.depths) - 1)
        tags = TagEmbeds(torch.rand(1, cells**2 + 1, EMBED_WIDTH))  # and one of the whole picture

        def applied(model: Any, picture: torch.Tensor) -> Any:
            return apply_seesr(model, networks, picture, tags, 1.0, 0.0, 1.0)

        runs = self._controlled("seesr", SD2, applied)
        return runs | {"seesr, picture": lambda h, w: control.hint(self._rand(1, 3, h, w))}

    def _controlled(
        self, name: str, config: Any, applied: Callable[[Any, torch.Tensor], Any]
    ) -> dict[str, Run]:
        """A step with a branch, which has seen its picture before: that is counted by itself."""
        model, patched = self._unet(config), {}
        self._kept.append(patched)

        def run(height: int, width: int) -> object:
            if (height, width) not in patched:
                patched.clear()
                photo = torch.rand(1, height, width, 3, device=self._real)
                patched[height, width] = applied(model, photo)
            return self._step(patched[height, width], config.context_dim, height, width)

        return {name: run}

    def _vae(self) -> dict[str, Run]:
        from vae import random_vae

        network = self._placed(random_vae(32 if self.tiny else 128).first_stage_model)

        def decode(height: int, width: int) -> object:
            return network.decode(self._rand(1, 4, height // CELL, width // CELL))

        return {"encode": lambda h, w: network.encode(self._rand(1, 3, h, w)), "decode": decode}

    def _taesd(self) -> dict[str, Run]:
        from comfy.taesd.taesd import TAESD

        network = self._placed(TAESD())

        def run(height: int, width: int) -> object:
            return network.decode(self._rand(1, 4, height // CELL, width // CELL))

        return {"decode, TAESD": run}

    def _tagger(self) -> dict[str, Run]:
        from restoration.tagger.config import RAM
        from restoration.tagger.load import build_tagger
        from restoration.tagger.tags import TagList

        names = tuple(f"tag {i}" for i in range(RAM.labels))
        tags = TagList(names, torch.full((RAM.labels,), 0.65))
        tagger = build_tagger(published("seesr/manifest_ram_swin_large_14m", "inference"), tags)
        network = self._placed(tagger.network)
        side = RAM.image_size  # whatever the picture's
        return {"tagger": lambda h, w: network.logits(network.embed(self._rand(1, 3, side, side)))}

    def _stage1(self) -> dict[str, Run]:
        from restoration.stage1.restorer import BUNDLED_PADDING, load_bundled

        network = load_bundled().model.float().eval().to(self.device)
        self._modules.append(network)
        padded = BUNDLED_PADDING.size
        return {"stage 1": lambda h, w: network(self._rand(1, 3, *padded(h, w)))}

    def _enlarger(self) -> dict[str, Run]:
        from restoration.stage1.restorer import load_enlarger

        network = load_enlarger(4).model.float().eval().to(self.device)
        self._modules.append(network)
        return {"enlarge": lambda h, w: network(self._rand(1, 3, h, w))}
