"""Files that are written whole or not at all.

Owns the one way in which the package replaces a file, and the look before hours of work whether it
may. What is in the files belongs to their owners: bundles, maps, checkpoints, settings.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["check_can_write", "replacing"]


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Give a path to write to; what is there at the end replaces the file, all at once.

    A process that is killed, a full disk or an error in the block leave the file as it was.

    Parameters
    ----------
    path
        The file to make or replace. The path given to the block is beside it and has its suffix.

    Raises
    ------
    OSError
        If the file cannot be written; the message names it.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder) / "a.txt") as temporary:
    ...         _ = temporary.write_text("whole")
    ...     (Path(folder) / "a.txt").read_text()
    'whole'
    """
    path = Path(path)
    # the same folder: os.replace must not cross file systems
    temporary = path.with_name(f".{path.stem}-{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # else a power cut could leave an empty file of the new name
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or str(error)
        message = f"cannot write {str(path)!r}: {reason}; a file that was there is as it was"
        raise OSError(*([error.errno] if error.errno else []), message) from error
    finally:
        temporary.unlink(missing_ok=True)


def check_can_write(paths: Sequence[Path], *, overwrite: bool) -> None:
    """Raise an error where a file cannot be written or would be replaced against the wish.

    Parameters
    ----------
    paths
        Files to be written later.
    overwrite
        Whether they may replace others.

    Raises
    ------
    FileExistsError
        If one exists and ``overwrite`` is False.
    FileNotFoundError
        If the folder of one does not exist.
    PermissionError
        If nothing can be written there.
    IsADirectoryError
        If one is a folder.
    """
    for path in paths:
        if path.is_dir():
            raise IsADirectoryError(f"{str(path)!r} is a folder; name a file")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"folder {str(path.parent)!r} does not exist; make it first")
        if path.exists() and not overwrite:
            raise FileExistsError(f"{str(path)!r} exists; pass --overwrite to replace it")
    for folder in {path.parent for path in paths}:
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise PermissionError(
                f"nothing can be written in {str(folder)!r} ({error}); choose another folder"
            ) from error
