"""What somebody meets in the first hour: templates, help, their own language."""

from __future__ import annotations

import json

import pytest

from restoration.tests.browser.conftest import ROOT, WORKFLOWS, open_tab
from restoration.tests.browser.test_workflows import SETTLED
from restoration.tests.core_chinese import CATEGORIES, NODES, plain

pytestmark = pytest.mark.browser

NODE = "DegradationRemover"
ALONE = """kind => {
    app.graph.clear();
    app.canvas.ds.reset();
    const node = LiteGraph.createNode(kind);
    node.pos = [300, 300];
    app.graph.add(node);
    app.canvas.setDirty(true, true);
}"""
TITLE_BAR = """() => {
    const [node] = app.graph.nodes, around = app.canvasEl.getBoundingClientRect();
    const [x, y] = app.canvas.ds.convertOffsetToCanvas([node.pos[0] + 60, node.pos[1] - 15]);
    return [around.x + x, around.y + y];
}"""
SHOWN = """() => {
    const [node] = app.graph.nodes;
    const names = each => each.label ?? each.localized_name ?? each.name;
    return {title: node.getTitle(), inputs: node.inputs.map(names), outputs: node.outputs.map(names),
        widgets: node.widgets.map(names)};
}"""

LIBRARY = """() => Object.fromEntries(Object.entries(LiteGraph.registered_node_types).map(
    ([kind, node]) => [kind, {category: node.category, title: node.title}]))"""
"""Category and title of every node, as the library and the menus show them."""
TRANSLATED = """keys => {
    const {$te, $t} = document.querySelector('#vue-app').__vue_app__.config.globalProperties;
    return keys.map(key => $te(key) ? $t(key) : null);
}"""


def dialog(page):
    """The template browser."""
    return page.locator("[role=dialog]")


def open_help(page):
    """Selects the only node and presses its information button; returns the help page."""
    button = page.locator("[data-testid=info-button]")
    for _ in range(10):  # the view may still be moving from what was shown before
        page.mouse.click(*page.evaluate(TITLE_BAR))
        page.wait_for_timeout(400)
        if button.count():
            break
    button.click()
    panel = page.locator(".node-help-content").first
    panel.locator("table").first.wait_for()
    return panel


def check_picture(page, panel) -> None:
    """The help page shows one picture, and it has come."""
    picture = panel.locator("img")
    assert picture.get_attribute("src").endswith(f"/docs/pictures/{NODE}.jpg")
    page.wait_for_function(
        "picture => picture.naturalWidth > 0", arg=picture.element_handle(), timeout=10_000
    )


@pytest.fixture
def templates(page):
    """The template browser, open."""
    page.locator("button[aria-label=Templates]").click()
    dialog(page).get_by_text("diffusion-restoration").first.wait_for()
    yield dialog(page)
    if dialog(page).count():
        page.keyboard.press("Escape")
        dialog(page).wait_for(state="detached")


def cards(shown):
    return shown.locator("[data-testid^=template-workflow-]")


def test_templates_are_listed_under_our_name_with_a_picture_each(
    page, templates, screenshots
) -> None:
    names = templates.get_by_text("diffusion-restoration", exact=True)
    if names.count() == 1:  # newer ones show all packs at first, older ones the only pack
        names.click()
    names.nth(1).wait_for()  # in the list of packs, and as the title of what is shown
    cards(templates).first.wait_for()
    for _ in range(len(WORKFLOWS)):  # it draws more when one scrolls
        if cards(templates).count() >= len(WORKFLOWS):
            break
        cards(templates).last.scroll_into_view_if_needed()
        page.wait_for_timeout(200)
    found = {card.get_attribute("data-testid") for card in cards(templates).all()}
    assert found == {f"template-workflow-{path.stem}" for path in WORKFLOWS}
    for card in cards(templates).all():
        card.scroll_into_view_if_needed()
        picture = card.locator("img").first.element_handle()
        page.wait_for_function("picture => picture.naturalWidth > 100", arg=picture, timeout=10_000)
    cards(templates).first.scroll_into_view_if_needed()
    page.wait_for_timeout(SETTLED)  # what comes back into view fades in again
    page.screenshot(path=screenshots / "templates.png")


