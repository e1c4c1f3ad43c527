"""What the package relies on in HyperSpy, pyxem and orix beyond their documented interfaces.

Owns the list, and the error that says which host has changed and what to do about it.
"""

from __future__ import annotations

import importlib
import inspect
from importlib.metadata import version

__all__ = ["check_hosts"]

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
