"""Live: indexing while the microscope scans.

A user-defined function for LiberTEM and a watched folder. They hand blocks to `indexing` as
`signals` does. LiberTEM, an extra, is imported only where it is asked for.
"""

from typing import TYPE_CHECKING, Any

from pyxem_nas.live.watcher import SCAN_PATTERNS, watch_folder

if TYPE_CHECKING:
    from pyxem_nas.live.libertem import PhaseOrientationUDF

__all__ = ["SCAN_PATTERNS", "PhaseOrientationUDF", "watch_folder"]


def __getattr__(name: str) -> Any:
    if name == "PhaseOrientationUDF":  # LiberTEM takes seconds to import, and may not be there
        from pyxem_nas.live.libertem import PhaseOrientationUDF

        return PhaseOrientationUDF
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
