"""Whether there is a GPU that TensorFlow can use: networks and exhaustive matching ask.

Owns that question alone; `runtime` and `matching` decide what follows.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

__all__ = ["has_gpu"]


@cache
def has_gpu() -> bool:
    """Return whether TensorFlow has a GPU, without importing it where the machine has none."""
    if not any(Path("/dev").glob("nvidia[0-9]*")):  # asking TensorFlow would take its import
        return False
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))
