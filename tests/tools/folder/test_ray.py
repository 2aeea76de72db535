"""Ray itself on this machine, with ComfyUIs that only pretend and die of some pictures."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

pytest.importorskip("psutil", reason="the processes are found by it: pip install psutil")
if importlib.util.find_spec("ray") is None:  # not imported here, where it would read its settings
    pytest.skip("the extra `cluster` is not installed: pip install ray", allow_module_level=True)

from restoration.tests.tools.folder.cluster_runs import is_actor, watched
from restoration.tests.tools.folder.helpers import files, photo, records

pytestmark = [
    pytest.mark.slow,  # test_cluster.py has the same with a Ray that only pretends
    pytest.mark.skipif(not hasattr(os, "fork"), reason="signals of POSIX"),
]

REFUSE = """
def refuse(prompt, image):
    time.sleep(0.2)
    if image.getpixel((0, 0))[2] == 200:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_run_on_ray_survives_poison_and_a_killed_actor_and_leaves_nothing(
    run, workflow, tmp_path, comfyui
) -> None:
    """A real cluster of two workers."""
    for number in range(14):
        photo(tmp_path / "in" / f"{number:02}.png", 5 * number)
    photo(tmp_path / "in" / "05 poison.png", 200)
    out = tmp_path / "out"
    words = [workflow, tmp_path / "in", "-o", out, "--comfyui", comfyui, "--cpu"]
    with watched(*words, "--workers", 2, "--retries", 1, "--ray") as running:
        some = lambda: (out / "manifest.jsonl").exists() and len(records(out)) > 3  # noqa: E731
        assert running.wait(some) is None, running.said
        running.started(is_actor)[0].kill()
        assert running.wait() == 1, running.said
        assert running.started(is_actor) == [] and running.left() == []
        assert "Failures: 1 lost with the ComfyUI that had it" in running.said
    last = {Path(record["input"]).name: record for record in records(out)}
    assert len(records(out)) == len(last) == 15  # nothing twice
    failed = [name for name, record in last.items() if record["status"] == "failed"]
    assert failed == ["05 poison.png"]
    assert "ended at work on it at worker 1 and worker 2" in last["05 poison.png"]["error"]
    (tmp_path / "in" / "05 poison.png").unlink()
    assert run(tmp_path / "in", output=tmp_path / "one") == 0
    assert [*files(out)] == [*files(tmp_path / "one")]
