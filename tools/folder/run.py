"""A folder of pictures through one workflow: the command `run`."""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import contextlib
import glob
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from http.client import HTTPException
from pathlib import Path
from typing import Any

from ..scripts.comfy_host import (
    PACK_ROOT,
    ComfyClient,
    ComfyServer,
    HostError,
    Progress,
    PromptError,
    Result,
    read_host,
)
from .files import replacing
from .manifest import NAME, Key, Manifest, Record
from .workflow import Job, load_workflow, make_job, title

CRASHES = 2
"""In a row, after which a server of our own is not started again."""


class UsageError(ValueError):
    """The command cannot run as it was given; the message says what to change."""


# -- which pictures, and where to ------------------------------------------------------------------


def _in_folder(folder: Path, recursive: bool, output: Path) -> Iterator[tuple[Path, Path]]:
    from .pictures import EXTENSIONS

    for path in sorted(folder.rglob("*") if recursive else folder.iterdir()):
        ours = output.resolve() in path.resolve().parents
        name = path.relative_to(folder)
        # Beside every photo on a foreign disk, macOS leaves ._photo.jpg, which is none.
        hidden = any(part.startswith(".") for part in name.parts)
        if path.is_file() and path.suffix.lower() in EXTENSIONS and not ours and not hidden:
            yield path, name


def find_inputs(arguments: Sequence[str], recursive: bool, output: Path) -> dict[Path, Path]:
    """Picture -> its name below the output folder, without an extension of its own.

    arguments: folders, patterns and files. Names are relative to the folder, or to what all files
    and matches of patterns have in common. Raises UsageError.
    """
    found: dict[Path, Path] = {}
    loose: list[Path] = []
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            found.update(_in_folder(path, recursive, output))
        elif path.is_file():
            loose.append(path)
        elif matches := [Path(m) for m in glob.glob(argument, recursive=True)]:
            loose += sorted(m for m in matches if m.is_file())
        else:
            raise UsageError(f"{argument} is no folder, no file, and matches none.")
    if loose:
        common = Path(os.path.commonpath([path.resolve().parent for path in loose]))
        found.update({path: path.resolve().relative_to(common) for path in loose})
    if not found:
        raise UsageError(f"No pictures in {', '.join(arguments)} (--recursive looks deeper).")
    return _named_apart(found)


def _named_apart(found: dict[Path, Path]) -> dict[Path, Path]:
    """Names without extension, but with it where a.jpg and a.png would meet."""
    stems = [name.with_suffix("") for name in found.values()]
    names = {
        path: name if stems.count(name.with_suffix("")) > 1 else name.with_suffix("")
        for path, name in found.items()
    }
    taken: dict[Path, Path] = {}
    for path, name in names.items():
        if name in taken:
            raise UsageError(
                f"{taken[name]} and {path} would both become {name}: run their folders one by one."
            )
        taken[name] = path
    return names


# -- the server ------------------------------------------------------------------------------------


def _model_paths(comfyui: Path) -> dict[str, dict[str, str]]:
    """ComfyUI's own models and custom nodes, in the words of extra_model_paths.yaml: a server of
    ours has a base folder of its own, so that its outputs and inputs vanish with it."""
    kinds = sorted(path.name for path in (comfyui / "models").glob("*") if path.is_dir())
    places = {kind: f"models/{kind}" for kind in kinds}
    if (comfyui / "custom_nodes").is_dir():
        places["custom_nodes"] = "custom_nodes"
    return {"comfyui": {"base_path": str(comfyui), **places}}


def _holds_pack(comfyui: Path) -> bool:
    nodes = comfyui / "custom_nodes"
    return nodes.is_dir() and any(p.resolve() == PACK_ROOT.resolve() for p in nodes.iterdir())


class Server:
    """The ComfyUI that does the work: one that runs, or one of our own that may be restarted."""

    def __init__(self, client: ComfyClient, ours: ComfyServer | None = None) -> None:
        self.client = client
        self._ours = ours
        self._crashes = 0

    def version(self) -> str:
        """ComfyUI's. Raises HostError when it does not answer."""
        try:
            return self.client.get_json("/system_stats", 30)["system"]["comfyui_version"]
        except (OSError, ValueError, KeyError) as error:
            raise HostError(
                f"No ComfyUI answers at {self.client.url} ({error}): start it, correct --server, "
                "or let --comfyui start one."
            ) from error

    def succeeded(self) -> None:
        """Forgets earlier crashes."""
        self._crashes = 0

    def recover(self) -> None:
        """After an error of the connection: returns when the server answers, else HostError. A
        server of our own is started again, but not for ever."""
        try:
            self.version()
        except HostError:
            self._crashes += 1
            if self._ours is None or self._crashes >= CRASHES:
                raise
            self._ours.close()
            self._ours.__enter__()


