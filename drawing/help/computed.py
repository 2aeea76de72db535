"""What a pure function of the pack does to a picture: no ComfyUI is needed for it."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from ...common import tiling
from ...diffbir.losses import edge_weights
from ...tools.panel import Labeled
from ...zeroshot.operators import Degradation, operator_for, project
from .look import COLORS, PHOTO, REFERENCE, WIDTH, opened, sheet, tinted


def tensor(picture: Image.Image) -> torch.Tensor:
    """1 3 H W in 0..1."""
    return torch.from_numpy(np.asarray(picture, np.float32) / 255).movedim(-1, 0)[None]


def picture_of(pixels: torch.Tensor) -> Image.Image:
    """The other way round."""
    array = (pixels[0].movedim(0, -1).clamp(0, 1) * 255).round().byte().numpy()
    return Image.fromarray(array)


def tiles() -> Image.Image:
    """The plan with the node's defaults for a picture of 2048x1408, and each tile's share."""
    photo = opened(REFERENCE).crop((0, 24, 512, 376))
    height, width, cell = 176, 256, 2  # latent cells, and pixels of the photo for one
    plan = tiling.plan_tiles(height, width, 96, 16)
    outlined = ImageEnhance.Brightness(photo).enhance(0.75)
    draw = ImageDraw.Draw(outlined)
    mixed = torch.zeros(3, height, width, dtype=torch.float64)
    shares = tiling.normalized_weights(plan)
    for index, (tile, share) in enumerate(zip(plan, shares, strict=True)):
        color, inset = COLORS[index % len(COLORS)], 3 * (index % 2)
        left, top = tile.x * cell + inset, tile.y * cell + inset
        right, bottom = (tile.x + tile.width) * cell - inset, (tile.y + tile.height) * cell - inset
        draw.rectangle((left, top, right - 1, bottom - 1), outline=color, width=3)
        tile.crop(mixed).add_(share * torch.tensor(color)[:, None, None] / 255)
    colored = picture_of(mixed[None]).resize(photo.size)
    gray = photo.convert("L").convert("RGB")
    return sheet([(f"{len(plan)} tiles of 768", outlined),
                  ("share of each tile", Image.blend(gray, colored, 0.6))], 2)  # fmt: skip


def null_space() -> Image.Image:
    """The projection, on stand-ins for what a model would predict."""
    photo = opened(REFERENCE)
    known = tensor(photo)
    hole = torch.ones_like(known[:, :1])
    hole[..., 150:250, 200:330] = 0
    guesses: dict[Degradation, tuple[torch.Tensor, float | torch.Tensor]] = {
        "average_pool": (tensor(tinted(photo, (150, 190, 255))), 1.0),
        "inpaint": (tensor(tinted(photo.filter(ImageFilter.GaussianBlur(3)))), hole),
        "grayscale": (tensor(photo.filter(ImageFilter.GaussianBlur(8))), 1.0),
    }
    panels: list[Labeled] = []
    for name, (guess, weight) in guesses.items():
        operator = operator_for(name, 16)
        measured = operator.invert(operator.degrade(known), known) * weight
        result = project(guess, known, operator, weight)
        panels += [(f"{name}:", picture_of(measured)), ("a guess", picture_of(guess)),
                   ("projected", picture_of(result))]  # fmt: skip
    return sheet(panels, 3)


def flat_areas() -> Image.Image:
    photo = opened(REFERENCE)
    weights = edge_weights(tensor(photo) * 2 - 1)
    return sheet([("image", photo),
                  ("rgb_weighted_mse", picture_of(weights.expand(1, 3, -1, -1)))],
                 2)  # fmt: skip


def sample() -> Image.Image:
    """The sample of Load Photo, whose file is the demo's."""
    photo = opened(PHOTO)
    return photo.resize((WIDTH, photo.height * WIDTH // photo.width), Image.Resampling.LANCZOS)
