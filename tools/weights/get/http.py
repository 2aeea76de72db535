"""Asking servers for files, over http and https with the standard library."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from email.message import Message
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlsplit

from .addresses import host_of
from .errors import RefusedError

AGENT = "diffusion-restoration"
TIMEOUT = 60.0
"""Seconds without a byte after which a connection counts as cut."""
WITHDRAWN = (401, 403, 404, 410)
PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Statuses after which the same may work later."""
SHA256 = re.compile(r'"?([0-9a-f]{64})"?')
RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+)")


class _Request(urllib.request.Request):
    """With what the answers on the way to the file have said: on Hugging Face the first one knows
    the file, the last one only its storage."""

    def __init__(self, url: str, headers: dict[str, str], method: str) -> None:
        super().__init__(url, headers=headers, method=method)
        self.said: dict[str, str] = {}


class _Redirects(urllib.request.HTTPRedirectHandler):
    http_error_308 = urllib.request.HTTPRedirectHandler.http_error_302  # which Python 3.10 lacks

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Message, newurl: str
    ) -> _Request:
        scheme = urlsplit(newurl).scheme
        if scheme != "https" and scheme != urlsplit(req.full_url).scheme:
            raise RefusedError(
                f"{host_of(req.full_url)} sends on to {newurl}, which is not https: not followed."
            )
        following = _Request(newurl, {**req.headers}, req.get_method())
        following.said = req.said
        following.said.update({name.lower(): value for name, value in headers.items()})
        return following


_opener = urllib.request.build_opener(_Redirects)


@dataclass(frozen=True)
class Answer:
    """What a server says about a file before it sends it."""

    status: int
    start: int
    """The first byte that comes."""
    total: int | None
    """Bytes of the whole file; None: the server does not say."""
    validator: str
    """The server's name for this version of the file; empty: it gives none."""
    sha256: str
    """Of the whole file; empty: it does not say."""
    body: HTTPResponse = field(repr=False)


def ask(url: str, headers: dict[str, str] | None = None, method: str = "GET") -> Answer:
    """Opens an address; whoever asks closes the answer's body.

    Raises RefusedError where it gives no file, urllib's HTTPError for PASSING statuses and 416,
    other OSErrors and HTTPException where the connection fails.
    """
    sent = {"User-Agent": AGENT, "Accept-Encoding": "identity", **(headers or {})}
    request = _Request(url, sent, method)
    try:
        body = _opener.open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code in PASSING or error.code == 416:
            raise
        error.close()
        raise RefusedError(refusal(url, error.code)) from error
    except ValueError as error:  # an address that a server sent us to, and that is none
        raise RefusedError(f"{host_of(url)} sends on to no address ({error}).") from error
    linked = request.said.get("x-linked-etag") or body.headers.get("X-Linked-ETag") or ""
    match = SHA256.fullmatch(linked)
    start, total = span(body.headers.get("Content-Range"))
    if body.status != 206:
        start, total = 0, _number(body.headers.get("Content-Length"))
    if total is None or method == "HEAD":
        total = _number(request.said.get("x-linked-size")) or total
    return Answer(
        body.status,
        start,
        total,
        body.headers.get("ETag") or body.headers.get("Last-Modified") or "",
        match[1] if match else "",
        body,
    )


def span(said: str | None) -> tuple[int, int | None]:
    """(first byte, bytes of the whole file) of a Content-Range."""
    match = RANGE.fullmatch(said or "")
    return (int(match[1] or 0), int(match[2])) if match else (0, None)


def _number(said: str | None) -> int | None:
    return int(said) if said and said.isdecimal() else None


def refusal(url: str, status: int) -> str:
    """A status in words."""
    words = {
        401: "asks for a login (401): the file was withdrawn or is for members only",
        403: "forbids it (403)",
        404: "has no such file any more (404)",
        410: "has withdrawn the file (410)",
    }
    return f"{host_of(url)} {words.get(status, f'refuses the file (status {status})')}."
