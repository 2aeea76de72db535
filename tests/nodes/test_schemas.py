"""What every node must have: a tooltip on everything, a help page, a name in both languages."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from restoration.tests.core_chinese import CATEGORIES, NODES, plain, quoted

pytestmark = pytest.mark.host

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "web" / "docs"
LANGUAGES = ("en", "zh")


@pytest.fixture(scope="module")
def nodes(comfy) -> dict:
    from restoration.nodes import load_nodes

    return {node.define_schema().node_id: node for node in load_nodes()}


def test_ids_are_unique_and_no_core_node_has_them(comfy, nodes) -> None:
    from restoration.nodes import load_nodes

    assert len(nodes) == len(load_nodes()) > 0
    assert not set(nodes) & set(comfy.nodes.NODE_CLASS_MAPPINGS)


def test_every_node_explains_itself(nodes) -> None:
    for name, node in nodes.items():
        schema = node.define_schema()
        assert schema.node_id == node.__name__ == name
        assert schema.category == "restoration" or schema.category.startswith("restoration/")
        assert schema.display_name and len(schema.description) > 40, name
        for part in (*schema.inputs, *schema.outputs):
            assert part.tooltip and len(part.tooltip) > 10, f"{name}: {part.id}"
        for output in schema.outputs:
            assert output.id is None, f"{name}: an output id breaks the oldest host"


def test_execute_takes_exactly_the_inputs(nodes) -> None:
    for name, node in nodes.items():
        parameters = inspect.signature(node.execute).parameters
        if [each.kind for each in parameters.values()] == [inspect.Parameter.VAR_KEYWORD]:
            continue  # takes whatever its schema has
        inputs = {part.id: part for part in node.define_schema().inputs}
        assert list(parameters) == list(inputs), name
        for key, part in inputs.items():
            optional = parameters[key].default is not inspect.Parameter.empty
            assert optional == bool(part.optional), f"{name}: {key}"


def test_optional_inputs_come_last(nodes) -> None:
    """Widgets are stored by position, so what is appended must stand at the end."""
    for name, node in nodes.items():
        flags = [bool(part.optional) for part in node.define_schema().inputs]
        assert flags == sorted(flags), name


ADVANCED = {
    *("start_percent", "end_percent", "same_noise", "noise_aug", "noise_aug_seed", "timesteps"),
    *(
        "fidelity_mask",
        "fidelity_scale_fg",
        "fidelity_scale_bg",
        "weighting",
        "convention",
        "layers",
    ),
    *("antialias", "min_side", "multiple", "fit", "tile_overlap", "tile_batch_size", "repeat"),
    *(
        "feather",
        "softness",
        "added_noise_level",
        "crop_border",
        "ssim_form",
        "features",
        "lora_strength",
    ),
    *("max_tags", "resize_to_input", "temperature", "vae_strength", "noise_level", "every"),
    *("grad_accumulation_steps", "training_dtype", "gradient_checkpointing"),
}
"""What a beginner never turns; the front end folds it away."""
SHOWN = {
    (node, key)
    for node in ("RestorationCFG", "DDNMGuidance")
    for key in ("start_percent", "end_percent")
}
"""What the node is there for, or a note of a workflow names as one of its dials."""


def test_what_a_beginner_never_turns_is_folded_away(nodes) -> None:
    for name, node in nodes.items():
        for group in node.INPUT_TYPES().values():
            for key, spec in group.items():
                advanced = len(spec) > 1 and spec[1].get("advanced", False)
                assert advanced == (key in ADVANCED and (name, key) not in SHOWN), f"{name}: {key}"


DEAD = {
    ("DAPELoader", "lora_strength"): "dape_name",
    ("DDNMGuidance", "scale"): "average_pool",
    ("DegradationRemover", "tile_overlap"): "tile_size",
    ("HighLevelPrompt", "confidence"): "detector",
    ("LAControlApply", "noise_aug_seed"): "noise_aug",
    ("LREmbeddedNoise", "added_noise_level"): "fidelity",
    ("LatentImageGuidance", "scale"): "fidelity",
    ("PACAControlApply", "fidelity_scale_bg"): "fidelity_mask",
    ("PACAControlApply", "fidelity_scale_fg"): "fidelity_mask",
    ("RestorationEnlarge", "tile_overlap"): "that is 0",
    ("RestorationFaceCrop", "confidence"): "yunet",
    ("RestorationFineTune", "degradation"): "lq_images",
    ("RestorationFineTune", "upscale_model"): "DiffBIR",
    ("RestorationFinish", "color_correction_method"): "fidelity",
    ("RestorationPrepare", "fit"): "already",
    ("RestorationSampler", "same_noise"): "samplers",
    ("RestoreFacesWithDiffBIR", "color_correction_method"): "fidelity",
    ("RestoreWithDiffBIR", "color_correction_method"): "fidelity",
    ("RestoreWithOSEDiff", "color_correction_method"): "fidelity",
    ("RestoreWithPASD", "color_correction_method"): "pasd_color",
    ("RestoreWithPASD", "negative_prompt"): "pasd_lcm",
    ("RestoreWithPASD", "speed"): "pasd_lcm",
    ("RestoreWithSeeSR", "negative_prompt"): "seesr_turbo",
    ("RestoreWithSeeSR", "speed"): "seesr_turbo",
    ("StyleIDApply", "gamma"): "fidelity",
    ("StyleIDInvert", "layers"): "lockstep",
}
"""Widgets, and what may leave them without effect."""


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_widget_that_may_be_dead_says_so(language: str) -> None:
    path = ROOT / "locales" / language / "nodeDefs.json"
    inputs = {k: v["inputs"] for k, v in json.loads(path.read_text(encoding="utf-8")).items()}
    for (name, key), cause in DEAD.items():
        said = inputs[name][key]["tooltip"]
        assert re.search("Without effect|Only for|不起作用|仅用于|只用于", said), f"{name}: {key}"
        # Chinese calls an input of the node by its label.
        assert language == "zh" or cause in said, f"{name}: {key}"


RESTORERS = {
    *("DegradationRemover", "RestoreWithDiffBIR", "RestoreWithPASD", "RestoreWithSeeSR"),
    *("RestoreFacesWithDiffBIR", "RestoreWithOSEDiff", "RestoreWithPiSASR"),
}
SEARCHES = {
    "restore photo": RESTORERS,
    "old photo": RESTORERS,
    "enhance": RESTORERS,
    "repair photo": RESTORERS,
    "tile upscale": {"TiledRestoration"},
    "colorize": {"PASDLoader", "PACAControlApply", "RestoreWithPASD"},
}
"""Words as people type them, and the nodes that the front end should show first."""


def test_search_words_find_the_nodes_that_do_it(nodes) -> None:
    def words(node: Any) -> list[str]:
        described = node.define_schema()
        return getattr(described, "search_aliases", None) or []

    if not any(map(words, nodes.values())):
        pytest.skip("this ComfyUI knows no search words")
    for typed, expected in SEARCHES.items():
        assert {name for name, node in nodes.items() if typed in words(node)} == expected, typed


ABBREVIATIONS = re.compile(r"\b(?:AdaIN|CFG|DAPE|DDIM|DDNM|LA|LR|PACA|RCA|Sigmas|Latent|Pyramid)\b")


def test_a_title_with_a_technical_word_has_plain_ones_beside_it(nodes) -> None:
    for name, node in nodes.items():
        title = node.define_schema().display_name
        before, _, beside = title.partition(" (")
        technical = [bool(ABBREVIATIONS.search(part)) for part in (before, beside)]
        assert not technical[0] or (beside and not technical[1]), f"{name}: {title}"


def test_no_two_nodes_use_one_label_for_two_things(nodes) -> None:
    """`scale`, `style` and `info` are inputs of several nodes; what they show differs."""
    for key in ("scale", "info"):
        labels = [
            part.display_name
            for node in nodes.values()
            for part in node.define_schema().inputs
            if part.id == key
        ]
        assert None not in labels and len(set(labels)) == len(labels), key
    (prompt,) = (
        part for part in nodes["RestorationPrompt"].define_schema().inputs if part.id == "style"
    )
    assert prompt.display_name == "words of"
    # An apply node's strength is that of its control, as in core; others have their own word.
    for name, node in nodes.items():
        for part in node.define_schema().inputs:
            if part.id == "strength":
                assert (part.display_name is None) == name.endswith("ControlApply"), name


def help_pages(name: str) -> tuple[Path, Path]:
    """English, Chinese."""
    return DOCS / f"{name}.md", DOCS / name / "zh.md"


def test_every_node_has_help_in_both_languages(nodes) -> None:
    for name, node in nodes.items():
        for page in help_pages(name):
            text = page.read_text(encoding="utf-8")
            assert text.startswith("# "), page
            for part in node.define_schema().inputs:
                assert f"`{part.id}`" in text, (
                    f"{page.relative_to(ROOT)} does not tell of {part.id}"
                )
    pages = {path.stem for path in DOCS.glob("*.md")}
    assert pages == set(nodes), "help pages without a node, or the reverse"


def test_every_help_page_shows_its_picture(nodes) -> None:
    """Made by `python drawing pictures`. The front end looks for pictures beside the English
    pages, whatever the language."""
    for name in nodes:
        for page in help_pages(name):
            shown = re.findall(r"!\[([^\]]{10,})\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
            assert [address for _, address in shown] == [f"pictures/{name}.jpg"], page
    files = {path.stem: path for path in (DOCS / "pictures").iterdir()}
    assert set(files) == set(nodes), "pictures without a page, or the reverse"
    for path in files.values():
        with Image.open(path) as picture:
            assert picture.format == "JPEG", path
            assert 600 <= picture.width <= 720 and 100 <= picture.height <= 720, path
        assert path.stat().st_size <= 45_000, path
    assert sum(path.stat().st_size for path in files.values()) < 1_800_000


def test_every_help_page_names_its_paper(nodes) -> None:
    paper = re.compile(r"\[arXiv\s(?P<number>\d{4}\.\d{5})\]\(https://arxiv\.org/abs/(?P=number)\)")
    for name in nodes:
        english, chinese = (
            page.read_text(encoding="utf-8").split("\n\n")[-1] for page in help_pages(name)
        )
        for said, paper_word, own in (
            (english, ("Paper: ", "Papers: ", "Papers, "), "This pack's own"),
            (chinese, ("论文：", "论文（"), "本插件自己的做法"),
        ):
            assert said.startswith(own) or (said.startswith(paper_word) and paper.search(said)), (
                name
            )
            numbers = re.findall(r"arXiv\s\S+", said)
            assert len(numbers) == len(paper.findall(said)), f"{name}: a paper without a link"
        assert paper.findall(english) == paper.findall(chinese), name


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_and_tooltips_are_in_step(nodes, language: str) -> None:
    path = ROOT / "locales" / language / "nodeDefs.json"
    locale = json.loads(path.read_text(encoding="utf-8"))
    assert set(locale) == set(nodes)
    for name, node in nodes.items():
        schema, entry = node.define_schema(), locale[name]
        assert entry["display_name"] and entry["description"], name
        assert set(entry["inputs"]) == {part.id for part in schema.inputs}, name
        assert set(entry["outputs"]) == {str(i) for i in range(len(schema.outputs))}, name
        for part in (*entry["inputs"].values(), *entry["outputs"].values()):
            assert part["name"] and part["tooltip"], name


def chinese(file: str) -> dict:
    path = ROOT / "locales" / "zh" / file
    return json.loads(path.read_text(encoding="utf-8"))


def test_every_menu_has_a_chinese_name_and_core_keeps_its_own(nodes) -> None:
    """All packs share the names of `main.json`, and ours would win over core's."""
    parts = {part for node in nodes.values() for part in node.define_schema().category.split("/")}
    ours = chinese("main.json")["nodeCategories"]
    assert set(ours) == parts - set(CATEGORIES)
    assert all(ours.values())


