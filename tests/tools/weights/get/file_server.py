"""A server of files that misbehaves as servers on the way to weights do."""

from __future__ import annotations

import hashlib
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """How one path is answered."""

    body: bytes = b""
    status: int = 200
    cuts: list[int] = field(default_factory=list)
    """After so many bytes the connection ends, one answer after another."""
    claims: int | None = None
    """A Content-Length that is not true."""
    ranges: bool = True
    etag: str = '"one"'
    to: str = ""
    """Where it redirects."""
    sha256: bool = False
    """Whether it says the digest, as Hugging Face does."""
    chunked: bool = False
    head: int = 0
    """Another status for HEAD; 0: the same."""


class FileServer:
    """Serves `paths`; `asked` are (method, path, Range)."""

    def __init__(self) -> None:
        self.paths: dict[str, Served] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.headers: list[dict[str, str]] = []
        files = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self.serve(with_body=False)

            def do_GET(self) -> None:
                self.serve(with_body=True)

            def serve(self, with_body: bool) -> None:
                wanted = self.headers.get("Range") or ""
                files.asked.append((self.command, self.path, wanted))
                files.headers.append(dict(self.headers.items()))
                served = files.paths.get(self.path) or Served(status=404)
                body, start, status = served.body, 0, served.status
                if not with_body and served.head:
                    status = served.head
                match = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)
                same = self.headers.get("If-Range") in (None, served.etag)
                if status == 200 and match and served.ranges and same:
                    start = int(match[1])
                    if start >= len(body):
                        self.send_response(416)
                        self.send_header("Content-Range", f"bytes */{len(body)}")
                        self.send_header("Content-Length", "0")
                        self.end_headers()
                        return
                    end = int(match[2] or len(body) - 1) + 1
                    status, body = 206, body[start:end]
                self.send_response(302 if served.to else status)
                if served.to:
                    self.send_header("Location", served.to)
                if status == 206:
                    last = start + len(body) - 1
                    self.send_header("Content-Range", f"bytes {start}-{last}/{len(served.body)}")
                if served.etag:
                    self.send_header("ETag", served.etag)
                if served.sha256:
                    self.send_header("X-Linked-ETag", f'"{digest(served.body)}"')
                    self.send_header("X-Linked-Size", str(len(served.body)))
                    self.send_header("X-Repo-Commit", "0" * 40)
                if not served.chunked:
                    length = len(body) if served.claims is None else served.claims - start
                    self.send_header("Content-Length", "0" if served.to else str(length))
                self.end_headers()
                if with_body and not served.to:
                    cut = served.cuts.pop(0) if served.cuts else len(body)
                    self.wfile.write(body[:cut])
                self.close_connection = True

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
