from __future__ import annotations

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="package")
def pictures(tmp_path_factory):
    """A folder of three small pictures with their texts."""
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(3):
        values = np.random.default_rng(seed).integers(0, 256, (72, 80, 3), np.uint8)
        Image.fromarray(values).save(folder / f"{seed}.png")
        (folder / f"{seed}.txt").write_text("words " * seed, "utf-8")
    return folder
