"""What nodes do to a picture, out of a headless ComfyUI."""

from __future__ import annotations

from PIL import Image

from ...tools.panel import BACK, Labeled
from .look import CAST, PHOTO, REFERENCE, opened, sheet, tinted
from .studio import Link, Studio

CLOSE_UP = (150, 60, 330, 200)


def cleaned(studio: Studio) -> Image.Image:
    photo = opened(PHOTO)
    (after,), _ = studio.run(remove(studio, studio.photo(photo)))
    return sheet([("before", photo), ("Remove Degradation", after)], 2, CLOSE_UP)


def remove(studio: Studio, image: Link) -> Link:
    """Remove Degradation with the bundled model."""
    return [
        studio.node("DegradationRemover", image=image, tile_size=512, tile_overlap=64,
                    strength=1.0, resize_to_input=False), 0,
    ]  # fmt: skip


def enlarged(studio: Studio) -> Image.Image:
    """A clean photo at a quarter of its size, enlarged again."""
    clean = opened(REFERENCE)
    small = clean.resize((clean.width // 4, clean.height // 4), Image.Resampling.BICUBIC)
    large = studio.node("RestorationEnlarge", image=studio.photo(small), upscale_by=4.0,
                        tile_size=512, tile_overlap=32)  # fmt: skip
    (after,), _ = studio.run([large, 0])
    bicubic = small.resize(after.size, Image.Resampling.BICUBIC)
    return sheet([("x4 bicubic", bicubic), ("Enlarge Cleaned Photo", after)], 2, CLOSE_UP)


def color_fixed(studio: Studio, kind: str) -> Image.Image:
    sharp, photo = opened(REFERENCE), opened(PHOTO)
    cast = tinted(sharp)
    if kind == "WaveletColorFix":  # stronger to the right, which one correction for all cannot mend
        cast = Image.composite(
            cast, sharp, Image.linear_gradient("L").rotate(90).resize(sharp.size)
        )
    image, reference = studio.photo(cast), studio.photo(photo)
    (after,), _ = studio.run([studio.node(kind, image=image, reference=reference), 0])
    return sheet([("with a cast", cast), ("reference", photo), ("result", after)], 3)


def prepared(studio: Studio) -> Image.Image:
    image = studio.photo(opened(PHOTO).resize((260, 203)))
    fits = ("pad", "stretch", "black")
    made = [
        studio.node("RestorationPrepare", image=image, upscale_by=1.0, min_side=0, multiple=64,
                    fit=fit) for fit in fits
    ]  # fmt: skip
    results, _ = studio.run(*([node, 0] for node in made))
    return sheet([(f"{f}: {r.width}x{r.height}", r) for f, r in zip(fits, results, strict=True)], 3)


def finished(studio: Studio) -> Image.Image:
    photo = opened(PHOTO)
    prepare = studio.node("RestorationPrepare", image=studio.photo(photo), upscale_by=1.0,
                          min_side=0, multiple=128, fit="pad")  # fmt: skip
    color = sum(value << shift for value, shift in zip(CAST, (16, 8, 0), strict=True))
    cast = studio.node("EmptyImage", width=64, height=64, batch_size=1, color=color)
    restored = studio.node("ImageBlend", image1=remove(studio, [prepare, 0]), image2=[cast, 0],
                           blend_factor=1.0, blend_mode="multiply")  # fmt: skip
    finish = studio.node("RestorationFinish", image=[restored, 0], info=[prepare, 1],
                         color_correction_method="wavelet")  # fmt: skip
    (working, result), _ = studio.run([restored, 0], [finish, 0])
    shown = Image.new("RGB", working.size, BACK)
    shown.paste(result)
    return sheet(
        [
            (f"in: {working.width}x{working.height}, a cast", working),
            (f"out: {result.width}x{result.height}", shown),
        ],
        2,
    )


def damaged(studio: Studio) -> Image.Image:
    clean = opened(REFERENCE)
    image = studio.photo(clean)
    presets = ("realesrgan", "pasd", "diffbir_v2", "diffbir_v1_face")
    made = [
        studio.node("RealWorldDegradation", image=image, preset=preset, seed=3,
                    output_size="input_size") for preset in presets
    ]  # fmt: skip
    small = studio.node("RealWorldDegradation", image=image, preset="realesrgan", seed=3,
                        output_size="quarter_size")  # fmt: skip
    results, _ = studio.run(*([node, 0] for node in (*made, small)))
    quarter = Image.new("RGB", clean.size, BACK)
    quarter.paste(results[-1], ((clean.width - results[-1].width) // 2, 150))
    panels = [("clean", clean), *zip(presets, results[:-1], strict=True)]
    return sheet([*panels, ("quarter_size", quarter)], 3)


def consistency(studio: Studio) -> Image.Image:
    """A stain that the photo does not have, painted into the clean original."""
    result = opened(REFERENCE)
    lr = result.resize((result.width // 2, result.height // 2), Image.Resampling.BICUBIC)
    stain = (
        Image.radial_gradient("L").resize((150, 120)).point([max(0, 170 - v) for v in range(256)])
    )
    result.paste(Image.new("RGB", stain.size, (60, 190, 90)), (230, 130), stain)
    compared = studio.node("LRConsistency", result=studio.photo(result), lr=studio.photo(lr),
                           threshold=16.0, softness=0.0, downscale=1.0)  # fmt: skip
    mask = studio.node("MaskToImage", mask=[compared, 2])
    (heat, marked), psnr = studio.run([compared, 1], [mask, 0], text=[compared, 0])
    panels = [
        ("lr", lr),
        ("result, a stain added", result),
        (f"heatmap, {float(psnr):.1f} dB", heat),
        ("mask", marked),
    ]
    return sheet(panels, 2)


def measured(studio: Studio) -> Image.Image:
    photo, clean = opened(PHOTO), opened(REFERENCE)
    panels: list[Labeled] = []
    for label, method in (("photo", None), ("cleaned", remove)):
        image = studio.photo(photo)
        image = method(studio, image) if method else image
        figures = studio.node("RestorationMetrics", image=image, reference=studio.photo(clean),
                              crop_border=0, lpips=False)  # fmt: skip
        (picture,), text = studio.run(image, text=[figures, 3])
        panels.append((f"{label}:\n{text}", picture))
    return sheet(panels, 2, CLOSE_UP)


def latent_adain(studio: Studio) -> Image.Image:
    """Through core's `pixel_space` VAE, whose latent is the picture itself."""
    content = opened(REFERENCE)
    red, green, blue = content.crop((40, 0, 240, 156)).resize(content.size).split()
    blue_cup = Image.merge("RGB", (blue, green, red))
    style = Image.blend(blue_cup, Image.new("RGB", blue_cup.size, (190, 200, 190)), 0.45)
    vae = [studio.node("VAELoader", vae_name="pixel_space"), 0]
    latent, reference = (
        [studio.node("VAEEncode", pixels=studio.photo(picture), vae=vae), 0]
        for picture in (content, style)
    )
    fixed = studio.node("LatentAdaIN", latent=latent, reference=reference, strength=1.0)
    (after,), _ = studio.run([studio.node("VAEDecode", samples=[fixed, 0], vae=vae), 0])
    return sheet([("latent (pixels)", content), ("reference", style), ("result", after)], 3)
