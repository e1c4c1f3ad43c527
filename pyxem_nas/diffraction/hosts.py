"""What the package relies on in its hosts that changes between their versions.

Owns the list of what is used beyond documented interfaces, the error that says which host has
changed and what to do about it, and access to what newer versions call by another name.
"""

from __future__ import annotations

import importlib
import inspect
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orix.crystal_map import Phase

__all__ = ["check_hosts", "get_lattice_parameters"]

_RELIED_ON = (
    # package, module, class, attribute, parameters of that method
    ("hyperspy", "hyperspy.axes", "AxesManager", "_navigation_shape_in_array", ()),
    ("hyperspy", "hyperspy.axes", "AxesManager", "_signal_shape_in_array", ()),
    ("hyperspy", "hyperspy.signal", "BaseSignal", "_assign_subclass", ()),
    (
        "pyxem",
        "pyxem.signals",
        "LazyPolarDiffraction2D",
        "get_orientation",
        ("n_best", "frac_keep"),
    ),
    ("orix", "orix.crystal_map", "PhaseList", "add_not_indexed", ()),
    ("orix", "orix.quaternion", "Rotation", "from_matrix", ()),
)


def check_hosts() -> None:
    """Raise an error that helps if a host package has lost what this one relies on.

    Raises
    ------
    ImportError
        If a class, a method or a parameter is gone; it names the package and its version.
    """
    for package, module, owner, attribute, parameters in _RELIED_ON:
        found = getattr(importlib.import_module(module), owner, None)
        member = getattr(found, attribute, None)
        lost = member is None
        if parameters and not lost:
            lost = not set(parameters) <= set(inspect.signature(member).parameters)
        if lost:
            raise ImportError(
                f"{package} {version(package)} has no {owner}.{attribute}{parameters or ''}, which "
                f"pyxem_nas {version('pyxem-nas')} needs; upgrade pyxem-nas, or install an older "
                f'{package}: pip install "{package}<{version(package)}"'
            )


def get_lattice_parameters(phase: Phase) -> tuple[float, ...]:
    """Return a, b, c in angstrom and alpha, beta, gamma in degrees of a phase."""
    # diffpy.structure 3.4 renames the method that gave all six
    lattice = phase.structure.lattice
    names = ("a", "b", "c", "alpha", "beta", "gamma")
    return tuple(float(getattr(lattice, name)) for name in names)
