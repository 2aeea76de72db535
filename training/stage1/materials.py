"""The materials that synthetic scenes are made of: textures, patterns and drawings from a seed.

Each maker fills a square: 1/f clouds, smooth gradients, fur and wood, stones, bricks, cloth, foliage,
pages of text, line drawings. HWC float32, about [0, 1], color channels correlated as in nature.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import map_coordinates, zoom
from scipy.spatial import KDTree

Array = np.ndarray
Rng = np.random.Generator


def spectral_field(rng: Rng, height: int, width: int, slope: float, stretch: float = 1.0) -> Array:
    """Gaussian field whose amplitude spectrum falls as 1/f^slope. HW, mean 0, std 1.

    `stretch` > 1 makes it that many times longer along x (grain, brushed metal, hair).
    """
    fy = np.fft.fftfreq(height)[:, None] * 1.0
    fx = np.fft.rfftfreq(width)[None] * stretch
    radius = np.hypot(fy, fx)
    radius[0, 0] = 1.0
    spectrum = np.fft.rfft2(rng.standard_normal((height, width))) * radius**-slope
    spectrum[0, 0] = 0.0
    field = np.fft.irfft2(spectrum, (height, width)).astype(np.float32)
    return field / (field.std() + 1e-8)


def smooth_field(rng: Rng, height: int, width: int, cells: int) -> Array:
    """Cubic interpolation of a cells x cells grid of normal values. HW, about mean 0, std 1."""
    grid = rng.standard_normal((cells + 3, cells + 3)).astype(np.float32)
    scale = ((height + 2) / (cells + 1), (width + 2) / (cells + 1))
    return np.asarray(zoom(grid, scale, order=3))[:height, :width]


def random_color(rng: Rng) -> Array:
    """One RGB color in [0, 1]: any lightness, mostly weak chroma, now and then vivid."""
    lightness = rng.beta(1.3, 1.5)
    saturation = abs(rng.normal(0, 0.08)) if rng.random() < 0.7 else abs(rng.normal(0, 0.3))
    angle = rng.normal(0.6, 0.6) if rng.random() < 0.6 else rng.uniform(0, 2 * np.pi)
    # Warm to cool is the strongest chromatic axis of natural light; green to magenta is weaker.
    warm, green = saturation * np.cos(angle), 0.6 * saturation * np.sin(angle)
    color = lightness + np.array([warm - 0.3 * green, 0.4 * green, -warm - 0.3 * green])
    return np.clip(color, 0.0, 1.0).astype(np.float32)


def colorize(rng: Rng, field: Array, contrast: float) -> Array:
    """Paints a zero-mean field with a color ramp. HW -> HWC in about [0, 1].

    Light and dark of one material differ mostly in lightness: channels stay strongly correlated.
    """
    base = random_color(rng)
    axis = np.clip(base * 0.6 + 0.5 + rng.normal(0, 0.12, 3), 0.1, 1.6).astype(np.float32)
    height, width = field.shape
    image = base + contrast * field[..., None] * axis
    if rng.random() < 0.5:
        tint = spectral_field(rng, height, width, rng.uniform(1.0, 2.0))
        direction = rng.normal(0, 1, 3)
        direction -= direction.mean()
        image = image + (0.3 * contrast * tint)[..., None] * direction.astype(np.float32)
    return image.astype(np.float32)


def warp(rng: Rng, image: Array, amount: float) -> Array:
    """Random rotation, mild perspective and a smooth bend. HW or HWC, same size, wraps around."""
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    y, x = y - height / 2, x - width / 2
    angle = rng.uniform(0, 2 * np.pi)
    scale = np.exp(rng.uniform(-0.3, 0.3))
    depth = 1 + rng.uniform(0, 0.6) * (y / height) * (rng.random() < 0.5)
    yy = scale * (np.cos(angle) * y + np.sin(angle) * x) / depth
    xx = scale * (-np.sin(angle) * y + np.cos(angle) * x) / depth
    if amount > 0:
        cells = int(rng.integers(1, 5))
        yy = yy + amount / cells * smooth_field(rng, height, width, cells)
        xx = xx + amount / cells * smooth_field(rng, height, width, cells)
    where = [yy + height / 2, xx + width / 2]
    if image.ndim == 2:
        return map_coordinates(image, where, order=1, mode="grid-wrap")
    planes = [
        map_coordinates(image[..., c], where, order=1, mode="grid-wrap")
        for c in range(image.shape[2])
    ]
    return np.stack(planes, axis=-1)


def clouds(rng: Rng, size: int) -> Array:
    """1/f texture: rock, soil, plaster, skin, water far away."""
    field = spectral_field(rng, size, size, rng.uniform(0.6, 2.2))
    if rng.random() < 0.4:  # grain that comes and goes, as dirt and lichen do
        field = field * (0.3 + np.abs(spectral_field(rng, size, size, 2.0)))
    if rng.random() < 0.3:  # ridges
        field = 1.0 - 2.0 * np.abs(field)
    return colorize(rng, field - field.mean(), np.exp(rng.uniform(np.log(0.015), np.log(0.18))))


def gradient(rng: Rng, size: int) -> Array:
    """Sky, wall, out-of-focus ground: very smooth, color changing slowly."""
    y, x = np.mgrid[:size, :size].astype(np.float32) / size
    angle = rng.uniform(0, 2 * np.pi)
    t = np.clip(0.5 + (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle), 0, 1)[..., None]
    first = random_color(rng)
    second = np.clip(first + rng.normal(0, 0.2) + rng.normal(0, 0.08, 3), 0, 1)
    image = first * (1 - t) + second.astype(np.float32) * t
    if rng.random() < 0.6:
        cells = int(rng.integers(1, 6))
        image = image + rng.uniform(0, 0.12) * smooth_field(rng, size, size, cells)[..., None]
    if rng.random() < 0.3:
        cloud = spectral_field(rng, size, size, rng.uniform(1.6, 2.4))[..., None]
        image = image + rng.uniform(0.02, 0.12) * np.maximum(cloud, rng.normal(0, 0.5))
    return image.astype(np.float32)


def grain(rng: Rng, size: int) -> Array:
    """Stretched noise bent by a smooth flow: fur, hair, wood, water, brushed metal."""
    stretch = np.exp(rng.uniform(np.log(4), np.log(40)))
    field = spectral_field(rng, size, size, rng.uniform(0.3, 1.4), stretch)
    if rng.random() < 0.5:
        field = field + 0.6 * spectral_field(rng, size, size, rng.uniform(0.8, 1.6), stretch / 3)
    if rng.random() < 0.5:
        field = np.tanh(1.5 * field)
    field = warp(rng, field, rng.uniform(0, 60))
    return colorize(rng, field, np.exp(rng.uniform(np.log(0.03), np.log(0.2))))


def stones(rng: Rng, size: int) -> Array:
    """Voronoi cells with own color, shading and gaps: gravel, cobbles, scales, cells, mosaic."""
    pitch = np.exp(rng.uniform(np.log(5), np.log(45)))
    count = int((size / pitch) ** 2) + 8
    points = rng.uniform(0, size, (count, 2))
    y, x = np.mgrid[:size, :size].astype(np.float32)
    where = np.stack([y.ravel(), x.ravel()], 1)
    if rng.random() < 0.6:  # ragged outlines
        bend = spectral_field(rng, size, size, 1.3).ravel() * rng.uniform(0, 0.15) * pitch
        where = where + np.stack([bend, -bend], 1)
    where = where * [1.0, rng.uniform(0.5, 1.0)]
    distance, index = (np.asarray(found) for found in KDTree(points).query(where, k=2))
    border = ((distance[:, 1] - distance[:, 0]) / pitch).reshape(size, size)
    tilt = rng.normal(0, 1, (count, 2))
    offset = (where - points[index[:, 0]]) / pitch
    slope = (offset * tilt[index[:, 0]]).sum(1).reshape(size, size)
    shade = rng.normal(0, 1, count)[index[:, 0]].reshape(size, size)
    field = rng.uniform(0.2, 1) * shade + rng.uniform(0, 1.2) * slope
    field = field + rng.uniform(0, 0.7) * spectral_field(rng, size, size, rng.uniform(0.5, 1.5))
    image = colorize(rng, field.astype(np.float32), rng.uniform(0.03, 0.2))
    if rng.random() < 0.7:  # dark or light gaps about one to three pixels wide
        gap = np.clip(border * pitch / rng.uniform(0.8, 4.0), 0, 1)[..., None].astype(np.float32)
        joint = random_color(rng) * rng.uniform(0.1, 1.0)
        image = image * gap + joint * (1 - gap)
    return image


def bricks(rng: Rng, size: int) -> Array:
    """Bricks, tiles, planks, windows: a running bond with joints, seen at an angle."""
    high = rng.uniform(6, 40)
    wide = high * rng.uniform(0.8, 4.0)
    joint = rng.uniform(0.6, 3.5)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    row = np.floor(y / high)
    x = x + row * wide * rng.choice([0.0, 0.5, 0.33])
    column = np.floor(x / wide)
    fy, fx = y - row * high, x - column * wide
    inside = np.minimum.reduce([fy, high - fy, fx, wide - fx])
    gap = np.clip(inside - joint / 2 + 0.5, 0, 1)
    table = rng.normal(0, 1, (128, 128)).astype(np.float32)
    shade = table[row.astype(int) % 128, column.astype(int) % 128]
    field = rng.uniform(0.1, 1) * shade
    field = field + rng.uniform(0.1, 1) * spectral_field(rng, size, size, rng.uniform(0.4, 1.5))
    image = colorize(rng, field, rng.uniform(0.02, 0.12))
    mortar = colorize(rng, spectral_field(rng, size, size, 0.7), rng.uniform(0.01, 0.08))
    image = image * gap[..., None] + mortar * (1 - gap[..., None])
    return warp(rng, image, rng.uniform(0, 20) if rng.random() < 0.5 else 0.0)


def cloth(rng: Rng, size: int) -> Array:
    """Weaves, knits, stripes, meshes: periodic patterns with irregular thread, bent."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    period = np.exp(rng.uniform(np.log(3), np.log(24)))
    wobble = rng.uniform(0, 0.25) * spectral_field(rng, size, size, 1.2)
    u = np.sin(2 * np.pi * (x / period + wobble))
    v = np.sin(2 * np.pi * (y / (period * rng.uniform(0.6, 1.6)) + wobble))
    kind = rng.integers(4)
    if kind == 0:
        field = u * v
    elif kind == 1:
        field = u
    elif kind == 2:
        field = np.where(np.sin(np.pi * x / period) * np.sin(np.pi * y / period) > 0, u, v)
    else:
        field = np.tanh(rng.uniform(1, 6) * (u + v))
    field = field + rng.uniform(0.05, 0.8) * spectral_field(rng, size, size, rng.uniform(0.2, 1.4))
    field = field * (1 + 0.3 * smooth_field(rng, size, size, 3))
    image = colorize(rng, field, rng.uniform(0.02, 0.15))
    return warp(rng, image, rng.uniform(0, 50) if rng.random() < 0.6 else 0.0)


