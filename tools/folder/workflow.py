"""A workflow in API form as something to run on many pictures: its nodes, settings and identity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..comfyui.client import Prompt, PromptError, read_prompt
from ..shipped import WORKFLOWS, find_shipped, like

LOADS = ("LoadImage", "RestorationSamplePhoto")
"""Classes of nodes whose `image` is a picture of the user's."""
SEEDS = ("seed", "noise_seed")
"""What core's nodes and ours call it."""
DIALS = {"fidelity": "RestorationFidelity"}
"""Value -> the class of node that turns it for the whole workflow."""

Settings = dict[str, Any]
"""`node.input` -> value."""


def canonical(value: object) -> str:
    """The same text for equal JSON values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def workflow_file(name: str) -> Path:
    """The file of a workflow: a path, or the name or title of a shipped one, which a file that is
    there goes before. PromptError where there is neither."""
    path = Path(name)
    ours = path.absolute().parent == WORKFLOWS  # the form for people of one that is shipped
    if path.exists() and not ours:
        return path
    if found := find_shipped(path.name if ours else name):
        return found.api
    raise PromptError(
        f"There is no workflow {name}, neither a file nor one that comes with the pack. {like(name)}"
    )


def load_workflow(path: Path) -> Prompt:
    """A file in API form, or a sentence why not (PromptError)."""
    try:
        prompt = read_prompt(path)
        for node, spec in prompt.items():
            if not isinstance(spec.get("inputs"), dict):
                raise ValueError(f"node {node!r} has no inputs")
            if not isinstance(spec.get("class_type"), str):
                raise ValueError(f"node {node!r} has no class_type")
            about = spec.get("_meta", {})
            if not isinstance(about, dict) or not isinstance(about.get("title", ""), str):
                raise ValueError(f"the title of node {node!r} is no text")
        return prompt
    except FileNotFoundError:
        raise PromptError(f"There is no workflow {path}.") from None
    except (ValueError, AttributeError, OSError, RecursionError, PromptError) as error:
        why = "" if isinstance(error, PromptError) else f" ({error})"
        raise PromptError(
            f"{path} is no workflow in API form{why}: in ComfyUI save it with Workflow > Export "
            "(API). Those of the pack are in workflows/api."
        ) from error


def title(prompt: Prompt, node: str) -> str:
    """What a node is called in its workflow."""
    spec = prompt.get(node, {})
    return spec.get("_meta", {}).get("title") or spec.get("class_type", node)


def _named(prompt: Prompt, nodes: Sequence[str]) -> str:
    return ", ".join(f"{node} ({title(prompt, node)})" for node in nodes)


def find_node(prompt: Prompt, word: str) -> str:
    """A node's id from its id, title or class. PromptError unless it is exactly one."""
    if word in prompt:
        return word
    hits = [n for n, spec in prompt.items() if word in (spec["class_type"], title(prompt, n))]
    if len(hits) == 1:
        return hits[0]
    if hits:
        raise PromptError(f"{word!r} is more than one node: name one by its id, {', '.join(hits)}.")
    raise PromptError(f"The workflow has no node {word!r}; it has {_named(prompt, list(prompt))}.")


def input_node(prompt: Prompt, word: str | None = None) -> str:
    """The node that loads the picture. word: which one, where there are several."""
    if word is not None:
        node = find_node(prompt, word)
        if "image" not in prompt[node]["inputs"]:
            raise PromptError(f"{_named(prompt, [node])} has no input `image` to put a picture in.")
        return node
    nodes = [node for node, spec in prompt.items() if spec["class_type"] in LOADS]
    if len(nodes) == 1:
        return nodes[0]
    if nodes:
        raise PromptError(
            f"The workflow loads several images: {_named(prompt, nodes)}. Say with --input-node "
            "which one takes yours."
        )
    raise PromptError("The workflow has no Load Image or Load Photo node to put a picture in.")


