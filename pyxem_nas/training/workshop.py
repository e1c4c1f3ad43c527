"""The working directory of a search: what is done is not done again.

Owns settings and finished steps as files, written whole or not at all, so that a run that was
killed goes on where it was, and workers of a search wait for what their chief makes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyxem_nas.file_writing import replacing
from pyxem_nas.training.search import is_search_worker


@dataclass(frozen=True)
class Workshop:
    """Working directory of one `search_models`, with what is done so far."""

    directory: Path
    report: Callable[[str], None]

    @classmethod
    def open(cls, directory: Path | str, report: Callable[[str], None]) -> Workshop:
        """Return the workshop in a folder, made if it is not there."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        return cls(directory, report)

    def check_settings(self, settings: dict[str, Any]) -> None:
        """Write the settings, or refuse a directory that was begun with others."""
        path = self.directory / "settings.json"
        plain = json.loads(json.dumps(settings))
        if path.exists():
            begun = json.loads(path.read_text())
            changed = sorted(k for k in plain if begun.get(k) != plain[k])
            if changed:
                raise ValueError(
                    f"{str(self.directory)!r} was begun with other settings ({changed!r} differ); "
                    "choose another directory or delete it"
                )
        else:
            self.write("settings.json", json.dumps(plain, indent=1).encode())

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all."""
        with replacing(self.directory / name) as temporary:
            temporary.write_bytes(content)

    def once(self, name: str, make: Callable[[], bytes]) -> bytes:
        """Return the content of a file, made first if it is not there."""
        path = self.directory / name
        if is_search_worker():  # the chief makes it
            while not path.exists():
                time.sleep(1)
        if not path.exists():
            self.write(name, make())
        return path.read_bytes()
