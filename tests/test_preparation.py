"""What is compiled beforehand is what an index needs."""

import logging

import numpy as np
import pytest
from numba.core import event

import pyxem_nas
from pyxem_nas import compiled_loops


class Compiled(event.Listener):
    """Names of the package's functions that numba compiles."""

    def __init__(self):
        self.names = []

    def on_start(self, event):
        function = event.data["dispatcher"].py_func
        if function.__module__.startswith("pyxem_nas."):
            self.names.append(function.__qualname__)

    def on_end(self, event):
        pass


@pytest.fixture(scope="module")
def scan():
    pyxem_nas.compile_kernels()
    phases = pyxem_nas.example_phases("steel")
    return pyxem_nas.simulate_scan(phases, (3, 2), pyxem_nas.Acquisition(200, 0.5), seed=1)[0]


@pytest.mark.parametrize(
    ("dtype", "method"),
    [("uint8", "hybrid"), (">u2", "match"), ("int32", "network"), ("float64", "template")],
)
def test_an_index_compiles_nothing_after_compile_kernels(scan, dtype, method):
    patterns = scan.deepcopy()
    patterns.data = patterns.data.astype(dtype)
    with event.install_listener("numba:compile", Compiled()) as compiled:
        xmap = patterns.index_phase_orientation("steel", method=method, show_progressbar=False)
    assert xmap.size == 6
    assert compiled.names == []


def test_one_line_tells_of_compiling(caplog):
    class Dispatcher:
        def py_func(self): ...

    Dispatcher.py_func.__module__ = "pyxem_nas.patterns.kernel"
    announcement = compiled_loops._Announcement()
    with caplog.at_level(logging.WARNING, "pyxem_nas"):
        for _ in range(2):
            announcement.on_start(
                event.Event("numba:compile", event.EventStatus.START, {"dispatcher": Dispatcher})
            )
    assert [r.getMessage().partition(",")[0] for r in caplog.records] == [
        "compiling for this machine"
    ]


@pytest.mark.parametrize("n", [0, 1, 7, 100])
@pytest.mark.parametrize("rows", [None, 3, 1000])
def test_every_row_is_worked_on_once(n, rows):
    def count(start, stop, counts):
        counts[start:stop] += 1

    counts = np.zeros(n)
    compiled_loops.run_rows(count, n, counts, rows=rows)
    assert (counts == 1).all()


def test_an_error_in_a_piece_is_raised():
    def fail(start, stop):
        if start:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        compiled_loops.run_rows(fail, 100, rows=10)
