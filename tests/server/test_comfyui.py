"""Finding hosts, and the sentences made of their answers; needs no host."""

from __future__ import annotations

import contextlib
import re
import threading
from pathlib import Path
from queue import Queue

import pytest

from restoration.tests.tools.folder.fake_comfy import FakeComfy
from restoration.tools.comfyui import client
from restoration.tools.comfyui.client import (
    ComfyClient,
    Progress,
    failure_sentence,
    read_prompt,
    refusal_sentence,
)
from restoration.tools.comfyui.find import HostError, find_host, find_hosts


def make_host(path: Path, version: str = "0.3.64") -> Path:
    (path / "comfy").mkdir(parents=True)
    (path / "main.py").touch()
    (path / "comfyui_version.py").write_text(f'__version__ = "{version}"\n')
    (path / "requirements.txt").write_text("comfyui-frontend-package==1.27.10\ntorch\n")
    return path.resolve()


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    """A host in every place of the search order, and the pack in the second one's custom_nodes."""
    return {
        "variable": make_host(tmp_path / "anywhere", "0.8.0"),
        "own": make_host(tmp_path / "app"),
        "home": make_host(tmp_path / "home" / "comfy" / "ComfyUI"),
        "local": make_host(tmp_path / "app" / "custom_nodes" / "pack" / ".comfy" / "ComfyUI"),
        "newer": make_host(tmp_path / "home" / "comfy" / "ComfyUI-latest", "0.18.1"),
    }


def find(places: dict[str, Path], tmp_path: Path, **environ: str):
    pack = tmp_path / "app" / "custom_nodes" / "pack"
    return find_host(pack, {"HOME": str(tmp_path / "home"), **environ})


def test_hosts_are_found_in_the_promised_order(places, tmp_path) -> None:
    named = {"COMFYUI_PATH": str(places["variable"])}
    assert find(places, tmp_path, **named).path == places["variable"]
    for place in ("own", "home", "local"):
        assert find(places, tmp_path).path == places[place]
        (places[place] / "main.py").unlink()
    assert find(places, tmp_path) is None


def test_both_hosts_come_once_each_with_the_oldest_first(places, tmp_path) -> None:
    environ = {"HOME": str(tmp_path / "home")}
    found = find_hosts(tmp_path / "pack", environ)
    assert [host.version for host in found] == ["0.3.64", "0.18.1"]
    environ["COMFYUI_PATH"] = str(places["newer"])
    assert [host.version for host in find_hosts(tmp_path / "pack", environ)] == ["0.18.1"]


def test_pinned_versions_are_read_from_the_requirements(places, tmp_path) -> None:
    host = find(places, tmp_path)
    assert host.pinned("comfyui-frontend-package") == "1.27.10"
    assert host.pinned("torch") is None


@pytest.mark.parametrize("variable", ["COMFYUI_PATH", "COMFYUI_PATH_LATEST"])
def test_a_wrong_path_is_an_error_that_says_what_to_do(tmp_path, variable) -> None:
    environ = {"HOME": str(tmp_path), variable: str(tmp_path / "nothing")}
    with pytest.raises(HostError, match=rf"{variable} is .*nothing.*unset it\.$"):
        find_hosts(tmp_path / "pack", environ)


def test_refusals_name_the_node_and_the_input() -> None:
    error = {"message": "Required input is missing", "details": "info"}
    answer = {"node_errors": {"5": {"class_type": "Finish", "errors": [error]}}}
    expected = "ComfyUI refused the workflow: Finish (node 5): Required input is missing info"
    assert refusal_sentence(answer, {}) == expected


def test_refusals_name_the_kind_of_an_unknown_node_that_has_a_title() -> None:
    error = {"message": "Node 'My title' not found.", "extra_info": {"class_type": "NoSuchNode"}}
    assert refusal_sentence({"error": error}, {}).endswith("not found. (NoSuchNode)")
    assert refusal_sentence({}, {}).endswith("no reason given")


def test_failures_name_the_node_and_its_message() -> None:
    data = {"node_type": "Finish", "node_id": "5", "exception_message": "It is empty.\n"}
    status = {"messages": [["execution_start", {}], ["execution_error", data]]}
    assert failure_sentence(status) == "Finish (node 5) failed: It is empty."
    assert "no reason" in failure_sentence({})


def test_a_workflow_of_the_wrong_form_is_refused_by_name() -> None:
    ui, *_ = sorted((Path(__file__).parent.parent.parent / "workflows").glob("*.json"))
    with pytest.raises(RuntimeError, match=rf"{re.escape(ui.name)} is no workflow in API form"):
        read_prompt(ui)


def test_what_is_on_its_way_when_the_history_knows_the_end_is_still_reported(monkeypatch) -> None:
    """The socket's messages and the history are asked beside each other, and either may be first."""
    arriving: Queue = Queue()

    class Ended(ComfyClient):
        def submit(self, prompt, client_id=None) -> str:
            return "1"

        def get_json(self, path: str) -> dict:
            for late, (kind, data) in enumerate(
                [("progress", {"node": "2", "value": 1, "max": 4}), ("execution_success", {})]
            ):
                event = {"type": kind, "data": {"prompt_id": "1", **data}}
                threading.Timer(0.1 * (late + 1), arriving.put, (event,)).start()
            return {"1": {"status": {"status_str": "success"}, "outputs": {}}}

    events = contextlib.nullcontext(arriving)
    monkeypatch.setattr("restoration.tools.comfyui.client._events", lambda *address: events)
    steps: list[Progress] = []
    Ended("http://127.0.0.1:1").run({}, steps.append)
    assert steps == [Progress("2", 1, 4)]


def test_where_no_websocket_is_offered_no_message_is_waited_for() -> None:
    """Else each workflow would wait another second for the last ones."""
    fake = FakeComfy()
    try:
        with client._events(fake.url, "somebody") as events:
            assert events is None
    finally:
        fake.close()
