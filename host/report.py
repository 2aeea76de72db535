"""Telling people what a node is about to do, or had to change. Text leaves for the front end here,
and here it is made harmless."""

from __future__ import annotations

import html
import logging
import reprlib
import sys

from comfy_execution.utils import get_executing_context

log = logging.getLogger(__name__)


def show(text: str, node_id: str | None = None) -> None:
    """Puts a line of text on a node; without an id on the one that is running. Without a server
    (tests, scripts) nobody looks at nodes, and nothing happens. The front end reads it as HTML, so
    it is escaped: a workflow from elsewhere may hold any text."""
    module = sys.modules.get("server")  # importing it would start half of the host
    server = getattr(getattr(module, "PromptServer", None), "instance", None)
    context = get_executing_context()
    node_id = node_id or (context and context.node_id)
    if server is not None and node_id is not None:
        server.send_progress_text(html.escape(text, quote=False), node_id)


def announce(text: str, node_id: str | None = None, level: int = logging.INFO) -> None:
    """Says it in the log and on the node."""
    log.log(level, "%s", text)
    show(text, node_id)


_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60


def quoted(value: object) -> str:
    """A value that was refused, for a sentence: short and without control characters."""
    return _short.repr(value)


def harmless(message: str) -> str:
    """The message of an error as dialogs and logs get it: without the brackets that make HTML, which
    may have come out of a workflow from elsewhere."""
    return message.translate({ord("<"): "‹", ord(">"): "›"})


def size_text(number: float) -> str:
    """Bytes for people."""
    mebibytes = number / 2**20
    return f"{mebibytes / 1024:.1f} GiB" if mebibytes >= 1024 else f"{mebibytes:.1f} MiB"
