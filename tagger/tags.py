"""From the tagger's logits to a text: which labels count as seen, and how they are written."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..common.state_dict import CheckpointError
from .config import RAM, TAG_LISTS

NEVER = 1.0
"""Threshold of labels that the authors switched off."""
SHIPPED = Path(__file__).parent
"""Where the pack has the published lists."""


@dataclass(frozen=True)
class TagList:
    """What every row of the tagger's output means."""

    names: tuple[str, ...]
    thresholds: Tensor
    """Probability above which each counts as seen; float32."""

    def seen(self, logits: Tensor, threshold_offset: float = 0.0) -> Tensor:
        """Which labels are in the picture, bool, the shape of `logits` (... labels)."""
        thresholds = self.thresholds.to(logits)
        # A label that never fires does not fire at lower thresholds either.
        raised = torch.where(thresholds < NEVER, thresholds + threshold_offset, NEVER)
        return logits.sigmoid() > raised

    def text(
        self,
        logits: Tensor,
        threshold_offset: float = 0.0,
        max_tags: int = 0,
        exclude: str = "",
    ) -> str:
        """The tags of one picture in the order of the list, joined by ", "; may be empty.

        logits: labels. max_tags: the most probable ones stay, 0 for all. exclude: names, separated
        by commas. Parentheses are escaped: in prompts they mean emphasis.
        """
        unwanted = {name.strip().casefold() for name in exclude.split(",")}
        rows = self.seen(logits, threshold_offset).nonzero().flatten().tolist()
        rows = [row for row in rows if self.names[row].casefold() not in unwanted]
        if max_tags:
            rows = sorted(sorted(rows, key=lambda row: -float(logits[row]))[:max_tags])
        return ", ".join(re.sub(r"([()])", r"\\\1", self.names[row]) for row in rows)


def read_tag_list(find: Callable[[str], str | None] = lambda name: None) -> TagList:
    """The published lists. find: name -> the path of the user's own copy, None where there is none;
    the pack's is read then. Raises CheckpointError unless they are the published ones."""
    lines: dict[str, list[str]] = {}
    for name, checksum in TAG_LISTS.items():
        own = find(name)
        path = Path(own) if own else SHIPPED / name
        remedy = "delete it, for the pack brings its own" if own else "install the pack again"
        try:
            content = path.read_bytes()
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read ({error}): {remedy}.") from error
        content = content.replace(b"\r\n", b"\n")  # a checkout on Windows
        if hashlib.sha256(content).hexdigest() != checksum:
            raise CheckpointError(
                f"{path} is not the published list ({len(content)} bytes with another checksum), so "
                f"tags would get wrong names: {remedy}."
            )
        lines[name] = content.decode().splitlines()
    names, thresholds = (lines[name] for name in TAG_LISTS)
    assert len(names) == len(thresholds) == RAM.labels
    return TagList(tuple(names), torch.tensor([float(line) for line in thresholds]))
