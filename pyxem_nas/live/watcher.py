"""A folder into which a microscope writes scans.

Owns the waiting: which file is a scan, when it is complete, and which of them are done. What is
done with a scan belongs to the caller.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

__all__ = ["SCAN_PATTERNS", "watch_folder"]

SCAN_PATTERNS = (
    "*.blo", "*.mib", "*.hspy", "*.zspy", "*.dm3", "*.dm4", "*.app5", "*.tvips", "*.seq",
)  # fmt: skip
"""Names of scans that `watch_folder` looks for; .h5 is not among them, for maps have it, too."""

_UNFINISHED = (".tmp", ".part", ".partial", ".crdownload", "~")
_State = tuple[int, int]  # size in bytes, time of the last change in ns


def watch_folder(
    folder: Path | str,
    *,
    patterns: Sequence[str] = SCAN_PATTERNS,
    settle: float = 5.0,
    poll: float = 0.5,
    idle_timeout: float | None = None,
    skip: Callable[[Path], bool] | None = None,
) -> Iterator[Path]:
    """Yield each scan in a folder once it is complete, oldest first, and go on waiting.

    Parameters
    ----------
    folder
        The folder; folders in it are not searched, but a folder whose name fits is a scan (.zspy).
    patterns
        Names of scans. Hidden names, and those that end as of unfinished files (.tmp, .part), are
        passed over, so that a file moved into the folder under its final name is seen only then.
    settle
        Seconds for which size and time of a file must stay the same before it is complete; 0 takes
        it at first sight, for programs that move complete files into the folder.
    poll
        Seconds between two looks.
    idle_timeout
        Stop when no new scan has come, and none is growing, for so many seconds; None: never.
    skip
        Files for which this is True are passed over, say because their map exists.

    Yields
    ------
    path
        A complete file. A file that changes later is yielded again, when it is complete again.

    Raises
    ------
    NotADirectoryError
        If there is no such folder.

    Examples
    --------
    >>> for path in watch_folder("scans", patterns=["*.blo"], idle_timeout=60):  # doctest: +SKIP
    ...     print(path)
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotADirectoryError(f"{str(folder)!r} is no folder; make it first")
    done: dict[Path, _State] = {}
    waiting: dict[Path, tuple[_State, float]] = {}  # and since when it is as it is
    last_event = time.monotonic()
    while True:
        now = time.monotonic()
        present = _look(folder, patterns)
        for path, state in present.items():
            if done.get(path) != state and waiting.get(path, (None,))[0] != state:
                waiting[path] = state, now
                last_event = now
        waiting = {path: seen for path, seen in waiting.items() if path in present}
        ready = [path for path, (_, since) in waiting.items() if now - since >= settle]
        for path in sorted(ready, key=lambda path: waiting[path][0][1]):
            done[path] = waiting.pop(path)[0]
            if skip is None or not skip(path):
                yield path
                last_event = time.monotonic()
        if idle_timeout is not None and time.monotonic() - last_event >= idle_timeout:
            return
        time.sleep(poll)


def _look(folder: Path, patterns: Sequence[str]) -> dict[Path, _State]:
    """Return the scans of a folder and their states."""
    found = {}
    for path in {path for pattern in patterns for path in folder.glob(pattern)}:
        if path.name.startswith(".") or path.name.endswith(_UNFINISHED):
            continue
        try:
            found[path] = _get_state(path)
        except FileNotFoundError:  # moved away between two calls
            continue
    return found


def _get_state(path: Path) -> _State:
    """Return size and last change of a file, or of all files in a folder."""
    parts = [p.stat() for p in (path, *path.rglob("*"))] if path.is_dir() else [path.stat()]
    return sum(p.st_size for p in parts), max(p.st_mtime_ns for p in parts)
