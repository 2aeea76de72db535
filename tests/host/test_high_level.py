"""High-Level Prompt with small real networks of torchvision and transformers, saved and loaded."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from restoration.tests.host.networks import seeded_input

pytestmark = pytest.mark.host

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]", "[MASK]", "a", "blurry", "noisy", "dog"]
LABELS = {0: "person", 1: "dog", 2: "kite"}
SIZE = 48


@pytest.fixture
def models(comfy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty models/restoration."""
    from restoration.host.folders import KIND, register_folders

    register_folders()
    entry = ([str(tmp_path)], comfy.folder_paths.folder_names_and_paths[KIND][1])
    monkeypatch.setitem(comfy.folder_paths.folder_names_and_paths, KIND, entry)
    monkeypatch.setattr("restoration.tagger.load.register_folders", lambda: None)
    comfy.folder_paths.filename_list_cache.pop(KIND, None)
    return tmp_path


def randomized(network: torch.nn.Module, scale: float = 1.0) -> Any:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            fan = max(1, parameter.numel() // max(1, len(parameter)))
            parameter.normal_(std=scale * fan**-0.5 if parameter.ndim > 1 else 0.1)
    return network.eval()


def save_resnet(folder: Path, wanted: int | None = None, names: str = "resnet.safetensors") -> Any:
    """A ResNet-50 that is sure of class `wanted`, or (None) of nothing."""
    from safetensors.torch import save_file
    from torchvision.models import resnet50

    torch.manual_seed(0)
    network = resnet50().eval()
    with torch.no_grad():
        network.fc.weight.mul_(0.01)
        network.fc.bias.zero_()
        if wanted is not None:
            network.fc.bias[wanted] = 12
    save_file(network.state_dict(), folder / names)
    return network


def save_yolos(folder: Path, bias: Tensor | None = None) -> tuple[Any, Any]:
    """A YOLOS with five queries; with `bias`, every query sees what it says."""
    from transformers import YolosConfig, YolosForObjectDetection, YolosImageProcessor

    config = YolosConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=[SIZE, SIZE],
        patch_size=16,
        num_detection_tokens=5,
        id2label=LABELS,
        label2id={name: number for number, name in LABELS.items()},
    )
    network = randomized(YolosForObjectDetection(config), 4.0)
    with torch.no_grad():
        network.vit.embeddings.detection_tokens.normal_(std=3)  # queries that differ
    if bias is not None:
        with torch.no_grad():
            last = network.class_labels_classifier.layers[-1]
            last.weight.zero_()
            last.bias.copy_(bias)
    size = {"shortest_edge": SIZE, "longest_edge": SIZE * 2}
    processor = YolosImageProcessor(size=size)
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    return network, processor


def save_blip(folder: Path, always: str | None = None) -> tuple[Any, Any]:
    """A BLIP of ten words; with `always`, it writes nothing but this one."""
    from transformers import (
        BertTokenizer,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
    )

    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BlipConfig(
        text_config={
            **small,
            "intermediate_size": 16,
            "vocab_size": len(WORDS),
            "encoder_hidden_size": 16,
            "bos_token_id": 4,
            "eos_token_id": 3,
            "sep_token_id": 3,
            "pad_token_id": 0,
            "max_position_embeddings": 64,
        },
        vision_config={**small, "intermediate_size": 16, "image_size": 32, "patch_size": 16},
        projection_dim=16,
    )
    network = randomized(BlipForConditionalGeneration(config), 4.0)
    head = network.text_decoder.cls.predictions
    with torch.no_grad():
        network.text_decoder.bert.embeddings.position_embeddings.weight.normal_(std=3)
        bias = torch.zeros(len(WORDS))
        bias[:6] = -100  # special tokens: the seeded network would end at once
        if always is not None:
            bias[WORDS.index(always)] = 100
        head.bias.copy_(bias)
        head.decoder.bias.copy_(bias)
    tokenizer = BertTokenizer(str(folder / "vocab.txt"), bos_token="[DEC]")
    processor = BlipImageProcessor(size={"height": 32, "width": 32})
    for part in (network, tokenizer, processor):
        part.save_pretrained(folder)
    return network, (tokenizer, processor)


def describe(
    image: Tensor,
    classifier: str = "none",
    detector: str = "none",
    captioner: str = "none",
    confidence: float = 0.5,
) -> tuple[list[str], list[str], list[str]]:
    from restoration.nodes.prompt import HighLevelPrompt

    with torch.inference_mode():
        out = HighLevelPrompt.execute(image, classifier, detector, captioner, confidence)
    return out.args


def photo(batch: int = 1, seed: int = 0) -> Tensor:
    return seeded_input(seed, "photo", batch, 60, 52, 3).sigmoid()


def test_without_networks_all_texts_are_empty_one_an_image(models: Path) -> None:
    assert describe(photo(3)) == ([""] * 3,) * 3


