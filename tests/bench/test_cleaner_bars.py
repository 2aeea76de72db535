"""The bundled weights against the bars of bench/cleaner.py, on all its photographs.

The slowest test of the pack without a host: about 105 runs of the network, a minute on two cores.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip(
    "skimage", reason="scikit-image brings the photographs: pip install scikit-image"
)
pytest.importorskip("spandrel", reason="spandrel loads the weights: pip install spandrel")

ROOT = Path(__file__).resolve().parents[2]


def load_bench():
    """bench/cleaner.py by its path: the pack's root stays off sys.path."""
    spec = importlib.util.spec_from_file_location("bench_cleaner", ROOT / "bench" / "cleaner.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


bench = load_bench()


@pytest.fixture(scope="module")
def rows():
    return bench.evaluate({"ours": bench.bundled_model()})


@pytest.mark.parametrize("number", range(7))
def test_bundled_weights_reach_the_bar(rows, number):
    bar = bench.bars(rows)[number]
    assert bar.passed, f"{bar.text}: {bar.value:.2f} dB, promised {bar.least:.1f} dB"


def test_every_bar_is_tested(rows):
    assert len(bench.bars(rows)) == 7


def test_bars_fail_on_a_model_that_does_nothing():
    rows = bench.evaluate({"ours": lambda image: image}, ["rocket"], largest=128)
    failed = [bar.text for bar in bench.bars(rows) if not bar.passed]
    assert len(failed) == 3  # the three gains; nothing is harmed


def test_bars_fail_on_a_model_that_smears():
    rows = bench.evaluate({"ours": bench.bicubic}, ["camera"], largest=128)
    assert not bench.bars(rows)[-1].passed


def test_degradations_are_the_same_every_time():
    photo = bench.load_photo("chelsea")
    first, second = (bench.degradations(photo, "chelsea") for _ in range(2))
    assert all(np.array_equal(first[key], second[key]) for key in first)
    assert all(bad.shape == photo.shape and bad.dtype == np.uint8 for bad in first.values())


def test_photos_are_at_most_the_agreed_size():
    for name in bench.PHOTOS:
        photo = bench.load_photo(name)
        assert photo.shape[2] == 3
        assert max(photo.shape[:2]) <= bench.LARGEST


def test_weights_are_small_and_half_precision():
    from safetensors import safe_open

    assert bench.WEIGHTS.stat().st_size < 2_000_000
    with safe_open(bench.WEIGHTS, "pt") as file:
        assert {str(file.get_tensor(key).dtype) for key in file.keys()} == {"torch.float16"}  # noqa: SIM118


def test_spandrel_recognizes_the_weights():
    from spandrel import ModelLoader

    model = ModelLoader().load_from_file(bench.WEIGHTS)
    assert (model.architecture.id, model.scale, model.input_channels) == ("NAFNet", 1, 3)
