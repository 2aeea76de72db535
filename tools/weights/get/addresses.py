"""Where a published file can be fetched from, in the order in which it is tried."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from ....common.bases import HF
from ....common.method import WeightFile

ENDPOINT = "HF_ENDPOINT"
"""The variable with which huggingface_hub, and so most of its users, names another host that answers
as Hugging Face."""
ON_HUB = re.compile(
    r"/(?:(?P<kind>spaces|datasets)/)?(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)"
)
DRIVE = "drive.google.com"


@dataclass(frozen=True)
class Hosts:
    """Who is asked."""

    endpoint: str = HF
    """In place of Hugging Face."""
    mirror: str = ""
    """Asked for the same path where the first address fails; empty: nobody."""

    @classmethod
    def of(cls, mirror: str = "", environ: Mapping[str, str] = os.environ) -> Hosts:
        """As the command line and the environment say. ValueError for what is no address."""
        endpoint = environ.get(ENDPOINT) or HF
        for name, address in ((ENDPOINT, endpoint), ("--mirror", mirror)):
            parts = urlsplit(address)
            if address and (parts.scheme not in ("http", "https") or not parts.hostname):
                raise ValueError(
                    f"{name} is {address!r}: expected an address, as https://example.com."
                )
        return cls(endpoint.rstrip("/"), mirror.rstrip("/"))

    def of_file(self, file: WeightFile) -> list[str]:
        """The direct addresses of a file, the published one first; empty: there is none."""
        found: list[str] = []
        for url in filter(None, ("" if file.how else file.url, file.mirror)):
            found.append(self._through_endpoint(url))
            if self.mirror:
                found.append(self.mirror + _path(url))
        return list(dict.fromkeys(found))

    def _through_endpoint(self, url: str) -> str:
        return self.endpoint + url.removeprefix(HF) if url.startswith(f"{HF}/") else url

    def hub(self, url: str) -> HubFile | None:
        """What huggingface_hub calls the file at an address; None: it is no host of that kind."""
        for host in filter(None, (self.endpoint, self.mirror)):
            path = url.removeprefix(host)
            if path != url and (match := ON_HUB.fullmatch(unquote(path))):
                kind = (match["kind"] or "model").removesuffix("s")
                # A token is for the host that issued it, and for the one that the user's own
                # settings put in its place.
                return HubFile(host, kind, **_named(match), trusted=host == self.endpoint)
        return None


def _named(match: re.Match[str]) -> dict[str, str]:
    return {name: match[name] for name in ("repo", "revision", "file")}


def _path(url: str) -> str:
    parts = urlsplit(url)
    return parts.path + (f"?{parts.query}" if parts.query else "")


@dataclass(frozen=True)
class HubFile:
    """A file on a host that answers as Hugging Face."""

    endpoint: str
    kind: str
    """Of its repository: model, space, dataset."""
    repo: str
    revision: str
    file: str
    trusted: bool
    """Whether the host may see the user's token."""


def drive_id(file: WeightFile) -> str:
    """By what Google Drive knows a file, or the folder that it is in; empty: it lies elsewhere."""
    parts = urlsplit(file.url)
    if parts.hostname != DRIVE:
        return ""
    match = re.search(r"/(?:d|folders)/([\w-]+)|[?&]id=([\w-]+)", file.url)
    return next(filter(None, match.groups()), "") if match else ""


def in_drive_folder(file: WeightFile) -> bool:
    """Whether Google Drive is asked for the folder first, and then for the file of this name."""
    return bool(drive_id(file)) and "/folders/" in urlsplit(file.url).path


def host_of(url: str) -> str:
    """For messages, and to know a host that has not answered."""
    return urlsplit(url).netloc


def all_of(files: Sequence[WeightFile], hosts: Hosts) -> list[tuple[WeightFile, str]]:
    """Every address of every file, each once."""
    pairs = [(file, url) for file in files for url in hosts.of_file(file)]
    return list({url: (file, url) for file, url in pairs}.values())
