"""The explorer's container: a header and typed arrays in one compressed block of bytes.

Owns the layout that ``web/container.js`` reads, and how numbers are rounded to small integers. What
is in the arrays belongs to `content` and `patterns`.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["MISSING", "pack", "quantise", "quantise_rotations"]

MISSING = 255
"""Level of a value that is not there."""
_LEVELS = MISSING - 1
_ALIGNMENT = 8  # typed arrays of JavaScript start at multiples of their item's size


def pack(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return a header and arrays as one block, compressed by deflate.

    Parameters
    ----------
    header
        Plain values for JSON.
    arrays
        By name, of dtype u1, i1, i2, i4, f4 or f8.

    Returns
    -------
    block
        A zlib stream of: length of the JSON text (u4, little endian), the text, padding to 8 bytes,
        and the arrays, each padded to 8 bytes. The text tells their names, dtypes, shapes and
        offsets from the first.
    """
    entries, parts, offset = {}, [], 0
    for name, array in arrays.items():
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        data = little.tobytes()
        entries[name] = {"dtype": little.dtype.str[1:], "shape": little.shape, "offset": offset}
        parts.append(data + bytes(-len(data) % _ALIGNMENT))
        offset += len(parts[-1])
    text = json.dumps({**header, "arrays": entries}, separators=(",", ":")).encode()
    text += b" " * (-(4 + len(text)) % _ALIGNMENT)
    return zlib.compress(b"".join([len(text).to_bytes(4, "little"), text, *parts]), 6)


def quantise(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return values as levels of one byte, 255 where they are not finite.

    Parameters
    ----------
    values
        Any shape.
    low, high
        Values of the levels 0 and 254; what lies outside is clipped.

    Examples
    --------
    >>> quantise(np.array([0.0, 0.5, 1.0, np.nan]), 0.0, 1.0).tolist()
    [0, 127, 254, 255]
    """
    values = np.asarray(values, float)
    share = (np.clip(values, low, high) - low) / (high - low if high > low else 1.0)
    return np.where(np.isfinite(values), np.round(_LEVELS * np.nan_to_num(share)), MISSING).astype(
        np.uint8
    )


def quantise_rotations(quaternions: np.ndarray) -> np.ndarray:
    """Return unit quaternions (..., 4) as int16, 32767 for 1: off by 0.003 degrees at most."""
    q = np.asarray(quaternions, float)
    q = np.where(q[..., :1] < 0, -q, q)  # one sign for all compresses better
    return np.round(32767 * q).astype(np.int16)