WATCH = """
import contextlib, os, shutil, signal, sys, time
if not sys.stdin.buffer.read():
    with contextlib.suppress(OSError):
        os.kill(int(sys.argv[1]), signal.SIGTERM)
        time.sleep(5)
        os.kill(int(sys.argv[1]), getattr(signal, "SIGKILL", signal.SIGTERM))
    shutil.rmtree(sys.argv[2], ignore_errors=True)
"""
"""Reads until its input is closed. If nothing was said before, its parent was killed."""


class OwnServer(ComfyServer):
    """A ComfyUI with its own models and custom nodes, which ends with this process, also when that
    is killed: it would keep its memory for ever, and the next run would lack it."""

    arguments: Sequence[str] = ()
    """Of the command line, for ComfyUI's."""
    _watch: subprocess.Popen[bytes] | None = None

    def _prepare_base(self) -> None:
        super()._prepare_base()
        paths = self.base / "folders.yaml"
        paths.write_text(json.dumps(_model_paths(self.host.path)), "utf-8")  # which is YAML, too
        self.extra_arguments = ["--extra-model-paths-config", str(paths), *self.arguments]

    def _start(self) -> None:
        super()._start()
        assert self._process
        self._watch = subprocess.Popen(
            [sys.executable, "-c", WATCH, str(self._process.pid), str(self.base)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip

    def close(self) -> None:
        with _undisturbed():
            try:
                super().close()
            finally:
                if self._watch is not None:
                    self._watch.communicate(b"closed")
                    self._watch = None


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """No Ctrl-C cuts the block short; the one that led here has been heard."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not the main thread, which alone hears it
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def serving(options: argparse.Namespace) -> Iterator[Server]:
    """The server that the command line names."""
    if options.server:
        url = options.server if "://" in options.server else f"http://{options.server}"
        yield Server(ComfyClient(url.rstrip("/")))
        return
    host = read_host(options.comfyui, "--comfyui")
    if host is None:
        raise UsageError(f"{options.comfyui} holds no ComfyUI: --comfyui names its folder.")
    own = OwnServer(host, install="none" if _holds_pack(host.path) else "symlink", cpu=options.cpu)
    own.arguments = options.comfyui_argument
    print(f"Starting ComfyUI {host.version} ...", file=sys.stderr)
    with own:
        yield Server(own, own)


def check_nodes(client: ComfyClient, job: Job) -> None:
    """Raises UsageError when the server lacks a node that the workflow needs."""
    known = client.get_json("/object_info")
    lacking = sorted({s["class_type"] for s in job.prompt.values()} - known.keys())
    if lacking:
        raise UsageError(
            f"The server does not know {', '.join(lacking)}: install the node packs they belong to."
        )


# -- one picture -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Saving:
    """How results are saved."""

    folder: Path
    kind: str
    """png, jpg, webp, or `same`: as the photo, png where that is none of these."""
    quality: int

    def kind_for(self, source: Path) -> str:
        from .pictures import SUFFIXES

        if self.kind != "same":
            return self.kind
        suffix = source.suffix.lower().lstrip(".").replace("jpeg", "jpg")
        return suffix if suffix in SUFFIXES else "png"

    @property
    def settings(self) -> dict[str, Any]:
        """What decides about the file, to be part of a run's identity."""
        lossy = {} if self.kind == "png" else {"quality": self.quality}
        return {"save_as": self.kind, **lossy}


def process(
    path: Path,
    data_sha256: str,
    name: Path,
    job: Job,
    server: Server,
    saving: Saving,
    progress: Any,
    timeout: float,
) -> Record:
    """Sends one picture through the workflow and saves what comes back; its part of a record."""
    from PIL import Image

    from .pictures import SUFFIXES, lr_psnr, read_picture, save_picture

    picture = read_picture(path)
    client = server.client
    uploaded = client.upload(picture.data, f"folder_{data_sha256[:16]}{picture.suffix}")
    result = client.run(job.prompt_for(uploaded), progress, timeout)
    images = result.images("output")
    if not images:
        raise PromptError("The workflow saved no image: it needs a Save Image node.")
    kind = saving.kind_for(path)
    outputs, opened, lost = [], [], []
    for number, image in enumerate(images, 1):
        tail = f"_{number}" if len(images) > 1 else ""
        target = saving.folder / name.with_name(f"{name.name}{tail}{SUFFIXES[kind]}")
        data = client.fetch(image)
        with replacing(target) as part:
            (width, height), note = save_picture(data, picture, part, kind, saving.quality)
            digest = hashlib.sha256(part.read_bytes()).hexdigest()
        opened.append(Image.open(io.BytesIO(data)))
        lost.append(note)
        outputs.append(
            {
                "file": target.relative_to(saving.folder).as_posix(),
                "sha256": digest,
                "width": width,
                "height": height,
            }
        )
    lost = list(dict.fromkeys(filter(None, lost)))
    alpha = picture.alpha is not None and not lost
    held = {"exif": picture.exif, "icc": picture.icc, "alpha": alpha}
    return {
        "outputs": outputs,
        "seconds": round(result.seconds, 3),
        "metrics": {
            "input_size": list(picture.size),
            "lr_psnr": lr_psnr(picture.pixels, opened),
            "texts": texts(result),
        },
        "kept": [word for word, there in held.items() if there],
        "notes": [*picture.notes, *lost],
    }


def texts(result: Result) -> dict[str, str]:
    """What nodes said, by their id: so figures of Restoration Metrics are in the manifest."""
    said = {node: output.get("text") for node, output in result.outputs.items()}
    return {
        node: text if isinstance(text, str) else "\n".join(map(str, text))
        for node, text in said.items()
        if text
    }


def copied(record: Record, name: Path, manifest: Manifest, key: Key) -> Record:
    """The record of an equal picture under this one's name: its outputs are copied unless they are
    there. Empty when all are."""
    outputs, fresh = [], False
    for number, each in enumerate(record["outputs"], 1):
        folder = manifest.path.parent
        source = folder / each["file"]
        tail = f"_{number}" if len(record["outputs"]) > 1 else ""
        target = folder / name.with_name(f"{name.name}{tail}{source.suffix}")
        file = target.relative_to(folder).as_posix()
        if not manifest.holds(file, key):
            fresh = True
            with replacing(target) as part:
                shutil.copyfile(source, part)
        outputs.append({**each, "file": file})
    parts = ("seconds", "metrics", "kept", "notes")
    return {"outputs": outputs, **{part: record[part] for part in parts}} if fresh else {}


# -- all of them -----------------------------------------------------------------------------------


class Display:
    """A bar on a terminal, a line for every picture elsewhere."""

    def __init__(self, total: int, job: Job) -> None:
        self._job, self._bar, self._total, self._count = job, None, total, 0
        if sys.stderr.isatty():
            with contextlib.suppress(ImportError):
                from tqdm import tqdm

                self._bar = tqdm(total=total, unit="image", dynamic_ncols=True)

    def step(self, step: Progress) -> None:
        """What a node of the running workflow reports."""
        if self._bar is not None:
            count = f" {step.value:g}/{step.maximum:g}" if step.maximum else ""
            self._bar.set_postfix_str(f"{title(self._job.prompt, step.node)}{count}")

    def finish(self, path: Path, outcome: str) -> None:
        """One picture is over."""
        self._count += 1
        if self._bar is None:
            print(f"[{self._count}/{self._total}] {path}: {outcome}", flush=True)
            return
        if outcome.startswith("failed"):
            self._bar.write(f"{path}: {outcome}")
        self._bar.update()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


@dataclass
class Tally:
    """How the pictures ended."""

    done: int = 0
    skipped: int = 0
    failed: int = 0

    def __str__(self) -> str:
        return f"{self.done} done, {self.skipped} skipped, {self.failed} failed"


def run_all(
    inputs: dict[Path, Path],
    job: Job,
    server: Server,
    saving: Saving,
    workflow: str,
    again: bool = False,
    timeout: float = 3600.0,
) -> Tally:
    """Every picture that is not done yet; an error is written down and the next one follows.

    Raises HostError when the server is gone for good, and UsageError when it refuses the workflow
    whatever the picture; what was done until then is in the manifest.
    """
    manifest = Manifest(saving.folder / NAME)
    version, tally = server.version(), Tally()
    display = Display(len(inputs), job)
    with contextlib.closing(display):
        for path, name in inputs.items():
            record: Record = {
                "input": str(path),
                "input_sha256": "",
                "workflow": workflow,
                "workflow_sha256": job.workflow_sha256,
                "settings": job.settings,
                "seed": job.seed,
                "comfyui": version,
            }
            gone: HostError | None = None
            refused, fresh = False, True
            try:
                record["input_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
                key = job.key(record["input_sha256"])
                if not again and (known := manifest.done(key)):
                    copy = copied(known, name, manifest, key)
                    if copy:
                        copy["notes"] = [*copy["notes"], f"copied, for {known['input']} is equal"]
                    record |= copy
                    fresh = bool(copy)
                    tally.skipped += 1
                    outcome = f"skipped, {'copied' if copy else 'done already'}"
                else:
                    arguments = (path, record["input_sha256"], name, job, server, saving)
                    record |= process(*arguments, display.step, timeout)
                    tally.done += 1
                    server.succeeded()
                    files = ", ".join(each["file"] for each in record["outputs"])
                    outcome = f"{files} ({record['seconds']:.1f} s)"
                record["status"] = "done"
            except (PromptError, HostError, OSError, HTTPException, ValueError) as error:
                record |= {"status": "failed", "error": f"{error}" or type(error).__name__}
                tally.failed += 1
                refused = isinstance(error, PromptError) and _refuses_all(error, job)
                if isinstance(error, HostError | OSError | HTTPException):
                    gone = _gone(server)
                outcome = f"failed: {record['error']}"
            if fresh:
                manifest.add(record | {"finished": _now()})
            display.finish(path, outcome)  # last: whoever reads that may hang up
            if refused:
                said = f"{record['error']}. It would refuse every picture."
                raise UsageError(f"{said} So far: {tally}.")
            if gone is not None:
                raise HostError(f"{gone} So far: {tally}; run the command again to go on.")
    return tally


def _refuses_all(error: PromptError, job: Job) -> bool:
    """Whether the server refused the workflow for something else than the picture."""
    nodes = error.details.get("node_errors") or {}
    return bool(nodes) and job.node not in nodes


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _gone(server: Server) -> HostError | None:
    """None when the server answers, if need be after a restart."""
    try:
        server.recover()
    except HostError as error:
        return error
    return None


def run_command(options: argparse.Namespace) -> int:
    """0: all done or skipped; 1: some failed; 2: it could not run."""
    saving = Saving(options.output, options.format, options.quality)
    started = time.monotonic()
    try:
        prompt = load_workflow(options.workflow)
        job = make_job(prompt, options.set, options.seed, options.input_node, saving.settings)
        inputs = find_inputs(options.inputs, options.recursive, options.output)
        if options.output.exists() and not options.output.is_dir():
            raise UsageError(f"{options.output} is a file: --output names a folder.")
        with serving(options) as server:
            server.version()
            check_nodes(server.client, job)
            tally = run_all(
                inputs, job, server, saving, options.workflow.name, options.again, options.timeout
            )
    except BrokenPipeError:  # of what is printed, which `main` understands
        raise
    except (HostError, PromptError, UsageError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{tally} in {time.monotonic() - started:.1f} s; {saving.folder / NAME}")
    return 1 if tally.failed else 0


def _quality(text: str) -> int:
    if not 1 <= (value := int(text)) <= 100:
        raise argparse.ArgumentTypeError("expected 1 to 100")
    return value


def add_commands(commands: Any) -> None:
    """Adds `run` to a parser's subparsers."""
    parser = commands.add_parser("run", help="a folder of pictures through a workflow")
    parser.add_argument("workflow", type=Path, help="in API form, as workflows/api/*.json")
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="folders, files, or patterns in quotes"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the results")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--server", metavar="URL", help="a ComfyUI that runs, http://host:8188")
    where.add_argument("--comfyui", type=Path, metavar="DIR", help="start the one in this folder")
    parser.add_argument("--cpu", action="store_true", help="start it on the CPU")
    parser.add_argument(
        "--comfyui-argument", action="append", default=[], metavar="ARG",
        help="start it with this as well, as --comfyui-argument=--lowvram",
    )  # fmt: skip
    parser.add_argument("-r", "--recursive", action="store_true", help="folders in folders, too")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NODE.INPUT=VALUE",
        help="change a value; NODE is an id, a title or a class, needed where several have INPUT",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, help="for every seed of the workflow")
    parser.add_argument("--input-node", metavar="NODE", help="which Load Image takes the pictures")
    parser.add_argument("--format", choices=["png", "jpg", "webp", "same"], default="png")
    parser.add_argument("--quality", type=_quality, default=95, help="of jpg and webp (95)")
    parser.add_argument("--again", action="store_true", help="do what is done, too")
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds a picture may take")
    parser.set_defaults(run=run_command)
