"""The degradations that DiffBIR's networks were trained on, where they are its own."""

from __future__ import annotations

from dataclasses import replace

from ..common.degradation import REAL_ESRGAN_EXACT, FirstOrder, Preset

PRESETS: dict[str, Preset] = {
    # v2, both stages, for general pictures (CodeFormer's model with other ranges).
    "diffbir_v2": FirstOrder((0.1, 12), (1, 12), (0, 15), (30, 100)),
    # v1's face model.
    "diffbir_v1_face": FirstOrder((0.1, 10), (0.8, 8), (0, 20), (60, 100)),
    "diffbir_v2.1": replace(REAL_ESRGAN_EXACT, sharpened=True),
}
