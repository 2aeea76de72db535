"""PiSA-SR's semantic adapters beside the UNet, for dials that weigh two predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..host.adapters import AdapterLayer, Pairs
from .config import LORA_ALPHA


class SemanticLayers(nn.Module):
    """One `AdapterLayer` for every adapted layer of the UNet."""

    def __init__(self, unet: nn.Module, pairs: Pairs, **layers: Any) -> None:
        """unet: the host's network. pairs: by names of its weights."""
        super().__init__()
        self.sites = [key.removesuffix(".weight") for key in pairs]
        self.layers = nn.ModuleList(
            AdapterLayer(unet.get_submodule(site), pair, **layers)
            for site, pair in zip(self.sites, pairs.values(), strict=True)
        )

    @property
    def by_site(self) -> Mapping[str, nn.Module]:
        return dict(zip(self.sites, self.layers, strict=True))


def semantic_weights(pairs: Pairs) -> dict[str, Tensor]:
    """The adapters' weights under the names of `SemanticLayers`, their scale merged into one side."""
    weights = {}
    for number, (up, down) in enumerate(pairs.values()):
        weights[f"layers.{number}.down.weight"] = down
        weights[f"layers.{number}.up.weight"] = up * (LORA_ALPHA / down.shape[0])
    return weights
