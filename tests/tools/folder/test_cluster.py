"""The command on a cluster that only pretends, whose actors start processes that only pretend to be
ComfyUI. test_ray.py and tests/server/test_cluster.py have the real ones."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from restoration.tests.tools.folder.fake_comfy import WORKFLOW
from restoration.tests.tools.folder.helpers import files, photo, records
from restoration.tests.tools.folder.pretend_ray import Actor, PretendRay
from restoration.tools.comfyui.client import Stopped
from restoration.tools.comfyui.find import HostError
from restoration.tools.commands import main
from restoration.tools.folder import cluster
from restoration.tools.folder.owned import OwnedComfy
from restoration.tools.folder.saving import Order, Saving, Task
from restoration.tools.folder.server import Server
from restoration.tools.folder.work import Made
from restoration.tools.folder.workflow import make_job

ORDER = Order(make_job(WORKFLOW), Saving("png", 95), "workflow.json", 60.0)

REFUSE = """
refuse = lambda prompt, image: time.sleep(0.1)
"""


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> PretendRay:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_USAGE_STATS_ENABLED", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")  # and so put back what the command and its actors set
        monkeypatch.delenv(name)
    pretend = PretendRay()
    monkeypatch.setitem(sys.modules, "ray", pretend)
    monkeypatch.setattr(cluster, "PAUSE", 0.05)
    return pretend


@pytest.fixture
def on_ray(ray, workflow, comfyui, tmp_path):
    """Runs twelve photos on two workers; what happens once some are done, in a thread of its own."""
    for number in range(12):
        photo(tmp_path / "in" / f"{number:02}.png", 10 * number)

    def call(*arguments: object, half: Callable[[], object] = lambda: None) -> int:
        out, ended = tmp_path / "out", threading.Event()

        def watch() -> None:
            while not ((out / "manifest.jsonl").exists() and len(records(out)) > 2):
                if ended.wait(0.02):
                    return
            half()

        threading.Thread(target=watch, daemon=True).start()
        words = ["run", workflow, tmp_path / "in", "-o", out, "--ray", "--comfyui", comfyui]
        try:
            return main([*map(str, [*words, "--cpu", "--workers", 2, *arguments])])
        finally:
            ended.set()

    return call


@pytest.mark.parametrize(
    "killed", [pytest.param("nothing", marks=pytest.mark.slow), "an actor", "a machine"]
)
def test_workers_make_what_one_server_makes_whatever_dies(
    on_ray, ray, run, tmp_path, capsys, killed
) -> None:
    def half() -> None:
        if killed != "nothing":
            ray.actors[0].die(has_place=killed == "an actor")

    assert on_ray(half=half) == 0
    made = records(tmp_path / "out")
    assert len(made) == 12 and {record["status"] for record in made} == {"done"}
    assert "Workers: worker 1 " in capsys.readouterr().out
    assert [actor.lives for actor in ray.actors] == [2 if killed == "an actor" else 1, 1]
    first, second = (actor.asked.count("close") for actor in ray.actors)
    assert second == 1 and {*ray.killed} == {*ray.actors}
    if killed != "an actor":  # which may or may not have begun again at the end
        # The one without a place is not asked to close, which it could not before it had one.
        assert first == (killed == "nothing")
    assert ray.sessions[-1] == {} and not Path(ray.sessions[0]["_temp_dir"]).exists()
    assert run(tmp_path / "in", output=tmp_path / "one") == 0
    assert files(tmp_path / "out") == files(tmp_path / "one")


def test_a_worker_that_ray_has_no_room_for_is_not_waited_for_at_the_end(on_ray, ray) -> None:
    ray.places = 1
    assert on_ray() == 0
    assert sum(actor.asked.count("close") for actor in ray.actors) == 1


def test_an_actor_that_gets_no_place_again_is_given_up_in_time(ray, monkeypatch) -> None:
    """Else a picture that only this worker has not had would wait for it for ever."""
    monkeypatch.setattr(cluster, "RESTART", 0.1)
    asked = cluster.Cluster(None, 1, 0.0, None, (), True)
    worker = cluster.RayWorker(ray, asked, ORDER, 1)
    worker.actor = Actor(object, has_place=False)
    with pytest.raises(HostError, match=r"worker 1 did not start: it has had no place"):
        worker.start()


def test_an_owner_that_was_started_again_meanwhile_does_its_picture(comfyui, tmp_path) -> None:
    path = photo(tmp_path / "a.png", 10)
    owned = OwnedComfy(str(comfyui), (), cpu=True)
    try:
        made = owned.attempt(Task(path, Path("a"), Path("a.png"), "", ORDER), path.read_bytes())
    finally:
        owned.close()
    assert isinstance(made.outcome, Made) and made.outcome.record["input"] == str(path)
    with pytest.raises(HostError, match="it is closed"):
        owned.ready(ORDER)


def test_an_owner_that_is_closed_while_its_comfyui_is_lost_starts_no_other_one(
    comfyui, tmp_path, monkeypatch
) -> None:
    """Nobody would end that one."""
    path = photo(tmp_path / "a.png", 10)
    owned = OwnedComfy(str(comfyui), (), cpu=True)
    owned.ready(ORDER)
    ours = owned._serving()._ours
    assert ours is not None and ours._process is not None
    ours._process.kill()
    asked, closing = threading.Event(), threading.Event()
    real, answers = Server.version, []

    def version(server: Server) -> str:
        asked.set()
        closing.wait(10)
        return real(server)

    def attempt() -> None:
        task = Task(path, Path("a"), Path("a.png"), "", ORDER)
        with pytest.raises(Stopped):
            answers.append(owned.attempt(task, path.read_bytes()))

    monkeypatch.setattr(Server, "version", version)
    working = threading.Thread(target=attempt)
    working.start()
    assert asked.wait(10)
    ending = threading.Thread(target=owned.close)
    ending.start()
    time.sleep(0.2)
    closing.set()
    for each in (working, ending):
        each.join(20)
    assert not answers and ours._process is None and not ours.base.exists()


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({"CPU": 1.0}, "2 workers need a processor core each, and the cluster has 1"),
        ({"CPU": 8.0, "GPU": 1.0}, "2 workers with 1 cards each need 2, and the cluster has 1"),
    ],
)
def test_what_a_cluster_does_not_have_is_said_before_anything_waits(
    on_ray, ray, capsys, resources, words
) -> None:
    ray.resources = resources
    assert on_ray("--gpus-per-worker", int("GPU" in resources)) == 2
    assert words in capsys.readouterr().err and not ray.actors