def test_dropdowns_offer_files_and_folders(models: Path) -> None:
    from restoration.nodes.prompt import HighLevelPrompt

    save_resnet(models)
    save_yolos(models / "detectors" / "yolos")
    (models / "empty").mkdir()
    options = {part.id: part.options for part in HighLevelPrompt.define_schema().inputs[1:4]}
    assert options["classifier"][0] == "none" and "resnet.safetensors" in options["classifier"]
    assert options["detector"] == options["captioner"] == ["none", "detectors/yolos"]


def test_the_class_is_torchvisions_own(models: Path) -> None:
    """Name, preprocessing and threshold against a forward pass written out here."""
    from torchvision.transforms.functional import center_crop, resize

    network = save_resnet(models)
    image = photo()
    pixels = resize(image[0].movedim(-1, 0), [232], antialias=True)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = (center_crop(pixels, [224]) - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        logits = network(pixels[None])[0]
    assert logits.softmax(0).max() < 0.1
    assert describe(image, classifier="resnet.safetensors")[0] == [""]

    from safetensors.torch import save_file

    # Two classes above the rest: the picture itself decides which of them is the surer one.
    with torch.no_grad():
        network.fc.bias[281] = 8 - logits[281]
        network.fc.bias[207] = 8 - logits[207] + 0.01
    save_file(network.state_dict(), models / "other.safetensors")
    assert describe(image, classifier="other.safetensors")[0] == ["golden retriever"]
    with torch.no_grad():
        network.fc.bias[207] -= 0.02
    save_file(network.state_dict(), models / "third.safetensors")
    assert describe(image, classifier="third.safetensors")[0] == ["tabby"]


def test_the_class_of_every_image_of_a_batch(models: Path) -> None:
    save_resnet(models, 281)
    assert describe(photo(2), classifier="resnet.safetensors") == (
        ["tabby"] * 2,
        [""] * 2,
        [""] * 2,
    )


def test_objects_are_counted_from_the_surest_on(models: Path) -> None:
    """Against the network's raw answers, sorted and counted here."""
    network, processor = save_yolos(models / "yolos")
    image = photo(2, seed=3)
    pictures = [(row * 255).round().byte().numpy() for row in image]
    with torch.no_grad():
        logits = network(**processor(images=pictures, return_tensors="pt")).logits
    expected, seen = [], set()
    for row in logits.softmax(-1)[..., :-1]:
        scores, labels = row.max(-1)
        order = sorted(range(len(scores)), key=lambda i: -scores[i])
        names = [LABELS[int(labels[i])] for i in order if scores[i] > 0.2]
        seen |= set(names)
        unique = list(dict.fromkeys(names))
        expected.append(", ".join(f"{names.count(name)} {name}" for name in unique))
    assert len(seen) > 1, "the seeded network must find different things for this to test anything"
    assert describe(image, detector="yolos", confidence=0.2)[1] == expected


def test_confidence_is_the_detectors_threshold(models: Path) -> None:
    # Softmax of these: person 0.6652, dog 0.2447, kite and nothing 0.045 each.
    save_yolos(models / "yolos", torch.tensor([2.6932, 1.6932, 0.0, 0.0]))
    assert describe(photo(), detector="yolos", confidence=0.66)[1] == ["5 person"]
    assert describe(photo(), detector="yolos", confidence=0.67)[1] == [""]


def test_the_caption_is_the_networks_and_names_no_damage(models: Path) -> None:
    network, (_, processor) = save_blip(models / "blip")
    image = photo(seed=5)
    pixels = processor(images=(image[0] * 255).round().byte().numpy(), return_tensors="pt")
    tokens = network.generate(
        pixel_values=pixels["pixel_values"], num_beams=3, max_new_tokens=30, do_sample=False
    )[0].tolist()
    words = [WORDS[token] for token in tokens if token > 5]
    assert {"blurry", "noisy"} & set(words), words
    better = {"blurry": "clear", "noisy": "clean"}
    (caption,) = describe(image, captioner="blip")[2]
    assert caption == " ".join(better.get(word, word) for word in words)


@pytest.mark.parametrize(("word", "expected"), [("dog", "dog"), ("noisy", "clean")])
def test_a_caption_of_one_word(models: Path, word: str, expected: str) -> None:
    save_blip(models / "blip", always=word)
    (caption,) = describe(photo(), captioner="blip")[2]
    assert set(caption.split()) == {expected}


def test_alpha_and_gray_pictures_are_welcome(models: Path) -> None:
    save_yolos(models / "yolos", torch.tensor([9.0, 0.0, 0.0, 0.0]))
    image = photo()
    for kind in (image[..., :1], torch.cat([image, image[..., :1]], -1)):
        assert describe(kind, detector="yolos")[1] == ["5 person"]


def test_one_network_after_the_other_and_none_stays(models: Path, comfy, caplog) -> None:
    import gc

    save_resnet(models, 281)
    save_yolos(models / "yolos")
    save_blip(models / "blip")
    with caplog.at_level(logging.WARNING):
        describe(photo(), "resnet.safetensors", "yolos", "blip")
        gc.collect()
        comfy.model_management.cleanup_models_gc()
    assert not [r for r in caplog.records if "memory leak" in r.getMessage().lower()]
    alive = [m for m in comfy.model_management.loaded_models() if m is not None]
    kinds = {type(part).__name__ for m in alive for part in m.model.modules()}
    assert not kinds & {"ResNet", "YolosForObjectDetection", "BlipForConditionalGeneration"}


def test_progress_and_interruption(models: Path, comfy, monkeypatch) -> None:
    import comfy.utils

    save_yolos(models / "yolos")
    reports = []
    monkeypatch.setattr(
        comfy.utils,
        "PROGRESS_BAR_HOOK",
        lambda value, total, *_, **__: reports.append((value, total)),
    )
    describe(photo(3), detector="yolos")
    # The newest host sends only some of the reports between the first and the last.
    assert reports[0] == (1, 3) and reports[-1] == (3, 3)
    comfy.model_management.interrupt_current_processing(True)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        describe(photo(), detector="yolos")
    assert not comfy.model_management.interrupt_processing


Run = Callable[[], object]


def refused(run: Run, *words: str) -> None:
    from restoration.common.state_dict import CheckpointError

    with pytest.raises(CheckpointError) as caught:
        run()
    text = str(caught.value)
    assert "\n" not in text and text.endswith(".")
    for word in words:
        assert word in text, text


def test_absent_folder_and_foreign_files_get_a_sentence(models: Path) -> None:
    from safetensors.torch import save_file

    refused(
        lambda: describe(photo(), classifier="gone.pth"), "no file gone.pth", "resnet50-11ad3fa6"
    )
    refused(lambda: describe(photo(), detector="gone"), "gone", "an object detector", "yolos-tiny")
    refused(lambda: describe(photo(), captioner="gone"), "a captioner", "blip-image-captioning")
    save_file({"input_blocks.0.0.weight": torch.zeros(1)}, models / "unet.safetensors")
    refused(
        lambda: describe(photo(), classifier="unet.safetensors"),
        "unet.safetensors is not torchvision's ResNet-50",
        "resnet50-11ad3fa6.pth",
    )


def test_the_wrong_kind_of_folder_gets_a_sentence(models: Path) -> None:
    save_yolos(models / "yolos")
    save_blip(models / "blip")
    refused(lambda: describe(photo(), detector="blip"), "blip cannot be used as an object detector")
    refused(lambda: describe(photo(), captioner="yolos"), "yolos cannot be used as a captioner")
    # A control network in diffusers form also has a config.json.
    (models / "controlnet").mkdir()
    (models / "controlnet" / "config.json").write_text(json.dumps({"_class_name": "ControlNet"}))
    refused(lambda: describe(photo(), detector="controlnet"), "controlnet cannot be used as")


@pytest.mark.parametrize("lost", ["model.safetensors", "preprocessor_config.json"])
def test_an_incomplete_folder_gets_a_sentence(models: Path, lost: str) -> None:
    save_yolos(models / "yolos")
    found = [path for path in (models / "yolos").iterdir() if path.name == lost]
    if not found and lost == "preprocessor_config.json":
        found = [models / "yolos" / "processor_config.json"]
    found[0].unlink()
    refused(lambda: describe(photo(), detector="yolos"), "yolos cannot be used", "config.json")


def test_missing_weights_are_never_made_up(models: Path) -> None:
    """transformers would draw them at random and only log it."""
    from safetensors.torch import load_file, save_file

    save_yolos(models / "yolos")
    path = models / "yolos" / "model.safetensors"
    weights = load_file(path)
    weights = {k: v for k, v in weights.items() if not k.startswith("class_labels_classifier")}
    save_file(weights, path, metadata={"format": "pt"})
    refused(lambda: describe(photo(), detector="yolos"), "weights are missing", "class_labels")


def test_code_in_a_folder_is_not_run(models: Path) -> None:
    save_yolos(models / "yolos")
    path = models / "yolos" / "config.json"
    config = json.loads(path.read_text())
    config["model_type"] = "own"
    config["auto_map"] = {
        "AutoConfig": "own.Own",
        "AutoModelForObjectDetection": "own.Own",
    }
    path.write_text(json.dumps(config))
    (models / "yolos" / "own.py").write_text("raise SystemExit('ran foreign code')\n")
    refused(lambda: describe(photo(), detector="yolos"), "yolos cannot be used")


def test_a_replaced_file_is_seen(models: Path) -> None:
    from restoration.nodes.prompt import HighLevelPrompt

    save_resnet(models, 1)
    save_yolos(models / "yolos")

    def state() -> object:
        return HighLevelPrompt.fingerprint_inputs(
            image=None,
            classifier="resnet.safetensors",
            detector="yolos",
            captioner="none",
            confidence=0.5,
        )

    first = state()
    assert state() == first
    shutil.copy(models / "yolos" / "config.json", models / "yolos" / "more.json")
    assert state() != first
    second = state()
    (models / "resnet.safetensors").write_bytes(b"")
    assert state() != second
