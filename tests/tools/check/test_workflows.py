"""Shipped workflows made small, and what counts as having worked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from PIL import Image

from restoration.tests.tools.folder.fake_comfy import WORKFLOW, FakeComfy
from restoration.tools.check import workflows
from restoration.tools.comfyui.client import ComfyClient, read_prompt
from restoration.tools.comfyui.find import HostError
from restoration.tools.folder.workflow import LOADS
from restoration.tools.shipped import shipped


@pytest.mark.parametrize("workflow", shipped(), ids=lambda each: each.name)
def test_every_shipped_workflow_is_small(workflow) -> None:
    before = read_prompt(workflow.api)
    prompt = workflows.small(before)
    values = [
        (name, value, before[node]["inputs"][name])
        for node, spec in prompt.items()
        for name, value in spec["inputs"].items()
        if type(value) in (int, float)
    ]
    assert all(v in (1, 2) for name, v, _ in values if name == "steps")
    assert all(v == 1 for name, v, _ in values if name == "upscale_by")
    assert all(v <= 256 for name, v, _ in values if name in ("width", "height"))
    changed = {name for name, v, old in values if v != old}
    assert changed <= {"steps", "upscale_by", "width", "height"}
    assert any(spec["class_type"] in LOADS for spec in prompt.values())


@pytest.fixture
def fake(monkeypatch) -> Iterator[FakeComfy]:
    """A server that has two workflows of the pack: one that needs nothing, and one more."""
    comfy = FakeComfy()

    @contextlib.contextmanager
    def serving(folder, arguments, cpu):
        yield SimpleNamespace(client=ComfyClient(comfy.url), recover=lambda: True)

    monkeypatch.setattr(workflows, "serving", serving)
    monkeypatch.setattr(workflows, "load_workflow", lambda path: WORKFLOW)
    names = ("quick_restore", "pasd_upscale")
    chosen = tuple(each for each in shipped() if each.name in names)
    monkeypatch.setattr(workflows, "shipped", lambda: chosen)
    yield comfy
    comfy.close()


def test_a_workflow_runs_where_its_files_are(fake, tmp_path) -> None:
    ran = {each.workflow: each for each in workflows.run_workflows(tmp_path, True, ())}
    assert ran["quick_restore"].state == "passed" and ran["quick_restore"].size == "256x256"
    assert ran["pasd_upscale"].state == "not run" and "of its files" in ran["pasd_upscale"].why
    (prompt,) = fake.prompts
    assert prompt["2"]["inputs"]["steps"] == 2 and prompt["1"]["inputs"]["image"] == "check.png"


def test_a_picture_of_one_color_is_a_failure(fake, tmp_path) -> None:
    fake.restore = lambda image: [Image.new("RGB", image.size)]
    ran = {each.workflow: each for each in workflows.run_workflows(tmp_path, True, ())}
    assert ran["quick_restore"].state == "failed" and "not finite" in ran["quick_restore"].why


def test_a_node_that_fails_is_named(fake, tmp_path) -> None:
    fake.refuse = lambda prompt, image: "CUDA error: no kernel image"
    ran = {each.workflow: each for each in workflows.run_workflows(tmp_path, True, ())}
    assert "no kernel image" in ran["quick_restore"].why and not ran["quick_restore"].passed


def test_what_the_server_lacks_is_no_failure(fake, tmp_path) -> None:
    fake.nodes.remove("Negative")
    ran = {each.workflow: each for each in workflows.run_workflows(tmp_path, True, ())}
    assert ran["quick_restore"].state == "not run" and "Negative" in ran["quick_restore"].why


def test_after_a_server_that_does_not_come_back_nothing_is_said_to_have_run(
    fake, tmp_path, monkeypatch
) -> None:
    fake.refuse = lambda prompt, image: "vanish"
    monkeypatch.setattr(workflows, "files_of", lambda workflow: ())

    @contextlib.contextmanager
    def serving(folder, arguments, cpu):
        def gone():
            raise HostError("ComfyUI stopped.")

        yield SimpleNamespace(client=ComfyClient(fake.url), recover=gone)

    monkeypatch.setattr(workflows, "serving", serving)
    states = [each.state for each in workflows.run_workflows(tmp_path, True, ())]
    assert states == ["failed", "not run"]


def test_the_most_memory_is_kept() -> None:
    used = iter([3, 9, 5])
    stats = lambda path, timeout: {"devices": [{"vram_total": 10, "vram_free": 10 - next(used)}]}  # noqa: E731
    client = SimpleNamespace(get_json=stats)
    workflows.POLL, before = 0.01, workflows.POLL
    try:
        with workflows.memory_peak(client) as peak:  # type: ignore[arg-type]
            while next(iter(peak)) < 9:
                pass
    finally:
        workflows.POLL = before
    assert peak == [9]
