"""What the front end says of a workflow: what is missing in it, and what it would run."""

from __future__ import annotations

import json

import pytest

from restoration.drawing.build import workflows

pytestmark = pytest.mark.browser

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
PROMPT = "async () => (await app.graphToPrompt()).output"
ERRORS = """() => Object.keys(app.lastNodeErrors ?? {}).length || app.lastExecutionError"""
WARNINGS = """() => [...document.querySelectorAll(
    "[role=dialog], .p-toast-message-warn, .p-toast-message-error, [data-testid=error-overlay]"
)].map(each => each.innerText)"""
NODES2 = "on => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)"
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


@pytest.mark.parametrize("missing", ["node", "file"])
def test_the_front_end_would_have_told_what_is_missing(page, server, missing) -> None:
    """The tests of templates look for warnings: this is where and how soon they come."""
    workflow = json.loads(workflows()["diffbir_v2_all_nodes"].path.read_text("utf-8"))
    loader = next(node for node in workflow["nodes"] if node["type"] == "DiffBIRControlLoader")
    if missing == "node":
        loader["type"] = "NoSuchNode"
    else:
        loader["properties"]["models"][0]["name"] = "no such file.pth"
        loader["widgets_values"][0] = "no such file.pth"
    page.evaluate("workflow => app.loadGraphData(workflow, true, true, 'broken')", workflow)
    page.wait_for_timeout(SETTLED)
    assert page.evaluate(WARNINGS) and page.evaluate(PROBLEMS)
    for look in (True, False):
        page.evaluate(NODES2, look)
    assert page.evaluate(WARNINGS), "templates look for it after this"
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
