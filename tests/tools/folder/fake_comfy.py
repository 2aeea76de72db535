"""A server that answers as ComfyUI does, and "restores" by turning pictures into their negative."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from PIL import Image, ImageOps, PngImagePlugin

WORKFLOW: dict[str, dict[str, Any]] = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "x.png"}, "_meta": {"title": "Photo"}},
    "2": {
        "class_type": "Negative",
        "inputs": {"image": ["1", 0], "strength": 1.0, "steps": 20, "mode": "all", "seed": 7},
    },
    "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "out"}},
}


def negative(image: Image.Image) -> Image.Image:
    return ImageOps.invert(ImageOps.exif_transpose(image).convert("RGB"))


class FakeComfy:
    """Runs every prompt at once. `refuse`: (prompt, picture) -> an error of the node, a whole
    answer to refuse it with, "vanish" to hang up, or None."""

    def __init__(self, port: int = 0) -> None:
        self.nodes = {spec["class_type"] for spec in WORKFLOW.values()}
        self.inputs: dict[str, Any] = {}
        """Node -> what /object_info says of it."""
        self.prompts: list[dict[str, Any]] = []
        self.requests: list[tuple[str, Any]] = []
        self.refuse: Callable[[dict[str, Any], Image.Image], Any] = lambda prompt, image: None
        self.restore: Callable[[Image.Image], list[Image.Image]] = lambda image: [negative(image)]
        self.finishes = True
        self._files: dict[str, bytes] = {}
        self._history: dict[str, Any] = {}
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                pass

            def answer(self, body: bytes, status: int = 200) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                fake.requests.append((self.path, None))
                self.answer(*fake.get(self.path))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/upload/image":
                    self.answer(fake.upload(body))
                    return
                data = json.loads(body)
                fake.requests.append((self.path, data))
                answer = fake.post(self.path, data)
                if answer is None:
                    self.connection.close()
                else:
                    self.answer(*answer)

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def get(self, path: str) -> tuple[bytes, int]:
        parts = urlsplit(path)
        if parts.path == "/system_stats":
            return json.dumps({"system": {"comfyui_version": "0.0.0"}}).encode(), 200
        if parts.path == "/object_info":
            return json.dumps({n: self.inputs.get(n, {}) for n in self.nodes}).encode(), 200
        if parts.path.startswith("/history/"):
            number = parts.path.rpartition("/")[2]
            return json.dumps(
                {number: self._history[number]} if self.finishes else {}
            ).encode(), 200
        if parts.path == "/view":
            return self._files[parse_qs(parts.query)["filename"][0]], 200
        return b"", 404

    def upload(self, body: bytes) -> bytes:
        head, _, rest = body.partition(b"\r\n\r\n")
        match = re.search(rb'filename="([^"]+)"', head)
        assert match
        name = match[1].decode()
        self._files[name] = rest.split(b"\r\n--" + head.split(b"\r\n")[0][2:])[0]
        return json.dumps({"name": name, "subfolder": "", "type": "input"}).encode()

    def post(self, path: str, data: dict[str, Any]) -> tuple[bytes, int] | None:
        if path != "/prompt":
            return b"", 200
        prompt = data["prompt"]
        self.prompts.append(prompt)
        number = f"p{len(self.prompts)}"
        photo = Image.open(io.BytesIO(self._files[prompt["1"]["inputs"]["image"]]))
        refusal = self.refuse(prompt, photo)
        if refusal == "vanish":
            return None
        if isinstance(refusal, dict):
            return json.dumps(refusal).encode(), 400
        if refusal:
            message = {"node_type": "Negative", "node_id": "2", "exception_message": refusal}
            status = {"status_str": "error", "messages": [["execution_error", message]]}
            self._history[number] = {"outputs": {}, "status": status}
            return json.dumps({"prompt_id": number, "node_errors": {}}).encode(), 200
        said = PngImagePlugin.PngInfo()
        said.add_text("prompt", json.dumps(prompt))
        images = []
        for index, result in enumerate(self.restore(photo)):
            packed = io.BytesIO()
            result.save(packed, "PNG", pnginfo=said)
            name = f"{number}_{index}.png"
            self._files[name] = packed.getvalue()
            images.append({"filename": name, "subfolder": "", "type": "output"})
        outputs = {"3": {"images": images}}
        self._history[number] = {"outputs": outputs, "status": {"status_str": "success"}}
        return json.dumps({"prompt_id": number, "node_errors": {}}).encode(), 200
