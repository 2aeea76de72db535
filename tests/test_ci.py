"""Files that only a service reads: here they are at least well-formed, and say what they promise."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from restoration.scripts.run_tests import PARTS

ROOT = Path(__file__).parent.parent
GITHUB = ROOT / ".github"
FILES = sorted(GITHUB.rglob("*.yml"))


def read(path: Path) -> dict:
    return yaml.safe_load(path.read_text("utf-8"))


def triggers(workflow: dict) -> dict:
    return workflow[True]  # YAML 1.1 reads `on` as yes


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_is_yaml(path) -> None:
    assert isinstance(read(path), dict)


@pytest.mark.parametrize("path", sorted((GITHUB / "workflows").iterdir()), ids=lambda p: p.name)
def test_a_workflow_is_bounded_and_names_scripts_that_exist(path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert "uses" in job or job["timeout-minutes"] <= 60
        for step in job.get("steps", ()):
            for word in step.get("run", "").split():
                assert not word.startswith("scripts/") or (ROOT / word).is_file(), word


def test_every_part_of_the_tests_runs_on_every_promised_python_and_system() -> None:
    jobs = read(GITHUB / "workflows" / "test.yml")["jobs"]
    assert set(jobs) == set(PARTS)
    for part, job in jobs.items():
        assert f"bash scripts/test.sh --only {part}" in [step.get("run") for step in job["steps"]]
    pythons = ["3.10", "3.12", "3.13"]
    assert jobs["pure"]["strategy"]["matrix"]["python"] == pythons
    assert jobs["hosts"]["strategy"]["matrix"]["python"] == pythons
    assert jobs["pure"]["strategy"]["matrix"]["os"] == ["ubuntu-latest", "windows-latest"]


def test_only_a_tag_publishes_and_only_after_its_own_tests() -> None:
    workflow = read(GITHUB / "workflows" / "publish.yml")
    assert triggers(workflow) == {"push": {"tags": ["v*"]}}
    assert workflow["jobs"]["test"] == {"uses": "./.github/workflows/test.yml"}
    assert workflow["jobs"]["publish"]["needs"] == "test"
    assert "workflow_call" in triggers(read(GITHUB / "workflows" / "test.yml"))


@pytest.mark.parametrize("name", ["bug", "method"])
def test_a_form_has_fields_with_names(name) -> None:
    form = read(GITHUB / "ISSUE_TEMPLATE" / f"{name}.yml")
    assert form["name"] and form["description"]
    ids = [field["id"] for field in form["body"]]
    assert len(set(ids)) == len(ids) and all(f["attributes"]["label"] for f in form["body"])


def test_types_are_checked_in_all_that_ships_or_draws() -> None:
    """pyright reads everything but what it is told to leave out."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    section = text.partition("[tool.pyright]\n")[2].partition("\n[")[0]
    assert 'exclude = ["tests", ".venv", "**/.*"]' in section and "include" not in section
