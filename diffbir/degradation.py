"""The degradations that DiffBIR's networks were trained on, where they are its own."""

from __future__ import annotations

from ..common.degradation import FirstOrder

PRESETS = {
    # v2, both stages, for general pictures (CodeFormer's model with other ranges).
    "diffbir_v2": FirstOrder((0.1, 12), (1, 12), (0, 15), (30, 100)),
    # v1's face model.
    "diffbir_v1_face": FirstOrder((0.1, 10), (0.8, 8), (0, 20), (60, 100)),
}
