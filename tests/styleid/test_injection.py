"""AdaIN, the query's mixture and the list of layers."""

from __future__ import annotations

import pytest
import torch

from restoration.styleid.injection import LAYERS, adain, adain_eps, blend_query, parse_layers


def pictures(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_statistics_become_the_styles_for_every_row_alone() -> None:
    content, style = 3 * pictures(2, 4, 9, 7) + 1, 0.5 * pictures(2, 4, 5, 12, seed=1) - 2
    content[1] *= 10
    out = adain(content, style, 0.0)
    for row in range(2):
        for channel in range(4):
            a, b = out[row, channel].flatten(), style[row, channel].flatten()
            assert a.mean().item() == pytest.approx(b.mean().item())
            deviation = [((v - v.mean()) ** 2).sum() / (len(v) - 1) for v in (a, b)]
            assert deviation[0].item() == pytest.approx(deviation[1].item())
    alone = adain(content[:1], style[:1], 0.0)
    torch.testing.assert_close(out[:1], alone)


def test_eps_is_added_to_the_contents_deviation() -> None:
    content = pictures(1, 1, 4, 4)
    centered = content - content.mean()
    expected = centered / (content.std() + 0.5) * content.std() + content.mean()
    torch.testing.assert_close(adain(content, content, 0.5), expected)
    assert adain_eps("diffusers") == 1e-4 and adain_eps("ldm") == 0


def test_one_cell_and_flat_content_stay_finite() -> None:
    style = pictures(1, 4, 8, 8)
    for content in (torch.ones(1, 4, 1, 1), torch.full((1, 4, 8, 8), 3.0)):
        out = adain(content.double(), style)
        torch.testing.assert_close(out, style.mean((-2, -1), keepdim=True).expand_as(out))


def test_query_ends() -> None:
    own, content = pictures(2, 6, 8), pictures(2, 6, 8, seed=1)
    torch.testing.assert_close(blend_query(own, content, 0.0, 1.0), own)
    torch.testing.assert_close(blend_query(own, content, 1.0, 2.0), 2 * content)
    torch.testing.assert_close(
        blend_query(own, content, 0.75, 1.5), 1.5 * (0.75 * content + 0.25 * own)
    )


def test_query_before_and_after_a_projection_is_the_same() -> None:
    own, content, weight = pictures(1, 6, 8), pictures(1, 6, 8, seed=1), pictures(8, 8, seed=2)
    before = blend_query(own, content, 0.3, 1.8) @ weight
    torch.testing.assert_close(before, blend_query(own @ weight, content @ weight, 0.3, 1.8))


@pytest.mark.parametrize(
    ("text", "layers"),
    [("6,7,8,9,10,11", LAYERS), (" 9, 6 ,9", (6, 9)), ("10 11", (10, 11)), ("", ()), (" ", ())],
)
def test_layers_are_read(text, layers) -> None:
    assert parse_layers(text) == layers


@pytest.mark.parametrize("text", ["12", "-1", "6-11", "six", "6;7", "1.5"])
def test_other_texts_are_refused(text) -> None:
    with pytest.raises(ValueError, match="separated by commas"):
        parse_layers(text)
