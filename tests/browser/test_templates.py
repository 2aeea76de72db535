"""Every template as a user opens it, by its card: complete, readable at once in either look, and the
graph that programs run."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from restoration.drawing.build import Workflow, workflows
from restoration.tests.browser.conftest import ROOT, open_tab
from restoration.tests.browser.test_workflows import (
    ERRORS,
    NODES2,
    PROBLEMS,
    PROMPT,
    SETTLED,
    WARNINGS,
    without_titles,
)
from restoration.tests.workflows.test_workflows import WITHOUT_PICTURE

pytestmark = pytest.mark.browser

SHIPPED = workflows()
SIZE = (1440, 900)
COMMAND = "name => app.extensionManager.command.execute(name)"
FITTED = "() => !app.canvas.low_quality && app.canvas.ds.scale > 8 / 14"
"""No letter is drawn below that scale."""
DRAWN = """nodes2 => {
    const {scale, offset} = app.canvas.ds, around = app.canvasEl.getBoundingClientRect();
    const place = node => {
        const element = document.querySelector(`[data-node-id="${node.id}"]`);
        if (nodes2) {
            const {left, top, right, bottom: end} = element.getBoundingClientRect();
            const bars = [...element.querySelectorAll("button")];  // some hang below the node
            const bottom = Math.max(end, ...bars.map(bar => bar.getBoundingClientRect().bottom));
            return [left - around.left, top - around.top, right - around.left, bottom - around.top]
                .map((edge, axis) => edge / scale - offset[axis % 2]);
        }
        node.updateArea?.(app.canvas.ctx);
        const [x, y, width, height] = node.boundingRect ?? node.getBounding();
        return [x, y, x + width, y + height];
    };
    const nodes = app.graph.nodes.map(node => ({name: `${node.type} (${node.id})`, box: place(node)}));
    const groups = app.graph.groups.map(({title, pos: [x, y], size: [width, height]}) =>
        ({name: title, box: [x, y, x + width, y + height]}));
    const meet = ({box: a}, {box: b}) => a[0] < b[2] - 1 && b[0] < a[2] - 1
        && a[1] < b[3] - 1 && b[1] < a[3] - 1;
    const within = ({box: a}, {box: b}) => b.every(
        (edge, axis) => axis < 2 ? edge > a[axis] - 1 : edge < a[axis] + 1);
    const over = all => all.flatMap((a, index) => all.slice(index + 1)
        .filter(b => meet(a, b)).map(b => `${a.name} over ${b.name}`));
    const across = groups.flatMap(group => nodes
        .filter(node => meet(group, node) && !within(group, node))
        .map(node => `${node.name} across the frame of ${group.name}`));
    return [...over(nodes), ...over(groups), ...across];
}"""
"""What overlaps as it is drawn."""
COMPLETE = "() => [...document.images].every(each => each.complete)"
CODE = """() => {
    const note = app.graph.nodes.find(each => each.type === "MarkdownNote");
    const element = document.querySelector(`[data-node-id="${note.id}"] code`);
    return getComputedStyle(element).color === getComputedStyle(element.parentElement).color;
}"""
"""Code in a note is written like the text around it."""
SAVED_AND_LOADED = "() => app.loadGraphData({...app.graph.serialize(), extra: {}}, true, true)"
"""As a graph: a template that is opened over an App would be fitted into a canvas without a size."""
RUNS = "id => app.nodeOutputs?.[id]?.images?.length"


def labels(workflow: Workflow) -> list[str]:
    """What its App calls the widgets that it shows."""
    shown = json.loads(workflow.path.read_text("utf-8"))
    nodes = {node["id"]: node["inputs"] for node in shown["nodes"]}
    return [
        entry["label"]
        for number, name in shown["extra"]["linearData"]["inputs"]
        for entry in nodes[number]
        if entry["name"] == name
    ]


@dataclass
class Window:
    """A tab of a common size, and its template browser."""

    page: Any
    newest: bool
    """The host opens Apps, and its Nodes 2.0 is offered to users."""
    opened: float = 0.0
    """When the last template was there, in the seconds of the monotonic clock."""

    def open(self, workflow: Workflow) -> None:
        self.page.evaluate("() => app.graph.clear()")
        self.page.evaluate(COMMAND, "Comfy.BrowseTemplates")
        dialog = self.page.locator("[role=dialog]")
        cards = dialog.locator("[data-testid^=template-workflow-]")
        cards.first.wait_for()
        card = dialog.locator(f'[data-testid="template-workflow-{workflow.title}"]')
        for _ in range(30):  # it draws more when one scrolls
            if card.count():
                break
            cards.last.scroll_into_view_if_needed()
            self.page.wait_for_timeout(50)
        card.scroll_into_view_if_needed()
        card.click()
        dialog.wait_for(state="detached")
        self.page.wait_for_function("() => app.graph.nodes.length > 4")
        self.opened = time.monotonic()

    def settle(self) -> None:
        """Waits until a warning would have come."""
        passed = 1000 * (time.monotonic() - self.opened)
        self.page.wait_for_timeout(max(SETTLED - passed, 0))

    @property
    def is_app(self) -> bool:
        return self.newest and self.page.evaluate("() => !!app.graph.extra.linearMode")

    def leave_app(self) -> None:
        self.page.evaluate(COMMAND, "Comfy.ToggleLinear")


@pytest.fixture(scope="module")
def window(browser, server, host) -> Iterator[Window]:
    tab = open_tab(browser, server, size=SIZE)
    yield Window(tab, host.version != "0.3.64")
    tab.close()


@pytest.mark.parametrize("name", SHIPPED)
def test_it_opens_complete_and_readable(window: Window, name: str, screenshots: Path) -> None:
    page = window.page
    window.open(SHIPPED[name])
    simple = page.evaluate("() => app.graph.nodes.length") <= 12 and name not in WITHOUT_PICTURE
    assert window.is_app == (window.newest and simple)
    if window.is_app:
        words = labels(SHIPPED[name])
        assert {"Your photo", "Upscale by"} <= set(words)
        for label in words:
            page.get_by_text(label, exact=True).first.wait_for(timeout=10_000)
    else:
        page.wait_for_function(FITTED, timeout=10_000)
    page.wait_for_function(COMPLETE)
    page.screenshot(path=screenshots / f"{name}.png")
    if window.is_app:
        window.leave_app()
        page.wait_for_function(FITTED, timeout=10_000)
    assert page.evaluate(PROBLEMS) == []
    expected = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text("utf-8"))
    assert without_titles(page.evaluate(PROMPT)) == without_titles(expected)
    assert page.evaluate(DRAWN, False) == []
    if window.newest:
        page.evaluate(NODES2, True)
        page.wait_for_function(
            "() => document.querySelectorAll('[data-node-id]').length >= app.graph.nodes.length"
        )
        page.wait_for_timeout(300)
        page.screenshot(path=screenshots / f"{name}-nodes2.png")
        found, readable = page.evaluate(DRAWN, True), page.evaluate(CODE)
        page.evaluate(NODES2, False)
        assert found == []
        assert readable
    window.settle()
    assert page.evaluate(WARNINGS) == []
    page.evaluate(SAVED_AND_LOADED)
    assert without_titles(page.evaluate(PROMPT)) == without_titles(expected)


def test_the_quick_one_runs_from_its_card_to_a_saved_picture(
    window: Window, screenshots: Path
) -> None:
    page = window.page
    window.open(SHIPPED["quick_restore"])
    page.wait_for_timeout(SETTLED)
    saves = page.evaluate("() => app.graph.nodes.find(each => each.type === 'SaveImage').id")
    page.evaluate("() => { app.nodeOutputs = {}; }")
    button = page.get_by_role("button", name="Run", exact=True)
    (button if button.count() else page.locator("[data-testid=queue-button]")).last.click()
    page.wait_for_function(f"id => ({RUNS})(id) || ({ERRORS})()", arg=saves)
    page.wait_for_timeout(SETTLED)
    page.screenshot(path=screenshots / "quick_restore-done.png")
    assert not page.evaluate(ERRORS)
    assert page.evaluate("id => app.nodeOutputs[id].images[0].type", saves) == "output"
    if window.is_app:
        large = "() => [...document.images].some(each => each.width > 400 && each.naturalWidth)"
        page.wait_for_function(large)


def test_notes_speak_chinese_where_comfyui_does(window: Window, screenshots: Path) -> None:
    page = window.page
    choose = "locale => app.extensionManager.setting.set('Comfy.Locale', locale)"
    shown = "() => app.graph.nodes.find(each => each.type === 'MarkdownNote').widgets[0].value"
    window.open(SHIPPED["pasd_all_nodes"])
    page.evaluate(choose, "zh")
    try:
        page.wait_for_function(f"() => ({shown})().startsWith('# 用 PASD 修复')")
        page.wait_for_timeout(SETTLED)
        page.screenshot(path=screenshots / "note-chinese.png")
        changed = json.loads(SHIPPED["pasd_all_nodes"].path.read_text("utf-8"))
        changed["nodes"][0]["widgets_values"] = ["mine"]
        page.evaluate("workflow => app.loadGraphData(workflow)", changed)
        page.wait_for_timeout(300)
        assert page.evaluate(shown) == "mine"
    finally:
        page.evaluate(choose, "en")


def test_apps_speak_chinese_where_comfyui_does(window: Window, screenshots: Path) -> None:
    page = window.page
    choose = "locale => app.extensionManager.setting.set('Comfy.Locale', locale)"
    said = "() => app.graph.nodes.flatMap(each => each.inputs.map(input => input.label ?? ''))"
    window.open(SHIPPED["diffbir_face"])
    page.evaluate(choose, "zh")
    try:
        page.wait_for_function(f"() => ({said})().includes('清理人脸的网络')")
        assert not set(labels(SHIPPED["diffbir_face"])) & set(page.evaluate(said))
        if window.is_app:
            for label in ("你的照片", "保真度", "放大倍数", "照片里有什么", "清理人脸的网络"):
                page.get_by_text(label, exact=True).first.wait_for(timeout=10_000)
            page.screenshot(path=screenshots / "app-chinese.png")
            window.leave_app()
    finally:
        page.evaluate(choose, "en")