def parse_setting(prompt: Prompt, text: str) -> tuple[str, Any]:
    """(`node.input`, value) of NODE.INPUT=VALUE, or of INPUT=VALUE where only one node has it; the
    value is JSON, or else text. PromptError unless the workflow has such an input with a value of
    the same kind."""
    place, equals, written = text.partition("=")
    word, _, name = place.rpartition(".")
    if not (equals and name):
        raise PromptError(
            f"{text!r} is no setting: write NODE.INPUT=VALUE, as 4.strength=0.5, or INPUT=VALUE."
        )
    node = find_node(prompt, word) if word else _only_node_with(prompt, name)
    inputs = prompt[node]["inputs"]
    if name not in inputs:
        raise PromptError(f"{_named(prompt, [node])} has no {name!r}; it has {', '.join(inputs)}.")
    old = inputs[name]
    if isinstance(old, list):
        raise PromptError(f"{place} comes from another node, so it cannot be set.")
    try:
        value = json.loads(written)
        json.dumps(value, allow_nan=False)  # which no server takes
    except (ValueError, RecursionError):
        value = written
    if isinstance(old, str):
        value = written
    elif _kind(value) != _kind(old):
        raise PromptError(f"{place} is {old!r} in the workflow; {written!r} is of another kind.")
    return f"{node}.{name}", value


def _only_node_with(prompt: Prompt, name: str) -> str:
    """The node that alone has a value of that name, or is the only dial for it."""
    values = {n: spec["inputs"].get(name) for n, spec in prompt.items()}
    nodes = [n for n, value in values.items() if value is not None and not isinstance(value, list)]
    dials = [node for node in nodes if prompt[node]["class_type"] == DIALS.get(name)]
    for each in (nodes, dials):
        if len(each) == 1:
            return each[0]
    if nodes:
        raise PromptError(
            f"{name!r} is a value of {_named(prompt, nodes)}: say which, as {nodes[0]}.{name}=..."
        )
    names = {
        name for s in prompt.values() for name, v in s["inputs"].items() if type(v) is not list
    }
    raise PromptError(f"No node has a value {name!r}; there are {', '.join(sorted(names))}.")


def _kind(value: object) -> type:
    return float if type(value) is int else type(value)  # 1 may stand for 1.0, True may not


def seed_inputs(prompt: Prompt) -> Settings:
    """Every seed that the workflow holds as a number."""
    return {
        f"{node}.{name}": spec["inputs"][name]
        for node, spec in prompt.items()
        for name in SEEDS
        if type(spec["inputs"].get(name)) is int
    }


@dataclass(frozen=True)
class Job:
    """A workflow with its settings, ready for one picture after another."""

    prompt: Prompt
    """With the settings in place."""
    node: str
    """Which loads the picture."""
    workflow_sha256: str
    """Digest of the file's graph before the settings, without titles."""
    settings: Settings
    """What the command line changed, and how results are saved."""

    @property
    def seed(self) -> Settings:
        return seed_inputs(self.prompt)

    def key(self, input_sha256: str) -> tuple[str, str, str]:
        """What makes two runs the same."""
        return input_sha256, self.workflow_sha256, canonical(self.settings)

    def prompt_for(self, image: str) -> Prompt:
        """The workflow with a picture, by its name on the server."""
        return _with(self.prompt, {f"{self.node}.image": image})


def _with(prompt: Prompt, settings: Mapping[str, Any]) -> Prompt:
    changed = {n: {**spec, "inputs": dict(spec["inputs"])} for n, spec in prompt.items()}
    for place, value in settings.items():
        node, _, name = place.rpartition(".")
        changed[node]["inputs"][name] = value
    return changed


def make_job(
    prompt: Prompt,
    settings: Sequence[str] = (),
    seed: int | None = None,
    node: str | None = None,
    saving: Mapping[str, Any] | None = None,
) -> Job:
    """A job from the command line's words. saving: what else decides about the result's file.
    Raises PromptError."""
    loads = input_node(prompt, node)
    changes = dict(parse_setting(prompt, text) for text in settings)
    if seed is not None:
        seeds = seed_inputs(prompt)
        if not seeds:
            raise PromptError("--seed was given, but the workflow has no seed to set.")
        changes = {**dict.fromkeys(seeds, seed), **changes}
    if f"{loads}.image" in changes:
        raise PromptError(f"{loads}.image takes the pictures of the folder, so it cannot be set.")
    bare = {n: {k: v for k, v in spec.items() if k != "_meta"} for n, spec in prompt.items()}
    bare = _with(bare, {f"{loads}.image": ""})
    digest = hashlib.sha256(canonical(bare).encode("utf-8", "surrogatepass")).hexdigest()
    recorded = {**changes, **(saving or {}), "input_node": loads}
    return Job(_with(prompt, changes), loads, digest, recorded)
