"""The degradation that SeeSR was trained on: Real-ESRGAN's model, its target sharpened."""

from __future__ import annotations

from dataclasses import replace

from ..common.degradation import REAL_ESRGAN_EXACT

PRESETS = {"seesr": replace(REAL_ESRGAN_EXACT, sharpened=True)}
