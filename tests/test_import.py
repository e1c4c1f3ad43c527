"""What `import pyxem_nas` may and may not do, in processes of its own: two for all tests."""

import json
import subprocess
import sys

import pytest

HEAVY = ("tensorflow", "keras", "autokeras", "keras_tuner", "libertem")
USE = """
import json, sys
import numpy as np
{first}
import pyxem_nas
heavy = [m for m in {heavy!r} if m in sys.modules]
{then}
names = [n for n in pyxem_nas.__all__ if not hasattr(pyxem_nas, n)]
methods = [callable(s.index_phase_orientation), callable(s.get_polar_descriptors)]
print(json.dumps(dict(heavy=heavy, missing=names, methods=methods, type=type(s).__name__)))
"""
LOADED_BEFORE = """
from pyxem.signals import ElectronDiffraction2D
s = ElectronDiffraction2D(np.zeros((2, 8, 8))).as_lazy()
"""
LOADED_AFTER = """
import hyperspy.api as hs
s = hs.signals.Signal2D(np.zeros((2, 8, 8)))
s.set_signal_type("electron_diffraction")
"""
HELP = f"""
from pyxem_nas import cli
sys.argv = ["pyxem-nas", "index", "--help"]
try:
    cli.main()
finally:
    assert not [m for m in {HEAVY!r} if m in sys.modules]
"""


def run(code: str) -> str:
    """Return what a process of its own prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error::Warning:pyxem_nas", "-c", code],
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def before():
    return run(USE.format(first=LOADED_BEFORE, then="", heavy=HEAVY))


@pytest.fixture(scope="module")
def after():
    return run(USE.format(first="", then=LOADED_AFTER, heavy=HEAVY) + HELP)


def test_import_loads_no_deep_learning_and_prints_nothing(before, after):
    for printed in (before, after):
        # the first line is the test's
        assert json.loads(printed.splitlines()[0])["heavy"] == []
    assert len(before.splitlines()) == 1


def test_methods_are_on_signals_loaded_before_the_import(before):
    found = json.loads(before)
    assert found["type"] == "LazyElectronDiffraction2D"
    assert found["methods"] == [True, True]


def test_methods_are_on_signals_loaded_after_the_import(after):
    found = json.loads(after.splitlines()[0])
    assert found["type"] == "ElectronDiffraction2D"
    assert found["methods"] == [True, True]


def test_every_public_name_exists(after):
    assert json.loads(after.splitlines()[0])["missing"] == []


def test_help_of_the_command_loads_no_deep_learning(after):
    assert "--scale" in after
