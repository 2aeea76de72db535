"""DAPE's training losses (Wu et al. 2024, eq. 2): the tagger should see in a damaged picture what it sees in
the clean one."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from ..common.objective import mean_square


def dape_loss(
    embeds: Tensor, logits: Tensor, wanted_embeds: Tensor, wanted_logits: Tensor
) -> dict[str, Tensor]:
    """embeds: B N 512, logits: B labels, of the student on the damaged picture; the others of the
    teacher on the clean one.

    The authors' cross entropy of probabilities is infinite from logits of 17 on; this one is equal
    where theirs is finite.
    """
    soft = wanted_logits.float().sigmoid()
    return {
        "embeds": mean_square(embeds, wanted_embeds),
        "labels": binary_cross_entropy_with_logits(logits.float(), soft),
    }
