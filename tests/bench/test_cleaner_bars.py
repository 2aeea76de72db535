"""The bundled weights against the bars of bench/cleaner.py.

On all its photographs that is 165 runs of the network, a minute and a half on two cores, and of
interest only when the weights or the bench change; two small photographs stand for them always.
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
    """bench/cleaner.py by its path: the pack's root stays off sys.path, and so does its folder."""
    spec = importlib.util.spec_from_file_location("bench_cleaner", ROOT / "bench" / "cleaner.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    sys.path.insert(0, str(ROOT / "bench"))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(ROOT / "bench"))
    return module


bench = load_bench()


def bars_of(run, photos, largest):
    rows = bench.evaluate({"ours": run}, photos, largest=largest)
    return {bar.text: bar for bar in bench.bars(rows, bench.flat_areas(run, side=64))}


def failed(bars):
    return [f"{b.text}: {b.value:.2f}, promised {b.promise.least}" for b in bars if not b.passed]


@pytest.mark.slow
def test_bundled_weights_reach_every_bar():
    assert not failed(bars_of(bench.bundled_model(), bench.PHOTOS, bench.LARGEST).values())


def test_bundled_weights_reach_most_bars_on_small_pieces_of_two_photos():
    """The means are promised over all photos; harm is not, on any."""
    bars = bars_of(bench.bundled_model(), ["rocket", "moon"], 128)
    assert len(bars) == len(bench.GAINS) + len(bench.KINDS) + 2
    assert not failed(bar for text, bar in bars.items() if not text.endswith("over the input"))
    assert all(bars[f"{kind}: mean gain over the input"].value > 0.3 for kind in ("jpeg", "mixed"))
    assert bars["noise: mean gain over the input"].passed


def test_enlarging_networks_reach_their_bars_on_small_pieces_of_three_photos():
    networks = {kind: bench.enlarging_network(path) for kind, path in bench.ENLARGERS.items()}
    rows = bench.evaluate_enlarging(networks, ["astronaut", "coins", "moon"], largest=160)
    assert not failed(bench.enlarging_bars(rows, networks))


def test_bars_of_enlarging_fail_on_nearest_neighbors():
    networks = {"x2": lambda image: image.repeat(2, 0).repeat(2, 1) - (image[0, 0, 0] == 255)}
    rows = bench.evaluate_enlarging(networks, ["astronaut"], largest=65)
    assert [bar.passed for bar in bench.enlarging_bars(rows, networks)] == [False, False, False]


def test_bars_fail_on_a_model_that_does_nothing():
    bars = bars_of(lambda image: image, ["rocket"], 128)
    assert [b.text.partition(":")[0] for b in bars.values() if not b.passed] == [
        "noise",
        "jpeg",
        "mixed",
        "blur",
        "enlarged strong",
    ]
    unreached = {b.text.partition(":")[0] for b in bars.values() if not b.reached}
    assert unreached == set(bench.GAINS), "what changes nothing harms nothing and helps nothing"


def test_bars_fail_on_a_model_that_smears_or_tints():
    clean = bars_of(bench.bicubic, ["camera"], 128)["clean: lowest PSNR between input and output"]
    assert not clean.passed
    tinted = bars_of(lambda image: image // 2, ["rocket"], 64)
    assert not next(bar for text, bar in tinted.items() if text.startswith("flat")).passed


def test_non_local_means_is_compared_where_it_ran():
    run = {"ours": lambda image: image, "nl-means": bench.non_local_means}
    rows = bench.evaluate(run, ["rocket"], largest=64)
    bars = bench.bars(rows, bench.flat_areas(run["ours"], side=8))
    (over,) = (bar for bar in bars if "non-local means" in bar.text)
    assert over.value < -3 and not over.passed


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

    files = [bench.WEIGHTS, *bench.ENLARGERS.values()]
    assert sum(path.stat().st_size for path in files) < 4_000_000
    for path in files:
        with safe_open(path, "pt") as file:
            assert {str(file.get_tensor(key).dtype) for key in file.keys()} == {"torch.float16"}  # noqa: SIM118


def test_spandrel_recognizes_the_weights():
    from spandrel import ModelLoader

    for kind, path in bench.ENLARGERS.items():
        model = ModelLoader().load_from_file(path)
        assert (model.architecture.id, f"x{model.scale}") == ("Compact", kind)

    model = ModelLoader().load_from_file(bench.WEIGHTS)
    assert (model.architecture.id, model.scale, model.input_channels) == ("NAFNet", 1, 3)
