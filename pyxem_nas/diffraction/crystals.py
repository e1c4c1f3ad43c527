"""Crystals: from CIF files to checked phases.

Owns the one way in for crystals, `read_phases`. Symmetry belongs to `symmetry`, reflections to
`reflections`.
"""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orix.crystal_map import PhaseList


def read_phases(*paths: Path | str) -> PhaseList:
    """Return the phases of CIF files, named after the files.

    Parameters
    ----------
    *paths
        One CIF file per phase.

    Returns
    -------
    phase_list
        Phases in the order of the files, IDs from 0.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    ValueError
        If a file cannot be read or gives no atoms or no space group, or two have one name.
    """
    from orix.crystal_map import Phase, PhaseList

    names = [Path(path).stem for path in paths]
    if len(set(names)) < len(names):
        raise ValueError(f"phases are named after their files, two have one name: {names!r}")
    phases = []
    for path in map(Path, paths):
        if not path.exists():  # orix' CIF reader would look for it on the network
            raise FileNotFoundError(f"{str(path)!r} does not exist")
        try:
            with redirect_stdout(io.StringIO()):  # the parser prints its errors, which are raised
                phase = Phase.from_cif(path)
        except Exception as error:
            raise ValueError(
                f"{str(path)!r} cannot be read as a CIF file: {type(error).__name__}: {error}"
            ) from error
        if phase.space_group is None or not len(phase.structure):
            raise ValueError(
                f"{str(path)!r} gives no atoms or no space group; take a complete CIF file"
            )
        phases.append(phase)
    return PhaseList(phases)
