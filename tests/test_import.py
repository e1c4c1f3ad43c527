"""What `import pyxem_nas` and the command may and may not do, in processes of their own."""

import json
import subprocess
import sys
from importlib.metadata import version

import pytest

HEAVY = ("tensorflow", "keras", "autokeras", "keras_tuner", "libertem")
HOSTS = ("pyxem", "hyperspy", "orix", "diffsims", "numba", "scipy", "matplotlib")
LOADED_BEFORE = """
import json, sys
import numpy as np
from pyxem.signals import ElectronDiffraction2D
s = ElectronDiffraction2D(np.zeros((2, 8, 8))).as_lazy()
import pyxem_nas
"""
LOADED_AFTER = f"""
import json, sys
import pyxem_nas
light = [m for m in {HOSTS!r} if m in sys.modules]
assert not light, f"import pyxem_nas imports {{light}}"
import numpy as np
import hyperspy.api as hs
s = hs.signals.Signal2D(np.zeros((2, 8, 8)))
s.set_signal_type("electron_diffraction")
"""
SHOW = f"""
heavy = [m for m in {HEAVY!r} if m in sys.modules]
methods = [callable(s.index_phase_orientation), callable(s.get_polar_descriptors)]
missing = [n for n in pyxem_nas.__all__ if not hasattr(pyxem_nas, n)]
print(json.dumps(dict(heavy=heavy, methods=methods, type=type(s).__name__, missing=missing)))
"""
GUARDS = """
import sys
import wrapt

def attempt(use):
    # import_module of a class's module takes it from here, with its package unimported
    for name in [n for n in sys.modules if n.partition(".")[0] in ("pyxem", "pyxem_nas")]:
        del sys.modules[name]
    try:
        use()
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
    else:
        print("no error")

def foreign(self): ...

def add_foreign(module):
    module.ElectronDiffraction2D.index_phase_orientation = foreign

def lose_matcher(module):
    del module.PolarDiffraction2D.get_orientation

def change(what):
    import pyxem.signals
    what(pyxem.signals)
    import pyxem_nas

def change_on_import(what):
    wrapt.register_post_import_hook(what, "pyxem.signals")
    import pyxem_nas
    print("imported")
    import hyperspy.api as hs
    import numpy as np
    hs.signals.Signal2D(np.zeros((2, 8, 8))).set_signal_type("electron_diffraction")

for what in (add_foreign, lose_matcher):
    attempt(lambda: change(what))
    attempt(lambda: change_on_import(what))
"""
COMMAND = f"""
import sys
from pyxem_nas import cli
for arguments in (
    ["--version"], ["--wrong"], ["index", "--help"], ["index", "no.blo", "--bundle=steel"]
):
    light = [m for m in {HOSTS!r} if m in sys.modules]
    assert not light, f"the command imports {{light}}"
    sys.argv = ["pyxem-nas", *arguments]
    try:
        cli.main()
    except SystemExit as stop:
        print("exits with", stop.code)
assert "pyxem_nas.patterns.scan_files" in sys.modules
"""


def run(code: str, *options: str) -> subprocess.CompletedProcess:
    """Return a process of its own that has run."""
    command = [sys.executable, *options, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module", params=[LOADED_BEFORE, LOADED_AFTER], ids=["before", "after"])
def found(request):
    """Return what a process found, where the signal was loaded before the import, or after."""
    return json.loads(run(request.param + SHOW, "-W", "error::Warning:pyxem_nas").stdout)


def test_import_loads_no_deep_learning_and_no_host(found):
    assert found["heavy"] == []  # and of hosts the process itself takes care


def test_signals_have_the_methods(found):
    assert found["type"].endswith("ElectronDiffraction2D")
    assert found["methods"] == [True, True]


def test_every_public_name_exists(found):
    assert found["missing"] == []


def test_a_foreign_method_or_a_changed_host_is_an_error_whichever_is_imported_first():
    lines = run(GUARDS).stdout.splitlines()
    foreign = "AttributeError: ElectronDiffraction2D.index_phase_orientation exists already, from "
    changed = f"ImportError: pyxem {version('pyxem')} has no LazyPolarDiffraction2D.get_orientation"
    expected = [foreign, "imported", foreign, changed, "imported", changed]
    assert len(lines) == len(expected)
    for line, beginning in zip(lines, expected, strict=True):
        assert line.startswith(beginning)


@pytest.fixture(scope="module")
def command():
    return run(COMMAND)


def test_the_command_answers_without_the_hosts(command):
    assert "--scale" in command.stdout
    assert command.stdout.count("exits with 2") == 2  # an option and a scan that are not there


def test_no_warning_for_programmers_greets_the_user_of_the_command(command):
    assert "'no.blo' does not exist" in command.stderr
    assert "Warning" not in command.stderr
