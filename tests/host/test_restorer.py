"""The degradation remover in ComfyUI: its memory, its interrupt, and what it does with bad input."""

from __future__ import annotations

import logging

import pytest
import torch

pytestmark = pytest.mark.host


class Doubling(torch.nn.Module):
    """A x2 network that is local, so tiles cannot be seen, and counts its calls."""

    def __init__(self, fail_above: int | None = None, error: type[Exception] | None = None) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(2.0))
        self.fail_above, self.error = fail_above, error
        self.sizes: list[tuple[int, int]] = []

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.sizes.append((pixels.shape[-2], pixels.shape[-1]))
        if self.fail_above and max(self.sizes[-1]) > self.fail_above:
            assert self.error
            raise self.error("injected")
        return self.gain * pixels.repeat_interleave(2, -1).repeat_interleave(2, -2) - 0.5


def descriptor(network: torch.nn.Module, scale: int = 2, channels: int = 3, purpose: str = "SR"):
    from spandrel import ImageModelDescriptor
    from spandrel.architectures.ESRGAN import ESRGANArch

    return ImageModelDescriptor(
        network,
        network.state_dict(),
        architecture=ESRGANArch(),
        purpose=purpose,  # type: ignore
        tags=[],
        supports_half=True,
        supports_bfloat16=True,
        scale=scale,
        input_channels=channels,
        output_channels=channels,
    )


@pytest.fixture
def remove(comfy):
    """DegradationRemover.execute with its defaults."""
    from restoration.nodes.restoration import DegradationRemover

    def run(image, model=None, tile_size=512, tile_overlap=64, strength=1.0, resize=False):
        output = DegradationRemover.execute(image, tile_size, tile_overlap, strength, resize, model)
        return output.result[0]

    return run


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (2, 33, 17, 4), (1, 20, 30, 1)])
def test_the_bundled_model_takes_any_picture(remove, shape) -> None:
    image = torch.rand(shape)
    result = remove(image)
    assert result.shape == (*shape[:3], max(3, shape[3])) and torch.isfinite(result).all()
    if shape[3] == 4:
        assert torch.equal(result[..., 3], image[..., 3])
    assert torch.equal(remove(image, strength=0.0), image)


def test_an_upscaling_model_is_not_clamped_and_comes_back_on_request(remove) -> None:
    image = torch.rand(1, 12, 10, 3)
    network = descriptor(Doubling())
    large = remove(image, network)
    expected = 2 * image.repeat_interleave(2, 1).repeat_interleave(2, 2) - 0.5
    assert torch.equal(large, expected) and large.max() > 1 and large.min() < 0
    assert remove(image, network, resize=True).shape == image.shape
    assert torch.allclose(remove(image, network, strength=0.0, resize=True), image)


@pytest.mark.parametrize(
    ("upscale_by", "factor", "size"),
    # 2.03 makes either side twice as long, 2.04 the longer one more than that.
    [(1.5, 2, (31, 45)), (2.03, 2, (42, 60)), (2.04, 4, (42, 61)), (8.0, 4, (168, 240))],
)
def test_a_clean_photo_is_enlarged_to_the_asked_size(comfy, upscale_by, factor, size) -> None:
    from restoration.common.resample import resize
    from restoration.nodes.restoration import RestorationEnlarge
    from restoration.stage1.restorer import load_enlarger

    photo = torch.rand(2, 21, 30, 4)
    (whole,) = RestorationEnlarge.execute(photo, upscale_by, 0, 0).result
    assert whole.shape == (2, *size, 4)
    edge = 16  # more than the network sees
    around = torch.nn.functional.pad(photo[..., :3].movedim(-1, 1), (edge,) * 4, mode="replicate")
    with torch.no_grad():
        large = load_enlarger(factor).model(around)
    edge *= factor
    wanted = resize(large[..., edge:-edge, edge:-edge], *size).clamp(0, 1).movedim(1, -1)
    assert torch.allclose(whole[..., :3], wanted, atol=1e-6)
    assert torch.equal(whole[..., 3], resize(photo[..., 3][:, None], *size)[:, 0].clamp(0, 1))


