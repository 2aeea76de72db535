"""The tagger's parts against their definitions; whole networks have golden cases."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from restoration.tagger.config import TaggerConfig
from restoration.tagger.ram import (
    HIDDEN,
    PatchMerging,
    Tagger,
    WindowAttention,
    relative_positions,
    shift_mask,
    tagger_input,
)

SMALL = TaggerConfig(
    image_size=24,
    embed_dim=8,
    depths=(2, 2),
    heads=(2, 4),
    window=3,
    labels=6,
    query_width=16,
    query_heads=2,
    query_feed_forward=32,
)


@pytest.fixture(scope="module")
def network() -> Tagger:
    torch.manual_seed(3)
    network = Tagger(SMALL).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.3)
    return network


def picture(rows: int = 1, size: int = 24) -> Tensor:
    return torch.rand(rows, 3, size, size)


@pytest.mark.parametrize("antialias", [False, True])
def test_any_picture_becomes_a_normalised_square(antialias) -> None:
    pixels = torch.rand(2, 3, 50, 31)
    square = interpolate(pixels, (24, 24), mode="bilinear", antialias=antialias)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    found = tagger_input(pixels, 24, antialias)
    torch.testing.assert_close(found, (square - mean) / std)
    assert tagger_input(pixels).shape == (2, 3, 384, 384)


def test_default_is_the_resize_without_antialias() -> None:
    pixels = torch.rand(1, 3, 90, 90)
    assert torch.equal(tagger_input(pixels, 24), tagger_input(pixels, 24, False))
    assert not torch.allclose(tagger_input(pixels, 24), tagger_input(pixels, 24, True), atol=0.01)


def test_relative_positions_count_as_published() -> None:
    """(dy + w - 1)(2w - 1) + dx + w - 1, query minus key."""
    w = 4
    table = relative_positions(w)
    for i in range(w * w):
        for j in range(w * w):
            dy, dx = i // w - j // w, i % w - j % w
            assert int(table[i, j]) == (dy + w - 1) * (2 * w - 1) + dx + w - 1


def test_shifted_windows_hide_what_the_shift_made_neighbors() -> None:
    """Pixels attend to each other only if they were in one piece before the cyclic shift."""
    size, window, shift = 9, 3, 1
    mask = shift_mask(size, size, window, torch.zeros(1))
    assert mask.shape == (9, 9, 9)

    def piece(position: int) -> int:
        """Which part of the axis a place of the shifted picture came from."""
        return 0 if position < size - window else 1 if position < size - shift else 2

    for number in range(9):
        places = [
            (number // 3 * 3 + token // 3, number % 3 * 3 + token % 3) for token in range(window**2)
        ]
        for i, (y1, x1) in enumerate(places):
            for j, (y2, x2) in enumerate(places):
                together = piece(y1) == piece(y2) and piece(x1) == piece(x2)
                assert float(mask[number, i, j]) == (0 if together else HIDDEN)


def test_merging_takes_the_four_neighbors_column_by_column() -> None:
    """(even, even), (odd, even), (even, odd), (odd, odd) as (row, column)."""
    merging = PatchMerging(1, torch.nn)
    with torch.no_grad():
        merging.reduction.weight.copy_(torch.tensor([[0.0, 1, 0, 0], [0, 0, 1, 0]]))
    merging.norm = torch.nn.Identity()
    x = torch.arange(16.0).reshape(1, 4, 4, 1)
    found = merging(x)
    assert torch.equal(found[0, ..., 0], x[0, 1::2, 0::2, 0])
    assert torch.equal(found[0, ..., 1], x[0, 0::2, 1::2, 0])


def test_window_attention_is_the_formula() -> None:
    attention = WindowAttention(8, 2, 2, torch.nn)
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.normal_()
    windows, mask = torch.randn(4, 4, 8), torch.tensor([0.0, HIDDEN])[torch.randint(2, (2, 4, 4))]
    with torch.no_grad():
        found = attention(windows, mask)
        q, k, v = attention.qkv(windows).reshape(4, 4, 3, 2, 4).permute(2, 0, 3, 1, 4)
        table = attention.relative_position_bias_table[relative_positions(2)]
        weights = (
            q @ k.transpose(-1, -2) / 2 + table.permute(2, 0, 1) + mask.repeat(2, 1, 1)[:, None]
        )
        expected = attention.proj((weights.softmax(-1) @ v).transpose(1, 2).reshape(4, 4, 8))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_embeddings_begin_with_the_mean_of_the_others(network) -> None:
    with torch.no_grad():
        tokens = network.visual_encoder(picture(2))
        embeds = network.embed(picture(2))
    assert tokens.shape == (2, 10, 16) and embeds.shape == (2, 10, 512)
    torch.testing.assert_close(tokens[:, 0], tokens[:, 1:].mean(1))


def test_pictures_of_a_batch_do_not_see_each_other(network) -> None:
    pictures = picture(3)
    with torch.no_grad():
        together = network.logits(network.embed(pictures))
        alone = torch.cat([network.logits(network.embed(each)) for each in pictures.split(1)])
    assert together.shape == (3, 6)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_labels_do_not_see_each_other(network) -> None:
    """A part of the list gets the logits it has in the whole."""
    part = Tagger(TaggerConfig(**{**vars(SMALL), "labels": 2})).eval()
    weights = dict(network.state_dict())
    weights["label_embed"] = weights["label_embed"][[1, 4]]
    part.load_state_dict(weights)
    with torch.no_grad():
        embeds = network.embed(picture())
        torch.testing.assert_close(
            part.logits(embeds), network.logits(embeds)[:, [1, 4]], rtol=1e-4, atol=1e-5
        )


def test_the_decoder_sees_every_token(network) -> None:
    with torch.no_grad():
        embeds = network.embed(picture())
        before = network.logits(embeds)
        for token in range(embeds.shape[1]):
            changed = embeds.clone()
            changed[:, token] += 1
            assert not torch.allclose(network.logits(changed), before, atol=1e-4), token
