"""The authors' values, by the name that `authors` takes: part, and what differs from the defaults."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from .errors import TrainingError

Values = Mapping[str, Mapping[str, Any]]
SIZE = {"size": 512}


def _over(first: Values, second: Values) -> dict[str, dict[str, Any]]:
    return {name: {**first.get(name, {}), **second.get(name, {})} for name in {**first, **second}}


_PASD: Values = {
    "model": {"variant": "pasd"},
    "data": {
        **SIZE,
        "crop": "random",
        "flip": 0.5,
        "degradation": "pasd_exact",
        "text": "file",
        "null_text": 0.5,
    },
    "optimizer": {"lr": 5e-5, "weight_decay": 1e-2, "clip": 1.0},
    "run": {"steps": 500_000, "batch": 32, "precision": "fp16"},
    "save": {"every": 10_000, "export_every": 10_000},
}
_DIFFBIR: Values = {
    "model": {"version": "v2", "stage1": "codeformer_swinir.ckpt"},
    "data": {**SIZE, "crop": "halving", "degradation": "diffbir_v2", "text": "none"},
    "optimizer": {
        "lr": 1e-4,
        "weight_decay": 1e-2,
        "milestones": [30_000],
        "factor": 0.1,
    },
    "run": {"steps": 80_000, "batch": 256, "checkpointing": True, "seed": 231},
}
_SEESR: Values = {
    "data": {
        **SIZE,
        "crop": "random",
        "flip": 0.5,
        "degradation": "seesr",
        "text": "file",
        "null_text": 0.5,
    },
    "optimizer": {"lr": 5e-5, "weight_decay": 1e-2, "clip": 1.0},
    "run": {"steps": 100_000, "batch": 32, "precision": "fp16"},
}

_STAGE1: Values = {
    "data": {**SIZE, "crop": "halving", "degradation": "diffbir_v2"},
    "optimizer": {"lr": 1e-4, "weight_decay": 0.0},
    "run": {"steps": 150_000, "batch": 96, "seed": 231},
}
_DAPE: Values = {
    "data": {**SIZE, "crop": "random", "flip": 0.5, "degradation": "seesr"},
    "optimizer": {
        "lr": 1e-4,
        "weight_decay": 0.0,
        "warmup": 50,
        "milestones": [20_000, 30_000],
        "factor": 0.5,
    },
    "run": {"steps": 20_000, "batch": 32, "seed": 10},
    "save": {"every": 1000, "export_every": 1000},
}

_DREAMBOOTH: Values = {
    "data": {**SIZE, "crop": "shorter_side", "text": "prompt"},
    "optimizer": {"lr": 5e-6, "weight_decay": 1e-2, "clip": 1.0},
    "run": {"steps": 400, "batch": 1},
    "save": {"every": 500, "export_every": 500},
}
_DREAMBOOTH_LORA: Values = {
    "model": {"lora_rank": 4, "lora_alpha": 4.0},
    "optimizer": {"lr": 1e-4},
    "run": {"steps": 500},
}

_LIGHT: Values = {
    "model": {"network": "small"},
    "data": {"size": 160, "crop": "random", "degradation": "light"},
    "optimizer": {
        "lr": 1e-3,
        "betas": [0.9, 0.95],
        "weight_decay": 1e-4,
        "clip": 0.5,
        "warmup": 100,
        "cosine": 10_000,
        "average": 0.998,
    },
    "run": {"steps": 10_000, "batch": 8, "seed": 1},
    "save": {"every": 200, "export_every": 1000},
}
_ENLARGING: Values = _over(
    _LIGHT,
    {
        "model": {"network": "x2"},
        "data": {"size": 120, "degradation": "light_x2"},
        "optimizer": {"betas": [0.9, 0.99], "weight_decay": 0.0, "average": 0.999},
        "run": {"batch": 10},
    },
)
"""Patches of 40 pixels."""

PRESETS: dict[str, tuple[str, Values]] = {
    "pasd": ("pasd", _PASD),
    "pasd_light": ("pasd", _over(_PASD, {"model": {"variant": "pasd_light"}})),
    "pasd_rrdb": ("pasd", _over(_PASD, {"model": {"rrdb": True}})),
    "pasd_color": (
        "pasd",
        _over(_PASD, {"model": {"color": True}, "data": {"degradation": "gray"}}),
    ),
    "diffbir_stage1_v1": (
        "stage1",
        _over(_STAGE1, {"data": {"degradation": "realesrgan_exact"}}),
    ),
    "diffbir_stage1_v1_face": (
        "stage1",
        _over(_STAGE1, {"data": {"degradation": "diffbir_v1_face"}}),
    ),
    "diffbir_stage1_v2": ("stage1", _STAGE1),
    "diffbir_stage1_v21": (
        "stage1",
        _over(_STAGE1, {"data": {"degradation": "diffbir_v2.1"}}),
    ),
    "diffbir_v1": (
        "diffbir",
        _over(_DIFFBIR, {"model": {"version": "v1", "stage1": "general_swinir_v1.ckpt"}}),
    ),
    "diffbir_v2": ("diffbir", _DIFFBIR),
    "diffbir_v21": (
        "diffbir",
        _over(
            _DIFFBIR,
            {
                "model": {"version": "v2.1", "stage1": "realesrgan_s4_swinir_100k.pth"},
                "data": {
                    "degradation": "diffbir_v2.1",
                    "text": "file",
                    "long_text": 0.2,
                    "null_text": 0.2,
                },
                "optimizer": {"lr": 1e-5, "milestones": [], "factor": 1.0},
                "run": {"steps": 1_000_000, "batch": 512},
            },
        ),
    ),
    "dape": ("dape", _DAPE),
    "seesr": ("seesr", _SEESR),
    "dreambooth": ("dreambooth", _DREAMBOOTH),
    "light": ("light", _LIGHT),
    "light_x2": ("light", _ENLARGING),
    "light_x4": (
        "light",
        _over(
            _ENLARGING,
            {"model": {"network": "x4"}, "data": {"size": 240, "degradation": "light_x4"}},
        ),
    ),
    "dreambooth_lora": ("dreambooth", _over(_DREAMBOOTH, _DREAMBOOTH_LORA)),
}


def preset(authors: str) -> tuple[str, dict[str, Any]]:
    """(part, values) of a preset. TrainingError: there is none of that name."""
    if authors not in PRESETS:
        close = difflib.get_close_matches(authors, PRESETS, 1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(PRESETS)}."
        raise TrainingError(f"authors = {authors!r} is no preset; {hint}")
    part, values = PRESETS[authors]
    return part, {name: dict(section) for name, section in values.items()}