@pytest.mark.parametrize("upscale_by", [2.0, 4.0])
def test_tiles_change_nothing_in_an_enlarged_photo(comfy, upscale_by) -> None:
    from restoration.nodes.restoration import RestorationEnlarge

    photo = torch.rand(1, 40, 104, 3)
    whole, *tiled = (
        RestorationEnlarge.execute(photo, upscale_by, *tiles).result[0]
        for tiles in ((0, 0), (64, 32), (64, 0), (16, 4))
    )
    for each in tiled:
        assert torch.allclose(whole, each, rtol=0, atol=1e-5)


def test_nothing_is_enlarged_where_nothing_grows_and_nothing_endlessly(comfy) -> None:
    from restoration.nodes.restoration import RestorationEnlarge

    photo = torch.rand(1, 20, 30, 3)
    assert RestorationEnlarge.execute(photo, 1.0, 0, 0).result[0] is photo
    assert RestorationEnlarge.execute(photo, 0.5, 0, 0).result[0].shape == (1, 10, 15, 3)
    with pytest.raises(ValueError, match=r"enlarged picture would be .*Lower upscale_by, or"):
        RestorationEnlarge.execute(torch.rand(1, 2000, 2000, 3), 16.0, 0, 0)


def test_tiles_and_batches_give_the_same_picture(remove) -> None:
    images = torch.rand(3, 70, 50, 3)
    whole = remove(images, descriptor(Doubling()), tile_size=0)
    tiled = remove(images, descriptor(Doubling()), tile_size=32, tile_overlap=8)
    assert torch.allclose(whole, tiled, atol=1e-5)
    for row, image in zip(tiled, images, strict=True):
        alone = remove(image[None], descriptor(Doubling()), tile_size=32, tile_overlap=8)
        assert torch.equal(row, alone[0])


def test_out_of_memory_halves_the_tile_and_says_so(comfy, remove, caplog) -> None:
    network = Doubling(fail_above=128, error=comfy.model_management.OOM_EXCEPTION)
    images = torch.rand(2, 300, 280, 3)
    with caplog.at_level(logging.WARNING):
        result = remove(images, descriptor(network), tile_size=512)
    expected = 2 * images.repeat_interleave(2, 1).repeat_interleave(2, 2) - 0.5
    assert torch.allclose(result, expected, atol=1e-5)
    said = [r.getMessage() for r in caplog.records if "out of memory" in r.getMessage()]
    assert ["512, trying 256" in said[0], "256, trying 128" in said[1]] == [True, True]
    assert len(said) == 2, "the second picture starts with the tile that worked"


def test_the_plan_is_told_before_the_run(comfy, remove, caplog) -> None:
    network = Doubling(fail_above=1, error=RuntimeError)  # the first tile already fails
    with caplog.at_level(logging.INFO), pytest.raises(RuntimeError):
        remove(torch.rand(1, 300, 280, 3), descriptor(network), tile_size=128, tile_overlap=32)
    assert "280x300 pixels in 9 tiles of 128x128 (3 x 3), overlap 32; about " in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        remove(torch.rand(1, 20, 20, 3), descriptor(Doubling()), tile_size=0, tile_overlap=64)
    assert " tiles of " not in caplog.text


def test_an_untiled_run_falls_back_to_tiles_too(comfy, remove) -> None:
    network = Doubling(fail_above=128, error=comfy.model_management.OOM_EXCEPTION)
    image = torch.rand(1, 200, 150, 3)
    result = remove(image, descriptor(network), tile_size=0)
    expected = 2 * image.repeat_interleave(2, 1).repeat_interleave(2, 2) - 0.5
    assert torch.allclose(result, expected, atol=1e-5)
    assert network.sizes[:2] == [(200, 150), (100, 100)]
    assert remove(torch.rand(1, 1, 1, 3), descriptor(Doubling()), tile_size=0).shape[1] == 2