def test_chinese_texts_call_nodes_by_their_chinese_names() -> None:
    """What stands in “...” is the title that the reader finds in the menu, ours or core's."""
    locale = chinese("nodeDefs.json")
    known = {plain(entry["display_name"]) for entry in locale.values()}
    known |= {plain(name) for name in NODES.values()}
    assert not quoted(json.dumps(locale, ensure_ascii=False)) - known, "in nodeDefs.json"
    assert not quoted((ROOT / "README.zh.md").read_text(encoding="utf-8")) - known, (
        "in README.zh.md"
    )
    for page in (ROOT / "web" / "docs").glob("*/zh.md"):
        text = page.read_text(encoding="utf-8")
        assert not quoted(text) - known, page.parent.name
        title, *_ = text.splitlines()
        assert title == f"# {locale[page.parent.name]['display_name']}"


def test_chinese_help_names_inputs_as_the_node_shows_them() -> None:
    """The table says `strength` for the reader of a workflow, and 强度 for who looks at the node."""
    for name, entry in chinese("nodeDefs.json").items():
        text = (ROOT / "web" / "docs" / name / "zh.md").read_text(encoding="utf-8")
        for key, part in entry["inputs"].items():
            same = plain(part["name"]).lower() == key.replace("_", "")
            shown = f"`{key}`" if same else f"{part['name']} `{key}`"
            assert shown in text, f"{name}: the help does not say {shown}"


def test_english_is_what_the_schema_says(nodes) -> None:
    """Written by `python drawing locales`."""
    from restoration.drawing.locales import english

    path = ROOT / "locales" / "en" / "nodeDefs.json"
    assert json.loads(path.read_text(encoding="utf-8")) == english(list(nodes.values()))
