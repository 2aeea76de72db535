"""What the matrix finds and what is right all the same, or cannot be had: one row each.

A row that meets no cell any more is named in the summary, so that this table does not outlive its
reasons.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Limit:
    """ours, theirs: names of the matrix, * for any. check: which one it fails, see `cells.CHECKS`.
    because: what holds instead, in one sentence."""

    ours: str
    theirs: str
    check: str
    because: str

    def meets(self, ours: str, theirs: str, check: str) -> bool:
        pairs = ((ours, self.ours), (theirs, self.theirs), (check, self.check))
        return all(fnmatchcase(found, wanted) for found, wanted in pairs)


LIMITS: tuple[Limit, ...] = (
    Limit(
        "RestorationCFG rescale",
        "Mahiro",
        "theirs",
        "Growing guidance begins at 1, where this node changes nothing, as it does alone at cfg 1.",
    ),
    Limit(
        "TiledRestoration + LatentImageGuidance",
        "dpm_adaptive *",
        "raises",
        "It chooses its own steps, and beside strong guidance more than half a minute of them.",
    ),
    Limit(
        "*",
        "TomePatchModel",
        "tile batch",
        "ToMe draws by chance, and for each call anew, which tokens it merges.",
    ),
    Limit(
        "DiffBIRModelSampling",
        "ModelSampling*",
        "ours",
        "A model has one schedule: of two nodes that set it, the last one does.",
    ),
    Limit(
        "DiffBIRModelSampling",
        "ModelSampling*",
        "theirs",
        "A model has one schedule: of two nodes that set it, the last one does.",
    ),
    Limit(
        "OSEDiffApply*",
        "ModelSampling*",
        "theirs",
        "A model has one schedule: of two nodes that set it, the last one does.",
    ),
    Limit(
        "PiSASRApply*",
        "ModelSampling*",
        "theirs",
        "A model has one schedule: of two nodes that set it, the last one does.",
    ),
)


def limit_of(ours: str, theirs: str, check: str) -> Limit | None:
    return next((limit for limit in LIMITS if limit.meets(ours, theirs, check)), None)
