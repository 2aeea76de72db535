from __future__ import annotations

import torch

from restoration.training.proof.patches import Patches


def test_patches_give_back_what_they_keep() -> None:
    patches = Patches(kept=2)
    flat = patches.basis.flatten(1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(patches.channels))
    latent = torch.randn(2, patches.channels, 3, 5) / 4
    torch.testing.assert_close(patches.encoded(patches.decoded(latent)), latent)