def to_image(image: Array) -> Image.Image:
    """HWC float [0, 1] to a Pillow picture."""
    return Image.fromarray((np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8))


def from_image(picture: Image.Image) -> Array:
    """A Pillow picture to HWC (or HW) float32 [0, 1]."""
    return np.asarray(picture, dtype=np.float32) / 255.0


def as_ink(color: Array) -> tuple[int, int, int]:
    """RGB [0, 1] to Pillow's 8-bit tuple."""
    r, g, b = (np.clip(color, 0, 1) * 255).astype(int)
    return int(r), int(g), int(b)


def foliage(rng: Rng, size: int) -> Array:
    """Hundreds of overlapping blades or small leaves, lit from one side: grass, trees, feathers."""
    over = 3 if size <= 256 else 2
    picture = to_image(clouds(rng, size) * rng.uniform(0.2, 0.8)).resize((size * over, size * over))
    draw = ImageDraw.Draw(picture)
    blade = rng.random() < 0.5
    length = np.exp(rng.uniform(np.log(4), np.log(40))) * over
    slim = rng.uniform(0.04, 0.12) if blade else rng.uniform(0.25, 0.6)
    base, spread = random_color(rng), rng.uniform(0.05, 0.22)
    count = int(min(2600, 2.2 * (size * over) ** 2 / (length * length * (slim + 0.1))))
    heading, turn = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 3.0)
    depth = np.linspace(0.45, 1.15, count)
    centers = rng.uniform(-10, size * over + 10, (count, 2))
    angles = heading + turn * rng.standard_normal(count)
    lengths = length * np.exp(rng.normal(0, 0.35, count))
    tones = rng.normal(0, 1, (count, 4))
    for i in range(count):
        along = np.array([np.cos(angles[i]), np.sin(angles[i])]) * lengths[i] / 2
        across = np.array([-along[1], along[0]]) * slim
        bend = across * tones[i, 3] * 1.5
        c = centers[i]
        color = base * depth[i] * (1 + spread * tones[i, 0]) + 0.25 * spread * tones[i, 1:4] * 0.4
        outline = [
            c - along,
            c - along * 0.3 + across + bend * 0.6,
            c + bend * 0.7 + across * 0.9,
            c + along,
            c + bend * 0.7 - across * 0.9,
            c - along * 0.3 - across + bend * 0.6,
        ]
        draw.polygon([(float(p[0]), float(p[1])) for p in outline], fill=as_ink(color))
        if not blade and length > 10 * over:  # the lit half and the midrib
            half = [c - along, c + bend * 0.7 + across * 0.9, c + along]
            draw.polygon([(float(p[0]), float(p[1])) for p in half], fill=as_ink(color * 1.15))
    image = from_image(picture.reduce(over))
    texture = rng.uniform(0, 0.04) * spectral_field(rng, size, size, rng.uniform(0.5, 1.5))
    return image + texture[..., None]


