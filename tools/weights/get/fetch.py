"""One file from the first of its addresses that has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ....common.method import WeightFile
from .addresses import Hosts, drive_id, host_of
from .download import Progress, download
from .drive import download_from_drive
from .errors import FetchError, RefusedError, UnreachableError, WrongFileError
from .hub import download_from_hub
from .part import Part, holding
from .place import Change, as_it_came, place

Way = Callable[[Part, Progress], None]
"""Brings a part to its end."""


@dataclass
class Fetcher:
    """Fetches files one after another."""

    hosts: Hosts
    say: Callable[[str], None]
    """Hears a line about every address that fails."""
    change: Change = as_it_came
    """What is done to a file, once it is known to be the published one."""
    silent: set[str] = field(default_factory=set)
    """Hosts that do not answer: asked once, not once for every file."""

    def fetch(self, file: WeightFile, target: Path, progress: Progress) -> str:
        """Brings a file to its place; its sha256 as it came. Raises FetchError with what every
        address said; DiskError and InTheWayError for what no other address changes."""
        failures = []
        with holding(target) as part:
            for url, way in self._ways(file):
                if host_of(url) in self.silent:
                    continue
                if failures:
                    self.say(f"{file.name}: from {url} instead.")
                before = part.size
                try:
                    return self._from(url, way, part, progress, file, target)
                except (RefusedError, UnreachableError, WrongFileError) as error:
                    if isinstance(error, UnreachableError) and part.size == before:
                        self.silent.add(host_of(url))
                    failures.append(str(error))
                    self.say(str(error))
        if not failures:
            failures.append(
                f"{host_of(file.url)} has not answered before: {file.name} is left out."
            )
            self.say(failures[0])
        raise FetchError(" ".join(failures))

    def _from(
        self, url: str, way: Way, part: Part, progress: Progress, file: WeightFile, target: Path
    ) -> str:
        resumed = bool(part.size)
        way(part, progress)
        try:
            return place(part, file, target, url, self.change)
        except WrongFileError:
            if not resumed:
                raise
        # What was there from an earlier run may have been wrong: once more from the beginning.
        way(part, progress)
        return place(part, file, target, url, self.change)

    def _ways(self, file: WeightFile) -> Iterator[tuple[str, Way]]:
        """Address by address, how it is asked."""
        if file.how and drive_id(file):
            yield file.url, lambda part, _: download_from_drive(file, part)
        elif file.how:
            yield file.url, _by_hand(file)
        for url in self.hosts.of_file(file):
            yield url, self._over_https(url)

    def _over_https(self, url: str) -> Way:
        def way(part: Part, progress: Progress) -> None:
            hub = self.hosts.hub(url)
            # What plain https has begun it goes on with.
            if hub is None or part.size or not download_from_hub(hub, url, part):
                download(url, part, progress)

        return way


def _by_hand(file: WeightFile) -> Way:
    def way(part: Part, progress: Progress) -> None:
        raise RefusedError(f"{file.name} has no direct address. {file.how}")

    return way
