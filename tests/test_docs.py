"""The documents: links lead somewhere, method pages are whole, nodes and files are called as they are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import pytest

from restoration.tools.shipped import shipped

ROOT = Path(__file__).parent.parent
HELP = ROOT / "web" / "docs"
PAGES = sorted([*ROOT.glob("README*.md"), ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
HELP_PAGES = sorted(HELP.rglob("*.md"))
FENCED = re.compile(r"^(```|~~~).*?^\1", re.M | re.S)
TARGET = re.compile(
    r"\]\(\s*<?([^)\s>]+)>?[^)]*\)|<(?:img|a|source|video)\b[^>]*?(?:src|href)=\"([^\"]+)\""
)
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.I)

METHODS = ("diffbir", "pasd", "seesr", "styleid")
SECTIONS = {
    "the idea": "The idea",
    "the graph": "The graph",
    "the settings": "Settings",
    "the numbers of parity": "Parity",
    "known deviations": "Where we differ from the published program",
    "licenses": "Files and licenses",
}
WORKFLOWS = {
    "diffbir_*": "diffbir",
    "pasd_*": "pasd",
    "seesr_*": "seesr",
    "tag_and_prompt": "seesr",
    "styleid_*": "styleid",
    "restore_then_style": "styleid",
    "ddnm_*": "styleid",
    "finetune_*": "pasd",
}
"""Shipped workflows, by their names for programs -> the page that tells about them by title."""


def read(page: Path) -> str:
    return page.read_text("utf-8")


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def targets(page: Path) -> Iterator[str]:
    """Links and pictures of a page that lead into the repository."""
    for match in TARGET.finditer(FENCED.sub("", read(page))):
        target = match[1] or match[2]
        if not ELSEWHERE.match(target):
            yield target


def anchors(page: Path) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    titles = re.findall(r"^#+ +(.+?) *#*$", FENCED.sub("", read(page)), re.M)
    bare = (re.sub(r"[^\w\- ]", "", title.lower()) for title in titles)
    return {title.replace(" ", "-") for title in bare}


def lost(page: Path, base: Path) -> list[str]:
    """Targets of a page that are not there; base: the folder they count from."""
    missing = []
    for target in targets(page):
        place, _, anchor = target.partition("#")
        path = (base / unquote(place)).resolve() if place else page
        inside = path == ROOT or ROOT.resolve() in path.resolve().parents
        there = inside and path.exists()
        if there and anchor and path.suffix == ".md":
            there = anchor in anchors(path)
        if not there:
            missing.append(target)
    return missing


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_and_picture_of_a_document_is_there(page) -> None:
    assert not lost(page, page.parent)


@pytest.mark.parametrize("page", HELP_PAGES, ids=name)
def test_every_picture_of_a_help_page_is_there(page) -> None:
    """ComfyUI serves them from web/docs, whatever the language of the page."""
    assert not lost(page, HELP)


def test_links_are_found_at_all() -> None:
    """So that an empty list of lost ones means something."""
    assert len(PAGES) > 10 and len(HELP_PAGES) > 60
    assert sum(len(list(targets(page))) for page in PAGES) > 30
    assert "docs/diffbir.md" in targets(ROOT / "README.md")


def sections(page: Path) -> dict[str, str]:
    """Heading of the second level -> what stands below it."""
    parts = re.split(r"^## +(.+)$", read(page), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("what", SECTIONS)
def test_a_page_of_a_method_has(method, what) -> None:
    found = sections(ROOT / "docs" / f"{method}.md")
    # StyleID was published as two programs.
    texts = [
        text for title, text in found.items() if title.rstrip("s") == SECTIONS[what].rstrip("s")
    ]
    assert len(texts) == 1, f"{what}: no section {SECTIONS[what]!r} among {list(found)}"
    (text,) = texts
    assert len(text.split()) > 40
    if what == "the graph":
        assert "```" in text and "─►" in text
    if what == "the numbers of parity":
        assert re.search(r"\| *\d\.\de-\d", text) and f"tests/golden -k {method}" in text
    if what == "known deviations":
        assert "| published | here |" in text
    if what == "licenses":
        assert "code is" in text and re.search(r"\|[^|\n]*license[^|\n]*\|", text)


@pytest.mark.parametrize("pattern", WORKFLOWS)
def test_a_page_names_its_workflows_and_the_license_of_each_file_they_take(pattern) -> None:
    page = ROOT / "docs" / f"{WORKFLOWS[pattern]}.md"
    found = [each for each in shipped() if fnmatch(each.name, pattern)]
    assert found
    (licenses,) = (text for title, text in sections(page).items() if "licenses" in title)
    for each in found:
        assert f"*{each.title}*" in read(page), f"{name(page)} does not tell about {each.title}"
        for file in each.models:
            parts = PurePosixPath(file).parts
            # A release is named by its folder, a checkpoint may be without its ending.
            known = "/".join(parts[:2]) if len(parts) > 1 else PurePosixPath(file).stem
            assert known in licenses, f"{name(page)} gives no license of {file} ({each.title})"


TITLE = re.compile(r"(?<!\*)\*([1-9] [A-Z][^*|]+?)\*(?!\*)", re.S)
"""A template, as our pages write it: the title that the template browser shows."""


def test_templates_are_called_by_titles_that_are_there() -> None:
    titles = {each.title for each in shipped()}
    found = [
        (name(page), " ".join(title.split()))
        for page in PAGES
        for title in TITLE.findall(read(page))
    ]
    assert len(found) > 30
    # "..." stands for the rest of several titles.
    unknown = [
        (page, title)
        for page, title in found
        if not any(fnmatch(known, title.replace("...", "*")) for known in titles)
    ]
    assert not unknown


def test_no_page_names_a_workflow_by_a_file_that_is_gone() -> None:
    """The names for programs are those of the API forms alone."""
    gone = [
        (name(page), each.name)
        for page in PAGES
        for each in shipped()
        if f"`{each.name}`" in read(page) or f"workflows/{each.name}.json" in read(page)
    ]
    assert not gone


NODE = re.compile(
    r"\b(?:Save Restoration|Load|Apply|Prepare|Finish|Remove|Tag|Crop|Paste|Degrade|Tiled|"
    r"Restoration|LR|Latent|DDIM|DDNM|Wavelet|AdaIN|Fidelity)(?: (?:Like|The|[A-Z][A-Za-z]+(?:-[A-Z]+)?))+"
)
"""What is written like a node of ours or a loader of core."""
OTHERS = (
    "Load Image", "Load Checkpoint", "Load Upscale Model", "Load ControlNet Model", "Load VAE",
    "Load LoRA",
)  # fmt: skip
"""Nodes of core that pages name."""


def test_nodes_are_called_as_they_are() -> None:
    shown = json.loads(read(ROOT / "locales" / "en" / "nodeDefs.json"))
    names = {spec["display_name"].partition(" (")[0] for spec in shown.values()} | set(OTHERS)
    unknown, found = [], 0
    for page in [page for page in PAGES if page.parent.name == "docs"]:
        paragraphs = FENCED.sub("", read(page)).split("\n\n")
        prose = "\n\n".join(text for text in paragraphs if "arXiv" not in text)  # titles of papers
        for match in NODE.finditer(prose):
            found += 1
            # Words that follow a name may be written large, too.
            if not any(f"{match[0]} ".startswith(f"{known} ") for known in names):
                unknown.append(f"{name(page)}: {match[0]}")
    assert found > 50 and not unknown
