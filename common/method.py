"""What a method states about itself, once: `registry.py` makes every list of the pack from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from .degradation import Preset
from .prompts import PromptStyle
from .recognition import Recognize
from .sampling import Sampler, Start
from .schedule import Schedule
from .state_dict import Signature


@dataclass(frozen=True)
class WeightFile:
    """A published file that a workflow, a loader or the tagger needs."""

    name: str
    """Below `folder`, with the folders that keep files of one name apart."""
    url: str
    folder: str
    """The folder below ComfyUI's models folder."""
    size: int
    """About how many bytes: 4 for each published parameter, or what its page says. A file in half
    precision has half of it."""
    license: str
    """As far as known; docs/ says more."""
    sha256: str = ""
    """Empty where nobody has published it."""
    mirror: str = ""
    """Another address, for when the first one is gone."""
    how: str = ""
    """For a file without a direct address: a sentence that says how to get it. `url` is then the
    page, or the Google Drive, that has it."""
    remark: str = ""
    """A sentence for whoever looks for the file; empty where the address says all."""

    @property
    def place(self) -> str:
        """The folder in ComfyUI's that it lies in, to the last level."""
        below = PurePosixPath("models", self.folder, self.name).parent
        return f"{below}/"

    @property
    def size_text(self) -> str:
        """The size in words."""
        if self.size >= 1e9:
            return f"{self.size / 1e9:g} GB"
        return f"{self.size / 1e6:g} MB" if self.size >= 1e6 else "< 1 MB"


@dataclass(frozen=True)
class Method:
    """Names in the mappings are what users choose from, so they are unique over all methods."""

    name: str
    """That of its folder."""
    title: str
    files: tuple[WeightFile, ...] = ()
    """All it can need, base checkpoints included."""
    usual: tuple[str, ...] = ()
    """Names of the files, also of other methods, that its usual workflow needs; empty: all of its
    own."""
    pages: tuple[str, ...] = ()
    """Addresses beside those of its files that its errors and the docs name."""
    signatures: tuple[Signature, ...] = ()
    """What its files look like, whole or not."""
    recognize: Recognize | None = None
    """Tells its own files."""
    schedules: tuple[Schedule, ...] = ()
    samplers: Mapping[str, Sampler] = field(default_factory=dict)
    """Those that core does not have."""
    starts: Mapping[str, Start] = field(default_factory=dict)
    prompts: Mapping[str, PromptStyle] = field(default_factory=dict)
    presets: Mapping[str, Preset] = field(default_factory=dict)
    """Degradations it was trained on."""
