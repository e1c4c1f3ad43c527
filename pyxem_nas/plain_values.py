"""Values as JSON knows them: what reports and the command line write."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any


def to_plain(value: Any) -> Any:
    """Return a value as JSON knows it.

    Parameters
    ----------
    value
        Dataclass, mapping, array, sequence or scalar, nested as one likes.

    Returns
    -------
    plain
        Dictionaries, lists, texts and numbers. Numbers that are not finite become None, objects
        of other types their text.

    Examples
    --------
    >>> import numpy as np
    >>> to_plain({"median": float("nan"), "counts": np.array([1, 2])})
    {'median': None, 'counts': [1, 2]}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | None) else str(value)
