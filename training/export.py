"""The files that loader nodes take: the part's published layout, with what they are in their heads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ..common.state_dict import StateDict
from ..common.weight_files import write_weights
from .config import Config, without_folders


def export(files: Mapping[str, StateDict], folder: Path, metadata: Mapping[str, str]) -> list[Path]:
    """Writes every published file below `folder`; their paths. metadata: for their heads."""
    for name, weights in files.items():
        write_weights(weights, folder / name, metadata)
    return [folder / name for name in files]


def metadata_of(
    config: Config, step: int, of_part: Mapping[str, str], digests: Mapping[str, str]
) -> dict[str, str]:
    """The head of an exported file: strings by name. Of the run's paths only the last names."""
    return {
        "format": "pt",
        **of_part,
        "trained_steps": str(step),
        **{f"{name}_sha256": digest for name, digest in digests.items()},
        "training_config": json.dumps(without_folders(config).table()),
    }
