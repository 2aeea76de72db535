"""Prompts, word by word as the authors' programs build them."""

from __future__ import annotations

import pytest

from restoration.common.prompts import (
    caption_text,
    class_text,
    negative_prompt,
    objects_text,
    positive_prompt,
)
from restoration.registry import prompts

QUALITY = "clean, high-resolution, 8k"


def positive(style: str, **parts: str) -> str:
    return positive_prompt(prompts()[style], parts)  # type: ignore


@pytest.mark.parametrize(
    ("style", "parts", "expected"),
    [
        ("plain", {}, ""),
        ("plain", {"caption": "a cat", "prompt": "old photo"}, "a cat, old photo"),
        ("diffbir_v1", {}, ""),
        ("diffbir_v2", {}, ""),
        ("diffbir_v2", {"prompt": "a cat"}, "a cat"),
        ("pasd", {}, QUALITY),
        ("pasd", {"classes": "tabby", "prompt": "a cat"}, f"a cat, tabby, {QUALITY}"),
        ("pasd", {"objects": "2 person, 1 dog, "}, f"2 person, 1 dog, {QUALITY}"),
        ("pasd", {"caption": "a blurry dog", "prompt": "old"}, f"a clear dog, old, {QUALITY}"),
        ("pasd_gradio", {"prompt": "Asian"}, f"Asian, {QUALITY}, best quality, masterpiece"),
        ("pasd_sdxl", {"caption": "a painting"}, f"a photo, photorealistic, {QUALITY}"),
        ("pasd_colorization", {"caption": "a black and white dog"}, "a color dog"),
        # The blanks and commas are the authors'.
        ("seesr", {"tags": "tag1, tag2"}, "tag1, tag2, ,clean, high-resolution, 8k"),
        ("seesr", {"tags": "a", "prompt": "b"}, "a, b,clean, high-resolution, 8k"),
        ("seesr", {}, QUALITY),
        ("seesr_demo", {"tags": "a, b"}, f"a, b, {QUALITY}, best quality, masterpiece,"),
        (
            "seesr_demo",
            {"tags": "a", "prompt": "b"},
            f"b, a, {QUALITY}, best quality, masterpiece,",
        ),
    ],
)
def test_positive_prompt(style: str, parts: dict[str, str], expected: str) -> None:
    assert positive(style, **parts) == expected


def test_diffbir_puts_the_caption_before_its_own_words() -> None:
    text = positive("diffbir_v2.1", caption="a cat on a chair.\n")
    assert text.startswith("a cat on a chair., Cinematic, High Contrast, highly detailed, ")
    assert text.endswith("hyper sharpness, perfect without deformations.")


def test_parts_are_never_fused_and_blank_ones_leave_no_comma() -> None:
    for style in prompts():
        text = positive(style, caption=" a dog ", tags=" , ", classes="", prompt="x,")
        assert "dog," in text and ", ," not in text.replace(",clean", ", clean"), style
        assert "  " not in text


def test_negative_prompts_are_the_published_ones() -> None:
    texts = {name: negative_prompt(style) for name, style in prompts().items()}
    assert texts["plain"] == texts["diffbir_v1"] == ""
    assert texts["diffbir_v2"] == (
        "low quality, blurry, low-resolution, noisy, unsharp, weird textures"
    )
    assert texts["diffbir_v2.1"].startswith("painting, oil painting, illustration, drawing, art, ")
    assert texts["diffbir_v2.1"].endswith("deformed, lowres, over-smooth.")
    assert texts["pasd"] == "blurry, dotted, noise, raster lines, unclear, lowres, over-smoothed"
    assert texts["seesr"] == "dotted, noise, blur, lowres, smooth"
    assert texts["seesr_demo"] == texts["pasd_gradio"]


def test_own_negative_words_stand_behind_the_authors() -> None:
    assert negative_prompt(prompts()["plain"], " hat ") == "hat"
    assert negative_prompt(prompts()["seesr"], "hat") == (
        "dotted, noise, blur, lowres, smooth, hat"
    )
    assert negative_prompt(prompts()["diffbir_v2.1"], "hat").endswith("over-smooth, hat")


@pytest.mark.parametrize(
    ("scores", "expected"),
    [((0.05, 0.8, 0.15), "cat"), ((0.09, 0.1, 0.05), "cat"), ((0.09, 0.0999, 0.05), "")],
)
def test_a_class_is_named_from_a_tenth_on(scores: tuple[float, ...], expected: str) -> None:
    assert class_text(scores, ["dog", "cat", "owl"]) == expected


def test_objects_are_counted_in_order_of_first_appearance() -> None:
    assert objects_text(["person", "dog", "person"]) == "2 person, 1 dog"
    assert objects_text(["dog", "person", "person"]) == "1 dog, 2 person"
    assert objects_text([]) == ""


def test_a_caption_does_not_name_the_damage() -> None:
    assert caption_text(" a blurry photo of a\nnoisy dog. ") == "a clear photo of a clean dog."
    # Only PASD SDXL says photo, and its prompt style does that.
    assert caption_text("a painting") == "a painting"
