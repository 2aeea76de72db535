"""The degradation that PASD was trained on: Real-ESRGAN's model with milder ranges."""

from __future__ import annotations

from dataclasses import replace

from ..common.degradation import MODES, SecondOrder, Stage

PASD = SecondOrder(
    Stage((0.2, 3), (0.2, 0.7, 0.1), (0.3, 1.5), (1, 15), (0.05, 2), (60, 95)),
    Stage((0.2, 1.5), (0.3, 0.4, 0.3), (0.6, 1.2), (1, 12), (0.05, 1), (60, 100), 0.5),
)
PRESETS = {"pasd": PASD, "pasd_exact": replace(PASD, exact=True, returns=MODES)}
