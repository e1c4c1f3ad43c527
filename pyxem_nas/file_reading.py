"""One kind of error of all readers.

Owns the turning of whatever a reader behind stumbles upon into a ``ValueError`` or
``FileNotFoundError`` that names the file. What is read belongs to the wings above.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["reading", "silenced"]


@contextmanager
def reading(path: Path, how: str) -> Iterator[None]:
    """Turn whatever a reader raises into an error that names the file."""
    if not path.exists():  # orix' CIF reader would look for it on the network
        raise FileNotFoundError(f"{str(path)!r} does not exist")
    try:
        yield
    except Exception as error:
        kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
        raise ValueError(f"{str(path)!r} cannot be read {how}: {kind}{error}") from error


@contextmanager
def silenced(name: str) -> Iterator[None]:
    """Keep a logger quiet."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