def test_the_help_page_of_a_node_opens_beside_the_graph(page, screenshots) -> None:
    page.evaluate(ALONE, NODE)
    panel = open_help(page)
    check_picture(page, panel)
    page.screenshot(path=screenshots / "help.png")
    said = " ".join(panel.inner_text().split())
    text = (ROOT / "web" / "docs" / f"{NODE}.md").read_text("utf-8")
    title, first, *_ = (" ".join(part.split()) for part in text.split("\n\n"))
    assert title.removeprefix("# ") in said and first in said
    rows = [row.split("|") for row in text.splitlines() if row.startswith("| `")]
    assert rows
    for _, name, effect, _ in rows:
        assert name.strip(" `") in said
        assert effect.strip().split("`")[0].strip() in said, name


@pytest.fixture(scope="module")
def chinese(browser, server):
    """A tab after somebody has chosen Chinese in the settings."""
    server.post_json("/settings", {"Comfy.Locale": "zh"})
    tab = open_tab(browser, server)
    yield tab
    tab.close()
    server.post_json("/settings", {"Comfy.Locale": "en"})


def test_nodes_speak_chinese(chinese, screenshots) -> None:
    chinese.evaluate(ALONE, NODE)
    panel = open_help(chinese)
    check_picture(chinese, panel)
    chinese.screenshot(path=screenshots / "chinese.png")
    words = json.loads((ROOT / "locales" / "zh" / "nodeDefs.json").read_text("utf-8"))[NODE]
    shown = chinese.evaluate(SHOWN)
    assert shown["title"] == words["display_name"] == "去除退化"
    assert sorted(shown["inputs"]) == sorted(each["name"] for each in words["inputs"].values())
    assert set(shown["widgets"]) <= {each["name"] for each in words["inputs"].values()}
    assert shown["outputs"] == [each["name"] for each in words["outputs"].values()]
    page = (ROOT / "web" / "docs" / NODE / "zh.md").read_text("utf-8")
    first = page.split("\n\n")[1]
    assert "".join(first.split()) in "".join(panel.inner_text().split())


def test_the_menu_and_the_templates_speak_chinese(chinese, server) -> None:
    words = json.loads((ROOT / "locales" / "zh" / "main.json").read_text("utf-8"))
    names = words["nodeCategories"] | CATEGORIES
    library = chinese.evaluate(LIBRARY)
    for kind in json.loads((ROOT / "locales" / "zh" / "nodeDefs.json").read_text("utf-8")):
        english = server.get_json(f"/object_info/{kind}")[kind]["category"]
        assert library[kind]["category"] == "/".join(names[part] for part in english.split("/"))
    assert library[NODE]["category"] == "修复"
    for pack, name in words["templateWorkflows"]["category"].items():
        assert chinese.evaluate(TRANSLATED, [f"templateWorkflows.category.{pack}"]) == [name]


def test_ours_replace_no_chinese_name_of_core(browser, server) -> None:
    server.post_json("/settings", {"Comfy.Locale": "zh"})
    tab = open_tab(browser, server, without="**/i18n")  # as if no pack brought names
    try:
        assert tab.evaluate(LIBRARY)[NODE]["title"] == "Remove Degradation"
        words = json.loads((ROOT / "locales" / "zh" / "main.json").read_text("utf-8"))
        keys = [f"nodeCategories.{name}" for name in words["nodeCategories"]]
        assert tab.evaluate(TRANSLATED, keys) == [None] * len(keys)
        keys = [f"nodeCategories.{name}" for name in CATEGORIES]
        assert tab.evaluate(TRANSLATED, keys) == list(CATEGORIES.values())
        library = tab.evaluate(LIBRARY)
        assert set(NODES) - set(library) <= {"ImageCompare"}, "the oldest host has it not yet"
        for kind in set(NODES) & set(library):
            assert plain(library[kind]["title"]) == plain(NODES[kind])
    finally:
        tab.close()
        server.post_json("/settings", {"Comfy.Locale": "en"})