def test_memory_that_never_suffices_raises_the_hosts_error(comfy, remove) -> None:
    oom = comfy.model_management.OOM_EXCEPTION
    network = descriptor(Doubling(fail_above=1, error=oom))
    moves = []
    network.to = lambda device: moves.append(str(device))  # on a CPU the place alone says nothing
    with pytest.raises(oom):
        remove(torch.rand(1, 40, 300, 3), network)
    assert moves == [str(comfy.model_management.get_torch_device()), "cpu"]


def test_another_error_is_not_taken_for_lack_of_memory(remove) -> None:
    network = Doubling(fail_above=1, error=RuntimeError)
    with pytest.raises(RuntimeError, match="injected"):
        remove(torch.rand(1, 300, 300, 3), descriptor(network))
    assert len(network.sizes) == 1


def test_progress_is_shown_and_every_tile_can_be_interrupted(comfy, remove, monkeypatch) -> None:
    import comfy.utils as utils

    class Interrupting(Doubling):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            if len(self.sizes) == 2:
                comfy.model_management.interrupt_current_processing(True)
            return super().forward(pixels)

    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(
        utils, "PROGRESS_BAR_HOOK", lambda value, total, *_, **__: seen.append((value, total))
    )
    module = Interrupting()
    network = descriptor(module)
    try:
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            remove(torch.rand(1, 100, 100, 3), network, tile_size=32, tile_overlap=0)
    finally:
        comfy.model_management.interrupt_current_processing(False)
    assert len(module.sizes) == 3
    assert seen[0] == (1, 16)  # the newest host sends only some of the later ones
    assert network.device.type == "cpu"
    # And the graph stays usable.
    assert remove(torch.rand(1, 40, 40, 3), network).shape == (1, 80, 80, 3)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: "a string", "`upscale_model` is a str, not a network"),
        (lambda: descriptor(Doubling(), channels=1), "takes 1 channels"),
        (lambda: descriptor(Doubling(), purpose="FaceSR"), "square face crops"),
    ],
)
def test_a_model_that_cannot_do_it_gets_a_sentence(remove, model, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        remove(torch.rand(1, 20, 30, 3), model())


def test_bad_pictures_get_a_sentence(remove) -> None:
    with pytest.raises(ValueError, match="`image` contains NaN"):
        remove(torch.full((1, 8, 8, 3), float("nan")))
    with pytest.raises(ValueError, match="`image` is empty"):
        remove(torch.zeros(1, 0, 8, 3))
    with pytest.raises(ValueError, match="overlap must be 0 or more and smaller"):
        remove(torch.rand(1, 80, 80, 3), descriptor(Doubling()), tile_size=32, tile_overlap=32)


def test_the_color_nodes_and_the_frame(comfy) -> None:
    """Prepare -> remove -> finish, as the shipped workflow wires them."""
    from restoration.nodes.color import AdaINColorFix, WaveletColorFix
    from restoration.nodes.restoration import (
        DegradationRemover,
        RestorationFinish,
        RestorationPrepare,
    )

    image = torch.rand(2, 45, 70, 4)
    working, info, _ = RestorationPrepare.execute(image, 1.5, 64, 8).result
    (cleaned,) = DegradationRemover.execute(working, 512, 64, 1.0, False).result
    (result,) = RestorationFinish.execute(cleaned, info, "wavelet").result
    assert result.shape == (2, 67, 105, 4)
    for node in (WaveletColorFix, AdaINColorFix):
        (fixed,) = node.execute(result, image[:1]).result
        assert fixed.shape == result.shape
        with pytest.raises(ValueError, match="`reference` has 2 images, but there are 3"):
            node.execute(torch.rand(3, 8, 8, 3), image)
