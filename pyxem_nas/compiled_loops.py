"""Compiled loops over rows, on all cores.

Owns the threads that share a loop's rows. numba's own parallel loops take three times as long to
compile, for every type of their arguments anew, and two threads may not be in them at once. And it
owns the word to the user while kernels are compiled, once for each machine.

What a loop calls with relaxed arithmetic (`fastmath`) is inlined by force: left alone, LLVM keeps
two copies, of which one is optimised twice, and a process that compiled them runs another one than
a process that loads them from numba's cache. Their last digits differ.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numba
from numba.core import event

__all__ = ["run_rows"]

_logger = logging.getLogger(__name__)
_PIECES = 4  # for each thread: one that is done early takes another
_ABOUT = 25  # seconds that an index compiles, on two idle cores


def run_rows(kernel: Callable[..., None], n: int, *arguments: Any, rows: int | None = None) -> None:
    """Run a compiled loop over the rows 0 to n, pieces of them side by side.

    Parameters
    ----------
    kernel
        Called as ``kernel(start, stop, *arguments)``; fills rows start to stop of arrays among the
        arguments. Compiled with ``nogil=True``; what is in a row must depend on that row alone.
    n
        Number of rows.
    *arguments
        Handed on.
    rows
        Of a piece. None: four pieces for each thread; more where rows share what is costly.

    Examples
    --------
    >>> import numpy as np
    >>> @numba.njit(nogil=True)
    ... def double(start, stop, values):
    ...     for i in range(start, stop):
    ...         values[i] *= 2
    >>> values = np.arange(5.0)
    >>> run_rows(double, len(values), values)
    >>> values
    array([0., 2., 4., 6., 8.])
    """
    n_threads = numba.get_num_threads()
    size = rows or max(1, -(-n // (_PIECES * n_threads)))
    if n_threads == 1 or n <= size:
        kernel(0, n, *arguments)
        return
    starts = range(0, n, size)
    done = _get_threads(os.getpid(), n_threads).map(
        lambda start: kernel(start, min(start + size, n), *arguments), starts
    )
    for _ in done:  # an error of any is raised
        pass


@cache
def _get_threads(process: int, n_threads: int) -> ThreadPoolExecutor:
    # of this process: a fork has the object, not the threads
    return ThreadPoolExecutor(n_threads, thread_name_prefix="pyxem_nas")


class _Announcement(event.Listener):
    """Says so, once, when a kernel of the package is compiled, not loaded from numba's cache."""

    def on_start(self, event: event.Event) -> None:
        module = event.data["dispatcher"].py_func.__module__
        if module.startswith("pyxem_nas."):
            self.on_start = lambda event: None
            _logger.warning(
                "compiling for this machine, about %d s, once (pyxem-nas compile does it "
                "beforehand)",
                _ABOUT,
            )

    def on_end(self, event: event.Event) -> None:
        pass


event.register("numba:compile", _Announcement())