LETTERS = list(
    "aaabcdeeeeefghiiijklmnnnooopqrrrsssttttuuvwxyzABCDEFGHIJKLMNOPRSTW0123456789.,;:!?&-()"
)


def font_of(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """Pillow's built-in face at a size (its bitmap face where FreeType is missing)."""
    try:
        return ImageFont.load_default(size)
    except TypeError:  # Pillow < 10.1
        return ImageFont.load_default()


def write_text(rng: Rng, picture: Image.Image, scale: int, lines: int | None = None) -> None:
    """Writes random words in place, in one ink, at a size between a page and a shop sign."""
    draw = ImageDraw.Draw(picture)
    width, height = picture.size
    size = int(np.exp(rng.uniform(np.log(8), np.log(48))) * scale)
    font, ink = font_of(size), as_ink(random_color(rng))
    step = size * rng.uniform(1.05, 1.6)
    y, left = rng.uniform(-0.5, 0.3) * size, rng.uniform(-0.3, 0.3) * width
    if lines is not None:
        y = rng.uniform(0, height - size)
    weight = int(rng.integers(0, 1 + max(1, size // 14))) if rng.random() < 0.4 else 0
    while y < height:
        count = int(width / size * 2.2) + 2
        letters = rng.choice(LETTERS, count)
        letters[rng.random(count) < 0.17] = " "
        draw.text((left, y), "".join(letters), fill=ink, font=font, stroke_width=weight)
        y += step
        if lines is not None:
            lines -= 1
            if lines <= 0:
                return


def paper(rng: Rng, size: int) -> Array:
    """A printed page or sign, turned and bent."""
    over = 2
    ground = gradient(rng, size) if rng.random() < 0.6 else clouds(rng, size)
    picture = to_image(ground).resize((size * over, size * over))
    write_text(rng, picture, over)
    if rng.random() < 0.3:
        write_text(rng, picture, over, lines=2)
    if rng.random() < 0.6:
        turn = rng.normal(0, 6) if rng.random() < 0.7 else rng.uniform(0, 360)
        picture = picture.rotate(
            turn, Image.Resampling.BICUBIC, fillcolor=as_ink(ground.mean((0, 1)))
        )
    return from_image(picture.reduce(over))


def draw_strokes(rng: Rng, picture: Image.Image, scale: int, count: int) -> None:
    """Draws curves in place: hair, whiskers, wires, twigs, pen lines, scratches."""
    draw = ImageDraw.Draw(picture)
    width, height = picture.size
    base, spread = random_color(rng), rng.uniform(0, 0.15)
    heading, fan = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 1.5)
    reach = rng.uniform(0.1, 0.9) * width
    thick = np.exp(rng.uniform(np.log(0.5), np.log(3.5))) * scale
    t = np.linspace(0, 1, 14)[:, None]
    for _ in range(count):
        start = rng.uniform(-0.1, 1.1, 2) * [width, height]
        angle = heading + fan * rng.standard_normal()
        along = np.array([np.cos(angle), np.sin(angle)]) * reach * rng.uniform(0.5, 1.5)
        side = np.array([-along[1], along[0]]) * rng.normal(0, 0.25)
        path = start + t * along + t * t * side
        ink = as_ink(
            base * (1 + spread * rng.standard_normal()) + spread * 0.3 * rng.standard_normal()
        )
        line = max(1, round(thick * rng.uniform(0.6, 1.4)))
        draw.line([(float(p[0]), float(p[1])) for p in path], fill=ink, width=line, joint="curve")


def draw_figures(rng: Rng, picture: Image.Image, scale: int, count: int) -> None:
    """Draws outlined or filled circles, boxes, rays and polygons in place: drawings, signs, lattices."""
    draw = ImageDraw.Draw(picture)
    width, height = picture.size
    for _ in range(count):
        radius = np.exp(rng.uniform(np.log(3), np.log(120))) * scale
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        ink = as_ink(random_color(rng))
        line = max(1, round(np.exp(rng.uniform(np.log(0.6), np.log(4))) * scale))
        filled = ink if rng.random() < 0.35 else None
        box = (
            x - radius,
            y - radius,
            x + radius * rng.uniform(0.2, 1),
            y + radius * rng.uniform(0.2, 1),
        )
        kind = rng.integers(4)
        if kind == 0:
            draw.ellipse(box, fill=filled, outline=ink, width=line)
        elif kind == 1:
            draw.rectangle(box, fill=filled, outline=ink, width=line)
        elif kind == 2:
            corners = rng.uniform(-radius, radius, (int(rng.integers(3, 7)), 2)) + np.array([x, y])
            ring = [*corners, corners[0]]
            draw.line([(float(p[0]), float(p[1])) for p in ring], fill=ink, width=line)
        else:
            for angle in np.linspace(0, 2 * np.pi, int(rng.integers(4, 40))):
                end = (x + radius * np.cos(angle), y + radius * np.sin(angle))
                draw.line([(x, y), end], fill=ink, width=max(1, line // 2))


def drawing(rng: Rng, size: int) -> Array:
    """Line art, diagrams, lattices, strands of hair over a plain or textured ground."""
    over = 3 if size <= 256 else 2
    ground = gradient(rng, size) if rng.random() < 0.6 else clouds(rng, size)
    picture = to_image(ground).resize((size * over, size * over))
    if rng.random() < 0.6:
        draw_figures(rng, picture, over, int(rng.integers(3, 50)))
    if rng.random() < 0.6:
        draw_strokes(rng, picture, over, int(np.exp(rng.uniform(np.log(5), np.log(700)))))
    return from_image(picture.reduce(over))


MATERIALS: tuple[tuple[Callable[[Rng, int], Array], float], ...] = (
    (clouds, 0.24),
    (gradient, 0.11),
    (grain, 0.18),
    (stones, 0.12),
    (foliage, 0.13),
    (bricks, 0.06),
    (cloth, 0.06),
    (paper, 0.04),
    (drawing, 0.06),
)


def material(rng: Rng, size: int) -> Array:
    """One square of a random material. HWC float32, about [0, 1]."""
    makers, weights = zip(*MATERIALS, strict=True)
    pick = int(rng.choice(len(makers), p=np.array(weights) / sum(weights)))
    return makers[pick](rng, size)
