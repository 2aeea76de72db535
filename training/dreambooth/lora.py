"""DreamBooth by a LoRA (Hu et al. 2021) beside the attention of a frozen base, as diffusers' script trains
one; exported in the layout that ComfyUI's own Load LoRA takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from ...common.draws import generator
from ...common.state_dict import StateDict
from ...host.text_window import TextWindow
from ...host.trainable import Published, frozen
from .trainable import DreamBooth, DreamBoothSettings

UNET_SITES = ("to_q", "to_k", "to_v", "to_out.0")
TEXT_SITES = ("q_proj", "k_proj", "v_proj", "out_proj")


class Adapter(nn.Module):
    """What one projection gains: alpha / rank B A."""

    def __init__(self, layer: Any, rank: int, alpha: float) -> None:
        """layer: the projection. The weights are left to `LoRATrainable.start`."""
        super().__init__()
        outputs, inputs = layer.weight.shape
        self.lora_down = nn.Parameter(torch.empty(rank, inputs))
        self.lora_up = nn.Parameter(torch.empty(outputs, rank))
        self.scale = alpha / rank

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * linear(linear(x, self.lora_down), self.lora_up)


class LoRATrainable(DreamBooth):
    """Reads and gives what `DreamBooth` does; trains adapters beside queries, keys, values and
    outputs of every attention of the UNet, and of the text encoder where that is asked for."""

    files: ClassVar[Mapping[str, str]] = {"": "lora.safetensors"}
    expected = "a LoRA of the attention"

    def __init__(
        self,
        unet: Any,
        process: Any,
        unet_config: Mapping[str, Any],
        settings: DreamBoothSettings | None = None,
        **given: Any,
    ) -> None:
        """See `DreamBooth`. The rank and alpha are the settings'."""
        super().__init__(unet, process, unet_config, settings, **given)
        frozen(self.unet)
        self.sites: list[str] = []
        """Published names, in the order of `adapters`."""
        self._adapters: list[Adapter] = []
        for site, layer in self._targets():
            adapter = Adapter(layer, self.settings.lora_rank, self.settings.lora_alpha)
            self.sites.append(site)
            self._adapters.append(adapter)
            # For good: checkpointing runs the layers again after the forward pass is over.
            layer.register_forward_hook(_beside(adapter))
        self.adapters = nn.ModuleList(self._adapters)

    def _targets(self) -> Iterator[tuple[str, nn.Module]]:
        """(published name, projection)"""
        for key, name in self.names.items():
            site, _, last = key.rpartition(".")
            if last == "weight" and site.endswith(UNET_SITES):
                layer = self.unet.get_submodule(name.removesuffix(".weight"))
                yield f"lora_unet_{site.replace('.', '_')}", layer
        if self.settings.train_text_encoder:
            assert isinstance(self.text, TextWindow)
            for name in self.text.used():
                site, _, last = name.rpartition(".")
                if last == "weight" and site.endswith(TEXT_SITES):
                    layer = self.text.encoder.get_submodule(site)
                    yield f"lora_te_text_model_{site.replace('.', '_')}", layer

    @torch.no_grad()
    def start(self, seed: int) -> None:
        """As published, without effect: A normal with deviation 1 / rank, B zero."""
        for site, adapter in zip(self.sites, self._adapters, strict=True):
            down, up = adapter.lora_down, adapter.lora_up
            draw = generator("start", seed, site)
            down.copy_(torch.randn(down.shape, generator=draw) / self.settings.lora_rank)
            up.zero_()

    def published(self) -> Published:
        keys: dict[str, Tensor] = {}
        for site, adapter in zip(self.sites, self._adapters, strict=True):
            for name, parameter in adapter.named_parameters():
                keys[f"{site}.{name}.weight"] = parameter
        return {"": keys}

    def computed(self) -> StateDict:
        """What the loader divides by the rank."""
        alpha = torch.tensor(float(self.settings.lora_alpha))
        return {f"{site}.alpha": alpha for site in self.sites}


def _beside(adapter: Adapter) -> Any:
    return lambda _layer, arguments, output: output + adapter(arguments[0])
