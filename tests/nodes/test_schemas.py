"""What every node must have: a tooltip on everything, a help page, a name in both languages."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.host

ROOT = Path(__file__).parent.parent.parent
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


def test_every_node_has_help_in_both_languages(nodes) -> None:
    docs = ROOT / "web" / "docs"
    for name, node in nodes.items():
        for page in (docs / f"{name}.md", docs / name / "zh.md"):
            text = page.read_text(encoding="utf-8")
            assert text.startswith("# "), page
            for part in node.define_schema().inputs:
                assert f"`{part.id}`" in text, (
                    f"{page.relative_to(ROOT)} does not tell of {part.id}"
                )
    pages = {path.stem for path in docs.glob("*.md")}
    assert pages == set(nodes), "help pages without a node, or the reverse"


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


def test_english_is_what_the_schema_says(nodes) -> None:
    """Written by `python scripts/make_locale.py`."""
    from restoration.scripts.make_locale import english

    path = ROOT / "locales" / "en" / "nodeDefs.json"
    assert json.loads(path.read_text(encoding="utf-8")) == english(list(nodes.values()))
