"""What `import pyxem_nas` may and may not do, in a process of its own."""

import subprocess
import sys

HEAVY = ("tensorflow", "keras", "autokeras", "keras_tuner")


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-W", "error::Warning:pyxem_nas", "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_import_loads_no_deep_learning_and_prints_nothing():
    done = run(f"import sys, pyxem_nas; assert not [m for m in {HEAVY!r} if m in sys.modules]")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def test_methods_are_on_signals_loaded_before_the_import():
    done = run(
        "import numpy as np\n"
        "from pyxem.signals import ElectronDiffraction2D\n"
        "s = ElectronDiffraction2D(np.zeros((2, 8, 8))).as_lazy()\n"
        "import pyxem_nas\n"
        "print(callable(s.index_phase_orientation), callable(s.get_polar_descriptors))"
    )
    assert done.stdout.split() == ["True", "True"], done.stderr


def test_methods_are_on_signals_loaded_after_the_import():
    done = run(
        "import pyxem_nas\n"
        "import numpy as np, hyperspy.api as hs\n"
        "s = hs.signals.Signal2D(np.zeros((2, 8, 8)))\n"
        "s.set_signal_type('electron_diffraction')\n"
        "print(callable(s.index_phase_orientation), callable(s.get_polar_descriptors))"
    )
    assert done.stdout.split() == ["True", "True"], done.stderr


def test_every_public_name_exists():
    done = run(
        "import pyxem_nas\n"
        "print([n for n in pyxem_nas.__all__ if not hasattr(pyxem_nas, n)], pyxem_nas.__version__)"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[]")


def test_help_of_the_command_loads_no_deep_learning():
    done = run(
        "import sys, pyxem_nas.cli as cli\n"
        "sys.argv = ['pyxem-nas', 'index', '--help']\n"
        "try:\n"
        "    cli.main()\n"
        "finally:\n"
        f"    assert not [m for m in {HEAVY!r} if m in sys.modules]\n"
    )
    assert done.returncode == 0, done.stderr
    assert "--scale" in done.stdout
