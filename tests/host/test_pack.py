"""The pack in ComfyUI's own loader: names, import cost, and what it leaves alone."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from restoration.tools.comfyui.process import copy_pack

pytestmark = pytest.mark.host

ROOT = Path(__file__).parent.parent.parent
NODE_IDS = {
    "RestorationPrepare",
    "RestorationFinish",
    "DegradationRemover",
    "DiffBIRControlLoader",
    "LAControlApply",
    "PASDLoader",
    "PACAControlApply",
    "PASDPyramidPreview",
    "WaveletColorFix",
    "AdaINColorFix",
    "DiffBIRModelSampling",
    "LatentImageGuidance",
    "RestorationSigmas",
    "RestorationSampler",
    "RestorationCFG",
    "TiledRestoration",
    "LREmbeddedNoise",
    "RestorationFaceCrop",
    "RestorationFacePaste",
    "RestorationPrompt",
    "HighLevelPrompt",
    "TiledVAEEncodeExact",
    "TiledVAEDecodeExact",
    "DAPELoader",
    "DAPETagger",
    "SeeSRLoader",
    "SeeSRControlApply",
    "DDNMGuidance",
    "StyleIDInvert",
    "StyleIDApply",
    "LatentAdaIN",
    "RealWorldDegradation",
    "RestorationMetrics",
    "LRConsistency",
}


def load(comfy, path: Path) -> bool:
    return asyncio.run(comfy.nodes.load_custom_node(str(path)))


@pytest.fixture
def registry(comfy):
    """ComfyUI's node table, put back after the test."""
    before = dict(comfy.nodes.NODE_CLASS_MAPPINGS)
    yield comfy.nodes.NODE_CLASS_MAPPINGS
    comfy.nodes.NODE_CLASS_MAPPINGS.clear()
    comfy.nodes.NODE_CLASS_MAPPINGS.update(before)


@pytest.mark.parametrize("folder", ["ComfyUI-Diffusion-Restoration", "my.pack v1", "nodes"])
def test_loads_under_any_folder_name(comfy, registry, tmp_path, folder) -> None:
    assert load(comfy, copy_pack(tmp_path / folder))
    assert set(registry) >= NODE_IDS


def test_one_broken_node_file_hides_only_its_own_nodes(comfy, registry, tmp_path, caplog) -> None:
    pack = copy_pack(tmp_path / "pack")
    (pack / "nodes" / "color.py").write_text("import a_module_that_does_not_exist\n")
    assert load(comfy, pack)
    assert set(registry) >= NODE_IDS - {"WaveletColorFix", "AdaINColorFix"}
    assert not {"WaveletColorFix", "AdaINColorFix"} & set(registry)
    (record,) = [r for r in caplog.records if "nodes/color.py" in r.getMessage()]
    assert record.exc_info and "a_module_that_does_not_exist" in str(record.exc_info[1])


def test_ids_that_another_pack_has_too_are_logged_with_both_packs(
    comfy, registry, tmp_path, caplog, monkeypatch
) -> None:
    from aiohttp import web

    app = web.Application()
    server = SimpleNamespace(PromptServer=SimpleNamespace(instance=SimpleNamespace(app=app)))
    monkeypatch.setitem(sys.modules, "server", server)

    def other(folder: str) -> type:
        return type("Other", (), {"RELATIVE_PYTHON_MODULE": f"custom_nodes.{folder}"})

    registry["WaveletColorFix"] = other("frame.utilities")
    assert load(comfy, copy_pack(tmp_path / "pack"))
    registry["DAPELoader"] = other("tags")
    app.freeze()
    asyncio.run(app.startup())
    early, late = (r.getMessage() for r in caplog.records if "has a node with the id" in r.msg)
    assert all(each in early for each in ("Diffusion Restoration", "frame.utilities", "Wavelet"))
    assert "now this pack's" in early
    assert "tags" in late and "DAPELoader" in late and "now the other one" in late


_SNAPSHOT = """
import asyncio, sys
sys.path.insert(0, {host!r})
import comfy.options
from comfy.cli_args import args
args.cpu = True
args.base_directory = {base!r}
import nodes, folder_paths, comfy.model_management, comfy.sd, comfy.samplers, comfy.controlnet
import comfy.ldm.modules.attention, comfy.ldm.modules.diffusionmodules.openaimodel, execution
import comfy_api.latest
asyncio.run(nodes.load_custom_node({host!r} + "/comfy_extras/nodes_upscale_model.py",
                                   module_parent="comfy_extras"))

def snapshot():
    found = {{}}
    for name, module in list(sys.modules.items()):
        top = name.split(".")[0]
        if module is None or top not in ("comfy", "comfy_api", "comfy_execution", "nodes",
                                         "folder_paths", "execution", "server", "torch"):
            continue
        for key, value in list(vars(module).items()):
            found[name, key] = id(value)
            if isinstance(value, type) and value.__module__.split(".")[0] != "torch":
                for attribute, inner in list(vars(value).items()):
                    found[name, key, attribute] = id(inner)
    return found

modules = set(sys.modules)
before, path = snapshot(), list(sys.path)
assert asyncio.run(nodes.load_custom_node({pack!r}))
after = snapshot()
new = {{name.split(".")[0] for name in set(sys.modules) - modules if not name.startswith({pack!r})}}
print("LOADED", sorted(new - set(sys.stdlib_module_names)))
# `nodes` counts its loaded packs and classes; submodules that get imported become attributes.
allowed = {{"NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "EXTENSION_WEB_DIRS",
           "LOADED_MODULE_DIRS"}}
print("CHANGED", [k for k, v in before.items() if after.get(k) != v and k[-1] not in allowed
                  and not k[-1].startswith(("__", "_abc_"))])
print("PATH", path == sys.path)
"""


def test_import_changes_nothing_in_the_host_and_loads_nothing_heavy(comfy, tmp_path) -> None:
    """In a process of its own: every attribute of the host's modules and classes stays, and no
    library is loaded that ComfyUI had not loaded for itself. What that costs: bench/start.py."""
    code = _SNAPSHOT.format(host=str(comfy.path), base=str(tmp_path), pack=str(ROOT))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    assert lines["CHANGED"] == "[]"
    assert lines["PATH"] == "True"
    assert lines["LOADED"] == "[]"
