"""The package on a machine that has none of its hosts: numerics alone.

A machine with many cores or a GPU may have no HyperSpy, pyxem, orix or diffsims. The numerics of
the package need none of them, but its wings' `__init__` import them. `stand_in_for_hosts` makes the
wings importable module by module; what numerics need of a crystal travels as a table.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_WINGS = ("scans", "bundles", "training", "indexing")


def stand_in_for_hosts(wavelength: float) -> None:
    """Make the package's numerics importable; `wavelength` in angstrom is that of all simulations.

    To be called before anything of the package is imported.
    """
    sys.path.insert(0, str(ROOT))
    for name in ("pyxem_nas", *(f"pyxem_nas.{wing}" for wing in _WINGS)):
        module = types.ModuleType(name)  # its __init__, which imports hosts, does not run
        module.__path__ = [str(ROOT.joinpath(*name.split(".")))]
        sys.modules[name] = module
    from pyxem_nas.diffraction.acquisition import Acquisition

    Acquisition.wavelength = property(lambda self: wavelength)
    # what modules take of these wings, from the modules that own it
    from pyxem_nas.bundles import judges, set_judge, shared_trunk

    _hand_on("bundles", judges, "MEAN_REACH", "Judge", "PhaseJudge", "Thresholds")
    _hand_on("bundles", set_judge, "CandidateScores", "PhaseScores", "get_set_judge")
    _hand_on("bundles", shared_trunk, "TRUNK", "build_shared_networks", "join_networks")
    from pyxem_nas.scans import camera, randomization

    _hand_on("scans", randomization, "Randomization")
    _hand_on("scans", camera, "simulate_descriptors")
    from pyxem_nas.scans import source

    _hand_on("scans", source, "DescriptorSource")


def _hand_on(wing: str, module: types.ModuleType, *names: str) -> None:
    for name in names:
        setattr(sys.modules[f"pyxem_nas.{wing}"], name, getattr(module, name))
