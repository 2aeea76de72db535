"""Every shipped workflow in the real front end: complete, equal to its API form, and runnable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from restoration.tests.browser.conftest import ROOT, WORKFLOWS, models_of

pytestmark = pytest.mark.browser

PHOTO = ROOT / "scripts" / "photo" / "degraded.jpg"

PROBLEMS = """() => app.graph.nodes.flatMap(node => {
    const found = [];
    const where = `${node.type} (node ${node.id})`;
    if (!(node.type in LiteGraph.registered_node_types)) found.push(`${where}: unknown type`);
    if (node.has_errors) found.push(`${where}: drawn with an error`);
    for (const widget of node.widgets ?? []) {
        const values = widget.options?.values;
        if (widget.type === "combo" && Array.isArray(values) && !values.includes(widget.value))
            found.push(`${where}: ${widget.name} has no choice ${widget.value}`);
        if (typeof widget.value === "number" && (widget.value < widget.options?.min
                || widget.value > widget.options?.max))
            found.push(`${where}: ${widget.name} is out of range: ${widget.value}`);
        if (widget.value === undefined && widget.type !== "button")
            found.push(`${where}: ${widget.name} has no value`);
    }
    return found;
})"""
OVERLAPS = """() => {
    const boxes = app.graph.nodes.map(node => ({
        name: `${node.type} (node ${node.id})`, x: node.pos[0], y: node.pos[1] - 30,
        r: node.pos[0] + node.size[0], b: node.pos[1] + node.size[1]}));
    return boxes.flatMap((a, i) => boxes.slice(i + 1)
        .filter(b => a.x < b.r && b.x < a.r && a.y < b.b && b.y < a.b)
        .map(b => `${a.name} over ${b.name}`));
}"""
PROMPT = "async () => (await app.graphToPrompt()).output"
ERRORS = """() => Object.keys(app.lastNodeErrors ?? {}).length || app.lastExecutionError"""
WARNINGS = """() => [...document.querySelectorAll(
    "[role=dialog], .p-toast-message-warn, .p-toast-message-error, [data-testid=error-overlay]"
)].map(each => each.innerText)"""
SETTLED = 800
"""Milliseconds after which a warning would have come, as its own test proves."""


ONLY_SHOWN = {
    ("PreviewAny", name) for name in ("preview", "preview_markdown", "preview_text", "previewMode")
}
"""Widgets that the front end adds to show something; the server knows no such input."""


def without_titles(prompt: dict) -> dict:
    """An API workflow without what only people read."""
    return {
        node: {
            "class_type": (kind := spec["class_type"]),
            "inputs": {k: v for k, v in spec["inputs"].items() if (kind, k) not in ONLY_SHOWN},
        }
        for node, spec in prompt.items()
    }


def load(page, path: Path) -> None:
    page.evaluate(
        "([workflow, name]) => app.loadGraphData(workflow, true, true, name)",
        [json.loads(path.read_text("utf-8")), path.stem],
    )


def use_photo(page, name: str) -> None:
    page.evaluate(
        """name => {
            const isUpload = widget => widget.name === "upload";
            for (const node of app.graph.nodes.filter(node => node.widgets?.some(isUpload))) {
                const widget = node.widgets.find(widget => widget.name === "image");
                widget.value = name;
                widget.callback?.(name);
            }
        }""",
        name,
    )


each_workflow = pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)


@each_workflow
def test_workflow_loads_without_a_missing_node_or_red_input(page, workflow, screenshots) -> None:
    load(page, workflow)
    page.wait_for_timeout(SETTLED)
    page.screenshot(path=screenshots / f"{workflow.stem}-loaded.png")
    assert page.evaluate(PROBLEMS) == []
    assert page.evaluate(OVERLAPS) == []
    assert page.evaluate(WARNINGS) == []


@pytest.mark.parametrize("missing", ["node", "file"])
def test_the_front_end_would_have_told_what_is_missing(page, server, missing) -> None:
    """The test above looks for warnings: this is where and how soon they come."""
    workflow = json.loads((ROOT / "workflows" / "diffbir_v2_upscale.json").read_text("utf-8"))
    loader = next(node for node in workflow["nodes"] if node["type"] == "DiffBIRControlLoader")
    if missing == "node":
        loader["type"] = "NoSuchNode"
    else:
        loader["properties"]["models"][0]["name"] = "no such file.pth"
        loader["widgets_values"][0] = "no such file.pth"
    page.evaluate("workflow => app.loadGraphData(workflow, true, true, 'broken')", workflow)
    page.wait_for_timeout(SETTLED)
    assert page.evaluate(WARNINGS) and page.evaluate(PROBLEMS)
    dismiss(page)


def dismiss(page) -> None:
    """Closes every warning, as a user would."""
    for _ in range(5):
        if not page.evaluate(WARNINGS):
            return
        button = page.locator("[data-testid=error-overlay] button", has_text="Dismiss")
        if page.locator("[role=dialog]").count() == 0 and button.count():
            button.first.click()
        else:
            page.keyboard.press("Escape")
        page.wait_for_timeout(500)
    assert page.evaluate(WARNINGS) == [], "cannot be dismissed"


@each_workflow
def test_workflow_and_its_api_form_are_the_same_graph(page, workflow) -> None:
    load(page, workflow)
    expected = json.loads((workflow.parent / "api" / workflow.name).read_text())
    assert without_titles(page.evaluate(PROMPT)) == without_titles(expected)


@each_workflow
def test_workflow_survives_saving_and_loading_again(page, workflow) -> None:
    load(page, workflow)
    before = without_titles(page.evaluate(PROMPT))
    page.evaluate("() => app.loadGraphData(app.graph.serialize(), true, true)")
    assert without_titles(page.evaluate(PROMPT)) == before


@each_workflow
def test_workflow_runs_to_an_image(page, server, workflow, screenshots) -> None:
    if models_of(workflow):
        pytest.skip("needs published weights; tests/host runs it with small ones")
    load(page, workflow)
    use_photo(page, server.upload(PHOTO.read_bytes(), PHOTO.name))
    save = page.evaluate("() => app.graph.nodes.find(node => node.type === 'SaveImage').id")
    page.locator("[data-testid=queue-button]").first.click()
    page.wait_for_function(f"id => app.nodeOutputs?.[id]?.images?.length || ({ERRORS})()", arg=save)
    page.wait_for_function(
        "() => app.graph.nodes.filter(each => /SaveImage|PreviewImage/.test(each.type))"
        ".every(each => each.imgs?.every(picture => picture.complete))"
    )
    page.wait_for_timeout(SETTLED)  # they fade in
    page.screenshot(path=screenshots / f"{workflow.stem}-done.png")
    assert not page.evaluate(ERRORS)
    assert page.evaluate("id => app.nodeOutputs[id].images[0].type", save) == "output"
