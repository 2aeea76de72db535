"""The server's list of blueprints."""

from __future__ import annotations

import json
import urllib.error
from pathlib import Path

import pytest

from restoration.tools.comfyui.find import Host
from restoration.tools.comfyui.process import ComfyServer

pytestmark = pytest.mark.server

FOLDER = Path(__file__).parent.parent.parent / "subgraphs"


def test_the_server_lists_every_blueprint_under_our_name(server: ComfyServer, host: Host) -> None:
    if not (host.path / "app" / "subgraph_manager.py").is_file():
        with pytest.raises(urllib.error.HTTPError, match="404"):
            server.get_json("/global_subgraphs")
        return
    pack = f"custom_nodes.{server.folder_name}"
    ours = {
        entry["name"]: key
        for key, entry in server.get_json("/global_subgraphs").items()
        if entry["source"] == "custom_node" and entry["info"]["node_pack"] == pack
    }
    assert set(ours) == {path.stem for path in FOLDER.glob("*.json")}
    for name, key in ours.items():
        (drawn,) = json.loads(server.get_json(f"/global_subgraphs/{key}")["data"])["nodes"]
        assert drawn["title"] == name
