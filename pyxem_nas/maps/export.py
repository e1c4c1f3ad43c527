"""Crystal maps written to the files of other tools.

Owns the formats: .ang (EDAX TSL text), .ctf (Oxford/HKL Channel text) and .h5 (orix' own HDF5),
their units and numbering; frames and symmetry of crystals in them belong to `crystal_frames`, an
import script for MTEX to `mtex_script`. The map itself is made in
:mod:`pyxem_nas.maps.crystal_map`.
"""

import copy
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from orix.crystal_map import CrystalMap, Phase
from orix.quaternion import Rotation

from pyxem_nas.file_writing import replacing
from pyxem_nas.maps.crystal_frames import WrittenCell, channel_from_orix, get_written_cell
from pyxem_nas.maps.crystal_map import NOT_INDEXED, all_positions, best_rotations

__all__ = ["channel_from_orix", "check_map_unit", "save_map"]

_MICROMETRES = {
    "pm": 1e-6,
    "a": 1e-4,
    "å": 1e-4,
    "angstrom": 1e-4,
    "nm": 1e-3,
    "um": 1.0,
    "µm": 1.0,  # micro sign
    "μm": 1.0,  # Greek mu
    "micrometer": 1.0,
    "mm": 1e3,
    "m": 1e6,
    "px": 1.0,
    "": 1.0,
}
_ANG_COLUMNS = (
    "phi1, Phi, phi2, x, y, image_quality, confidence_index, phase_id, detector_signal, pattern_fit"
)
_CTF_COLUMNS = "Phase X Y Bands Error Euler1 Euler2 Euler3 MAD BC BS".split()
_CTF_NO_SOLUTION = 3
_QUALITIES = ("correlation", "reliability", "phase_probability", "orientation_probability")


def save_map(path: Path | str, xmap: CrystalMap, overwrite: bool = False) -> None:
    """Write a crystal map to an .ang, .ctf or .h5 file.

    The file is written under another name beside ``path`` and then moved into place, so that a
    failed write leaves an older file as it was.

    Parameters
    ----------
    path
        File to write; its suffix, .ang, .ctf, .h5 or .hdf5, decides the format.
    xmap
        Map of one or two dimensions on a rectangular grid.
    overwrite
        Whether to replace an existing file.

    Raises
    ------
    FileExistsError
        If the file exists and ``overwrite`` is False.
    FileNotFoundError
        If the folder does not exist.
    ValueError
        If the suffix is another one, or the map cannot be written in that format: unknown unit
        of length, positions not on a grid, several solutions of a single position (.h5).

    Warns
    -----
    UserWarning
        If a text format cannot say where the symmetry axes of a phase lie.

    See Also
    --------
    write_mtex_script : Import a written .ang or .ctf file into MTEX in the right frame.
    orix.io.load : Read the map back.

    Notes
    -----
    **Specimen frame**, all formats: the Bunge Euler angles are those of ``xmap.rotations``
    (lab2crystal), in the frame x to the right, y up and z out of the map, towards the reader.
    Positions are counted x to the right and y *down*, as all these tools do. Euler angles are
    thus turned by 180 degrees about x against the positions (EDAX setting 3, the usual
    convention of .ctf), which the tool must be told: EDAX and MTEX assume other settings by
    default. Only ``rotations[:, 0]``, the best solution, is written to .ang and .ctf.

    **Crystal frame**. orix and .ang: x along a, z along c*. The Channel format: x along a*, z
    along c. They differ for hexagonal and trigonal phases by 30 degrees about c, for monoclinic
    and triclinic ones by other angles, and not at all for orthogonal axes. Angles written to
    .ctf are converted, so that AZtec, Channel 5 and MTEX read the physical orientation; orix
    0.15 does not convert when it reads *any* .ctf file: after ``orix.io.load``, multiply
    ``~channel_from_orix(phase) * xmap.rotations`` for such a phase.

    **Symmetry** in .ang and .ctf is the Laue group (and in .ctf the space group's number): that its
    axes lie otherwise than in the standard setting cannot be said there, and warns. A phase on
    rhombohedral axes is written as its hexagonal cell.

    **Positions** in .ang and .ctf are micrometres whatever ``xmap.scan_unit``; pixels stay pixels.
    The grid is complete: positions that are not in the data are written as not indexed. Phases
    are numbered from 1 in the order of ``xmap.phases``.

    **Quality columns**. .ang: image quality = ``correlation``, confidence index = ``reliability``
    / 100, detector signal = ``phase_probability``; not indexed: confidence index -1, all angles
    4 pi, fit 180, phase 0. .ctf: BC = 255 ``correlation`` and BS = 2.55 ``reliability``, both
    integers; MAD = 1 - ``orientation_probability``, which is no angle, but smaller is better as
    for a MAD; not indexed: phase 0, error 3.

    Properties that are missing or not finite are written as 0 (as a MAD of 0, too). The .h5 file
    keeps everything.

    References
    ----------
    Britton et al., Mater. Charact. 117 (2016) 113, doi:10.1016/j.matchar.2016.04.008, on the
    frames of the vendors.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from orix.crystal_map import CrystalMap
    >>> xmap = CrystalMap.empty((2, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_map(Path(folder) / "map.ctf", xmap)
    ...     print((Path(folder) / "map.ctf").read_text().splitlines()[4].split())
    ['XCells', '3']
    """
    path = Path(path)
    writer = _writer_of(path)
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"{str(path)!r} exists; pass overwrite=True to replace it or choose another name"
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(f"folder {str(path.parent)!r} does not exist; make it first")
    with replacing(path) as temporary:
        writer(temporary, xmap)


def check_map_unit(paths: Sequence[Path], scan_unit: str) -> None:
    """Raise ValueError where a map in this unit cannot be written to one of the files.

    Parameters
    ----------
    paths
        Maps to be written later.
    scan_unit
        Of the scan's steps.
    """
    for path in paths:
        if path.suffix.lower() in (".ang", ".ctf"):
            try:
                _micrometres_per(scan_unit)
            except ValueError as error:
                raise ValueError(f"{str(path)!r} cannot be written: {error}, or save .h5") from None


@dataclass(frozen=True)
class _Grid:
    """All positions of a map, row-major, as the text formats need them."""

    shape: tuple[int, int]
    step: tuple[float, float]
    """Step along y and x, micrometres."""
    x: np.ndarray
    y: np.ndarray
    phase_number: np.ndarray
    """0 for not indexed, else from 1 in the order of ``phases``."""
    rotations: Rotation
    phases: list[Phase]
    properties: dict[str, np.ndarray]

    def property(self, name: str, missing: float = 0.0) -> np.ndarray:
        """Return a property, shape (n,), with a number where it is absent or not indexed."""
        values = self.properties.get(name)
        if values is None:
            return np.full(self.x.size, missing)
        return np.where(np.isfinite(values) & (self.phase_number > 0), values, missing)


def _writer_of(path: Path) -> Callable[[Path, CrystalMap], None]:
    """Return the function that writes files with the suffix of ``path``."""
    writers = {".ang": _write_ang, ".ctf": _write_ctf, ".h5": _write_h5, ".hdf5": _write_h5}
    try:
        return writers[path.suffix.lower()]
    except KeyError:
        raise ValueError(
            f"unknown suffix {path.suffix!r} of {str(path)!r}; "
            "a map is written as .ang, .ctf or .h5 (.hdf5)"
        ) from None


def _complete_grid(xmap: CrystalMap) -> _Grid:
    """Return all positions of a map, those that are not in the data as not indexed."""
    scale = _micrometres_per(xmap.scan_unit)
    x, y = (coordinate * scale for coordinate in all_positions(xmap))
    n_points = x.size
    nx, ny = np.unique(x).size, np.unique(y).size
    row_major = nx * ny == n_points and np.array_equal(np.lexsort((x, y)), np.arange(n_points))
    if not row_major:
        raise ValueError(
            f"the {n_points} positions are not a rectangular grid in row-major order "
            f"({ny} different y, {nx} different x); save the map as .h5"
        )
    phases = [(i, phase) for i, phase in xmap.phases if i != NOT_INDEXED]
    number = np.zeros(xmap.size, dtype=int)
    for position, (phase_id, _) in enumerate(phases, start=1):
        number[xmap.phase_id == phase_id] = position

    def spread(rows: np.ndarray, fill: float) -> np.ndarray:
        whole = np.full((n_points, *rows.shape[1:]), fill, dtype=rows.dtype)
        whole[xmap.id] = rows
        return whole

    quaternions = spread(best_rotations(xmap).data, 0.0)
    quaternions[~xmap.is_in_data, 0] = 1.0
    return _Grid(
        shape=(ny, nx),
        step=(_step(y), _step(x)),
        x=x,
        y=y,
        phase_number=spread(number, 0),
        rotations=Rotation(quaternions),
        phases=[phase for _, phase in phases],
        properties={
            name: spread(xmap.prop[name].reshape(xmap.size, -1)[:, 0].astype(float), 0.0)
            for name in _QUALITIES
            if name in xmap.prop
        },
    )


def _micrometres_per(scan_unit: str) -> float:
    """Return how many micrometres the unit is; 1 for pixels."""
    try:
        return _MICROMETRES[str(scan_unit).strip().lower()]
    except KeyError:
        raise ValueError(
            f"unit of length {scan_unit!r} cannot be converted to micrometres; "
            f"set xmap.scan_unit to one of {[u for u in _MICROMETRES if u]!r}"
        ) from None


def _step(coordinates: np.ndarray) -> float:
    """Return the mean distance of neighbouring coordinates, 1 where there is only one."""
    different = np.unique(coordinates)
    # the mean: a difference of two rounded coordinates would add up over a row
    return float(np.ptp(different) / (different.size - 1)) if different.size > 1 else 1.0


def _euler_angles(grid: _Grid, cells: list[WrittenCell]) -> np.ndarray:
    """Return Bunge angles in radians in the frames of the written cells, 0 where not indexed."""
    euler = np.zeros((grid.x.size, 3))
    for number, cell in enumerate(cells, start=1):
        rows = grid.phase_number == number
        if rows.any():
            euler[rows] = (cell.rotation * grid.rotations[rows]).to_euler()
    return euler


def _phase_name(phase: Phase, number: int) -> str:
    """Return a name of one line without tabs."""
    return " ".join(phase.name.split()) or f"phase{number}"


def _write_h5(path: Path, xmap: CrystalMap) -> None:
    """Write orix' HDF5 file."""
    from orix.io.plugins.orix_hdf5 import file_writer

    if xmap.is_in_data.size == 1 and xmap.rotations_per_point > 1:
        # orix squeezes (1, n_best, 3) Euler angles to n_best positions when it reads them
        raise ValueError(
            "orix cannot read back several solutions of a single position; index with n_best=1"
        )
    if not str(xmap.scan_unit).isascii() and _micrometres_per(xmap.scan_unit) == 1:
        # orix reads UTF-8 as Latin-1: µm would come back as Âµm
        xmap = copy.copy(xmap)
        xmap.scan_unit = "um"
    # in memory first: on a full disk the HDF5 library ends the whole process (segmentation fault)
    content = io.BytesIO()
    file_writer(content, xmap)
    path.write_bytes(content.getbuffer())


def _write_ang(path: Path, xmap: CrystalMap) -> None:
    """Write an EDAX TSL text file."""
    # not orix' writer: its five decimals of a micrometre spoil nanometre steps (a row of 500
    # steps of 1.234 nm is read back as 502), and it writes a single column as a row
    grid = _complete_grid(xmap)
    indexed = grid.phase_number > 0
    cells = [get_written_cell(phase, ".ang") for phase in grid.phases]
    euler = np.where(indexed[:, np.newaxis], _euler_angles(grid, cells), 4 * np.pi)
    table = np.column_stack(
        [
            euler,
            grid.x,
            grid.y,
            grid.property("correlation"),
            np.where(indexed, grid.property("reliability") / 100, -1.0),
            grid.phase_number,
            grid.property("phase_probability"),
            np.where(indexed, 0.0, 180.0),
        ]
    )
    fmt = ["%9.6f"] * 3 + ["%.8f"] * 2 + ["%.5f", "%.5f", "%d", "%.5f", "%.3f"]
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"# {line}".rstrip() + "\n" for line in _ang_header(grid, cells))
        np.savetxt(file, table, fmt=fmt, delimiter="  ")


def _ang_header(grid: _Grid, cells: list[WrittenCell]) -> list[str]:
    """Return the header lines of an .ang file without the comment sign."""
    lines = ["TEM_PIXperUM          1.000000"]
    lines += [f"{key:<22}0.000000" for key in ("x-star", "y-star", "z-star", "WorkingDistance")]
    # MTEX takes the phase column for zero based where 0 (not indexed) occurs and the last phase
    # does not: do not declare phases beyond the last one in the map
    n_declared = max(int(grid.phase_number.max()), 1)
    declared = list(zip(grid.phases, cells, strict=True))[:n_declared]
    for number, (phase, cell) in enumerate(declared, start=1):
        lengths_angles = " ".join(f"{value:.4f}" for value in cell.lattice)
        lines += [
            "",
            f"Phase {number}",
            f"MaterialName  {_phase_name(phase, number)}",
            "Formula",  # empty: orix would rename the phase after it
            "Info",
            f"Symmetry              {cell.edax_code}",
            f"LatticeConstants      {lengths_angles}",
            "NumberFamilies        0",
        ]
    (ny, nx), (dy, dx) = grid.shape, grid.step
    lines += ["", "GRID: SqrGrid", f"XSTEP: {dx:.8f}", f"YSTEP: {dy:.8f}"]
    lines += [f"NCOLS_ODD: {nx}", f"NCOLS_EVEN: {nx}", f"NROWS: {ny}", ""]
    lines += ["OPERATOR: pyxem_nas", "SAMPLEID:", "SCANID:", ""]
    # orix knows by this line that CI -1 is not indexed
    return [*lines, f"Column names: {_ANG_COLUMNS}", ""]


def _write_ctf(path: Path, xmap: CrystalMap) -> None:
    """Write an Oxford/HKL Channel text file."""
    grid = _complete_grid(xmap)
    indexed = grid.phase_number > 0
    cells = [get_written_cell(phase, ".ctf") for phase in grid.phases]
    table = np.column_stack(
        [
            grid.phase_number,
            grid.x,
            grid.y,
            np.zeros(grid.x.size),
            np.where(indexed, 0, _CTF_NO_SOLUTION),
            np.rad2deg(_euler_angles(grid, cells)),
            1 - grid.property("orientation_probability", missing=1.0),
            np.rint(255 * np.clip(grid.property("correlation"), 0, 1)),
            np.rint(2.55 * np.clip(grid.property("reliability"), 0, 100)),
        ]
    )
    fmt = ["%d", "%.8f", "%.8f", "%d", "%d", "%.4f", "%.4f", "%.4f", "%.4f", "%d", "%d"]
    with path.open("w", encoding="utf-8", newline="\r\n") as file:
        file.writelines(line + "\n" for line in _ctf_header(grid, cells))
        np.savetxt(file, table, fmt=fmt, delimiter="\t")


def _ctf_header(grid: _Grid, cells: list[WrittenCell]) -> list[str]:
    """Return the header lines of a .ctf file, the column names last."""
    (ny, nx), (dy, dx) = grid.shape, grid.step
    lines = ["Channel Text File", "Prj\tpyxem_nas", "Author\tpyxem_nas", "JobMode\tGrid"]
    lines += [f"XCells\t{nx}", f"YCells\t{ny}", f"XStep\t{dx:.8f}", f"YStep\t{dy:.8f}"]
    lines += [f"AcqE{i}\t0.0000" for i in (1, 2, 3)]
    lines.append(
        "Euler angles refer to Sample Coordinate system (CS0)!\tMag\t0.0000\tCoverage\t100"
        "\tDevice\t0\tKV\t0.0000\tTiltAngle\t0.0000\tTiltAxis\t0"
    )
    lines.append(f"Phases\t{len(grid.phases)}")
    for number, (phase, cell) in enumerate(zip(grid.phases, cells, strict=True), start=1):
        values = [f"{value:.4f}" for value in cell.lattice]
        space_group = 0 if phase.space_group is None else phase.space_group.number
        lines.append(
            f"{';'.join(values[:3])}\t{';'.join(values[3:])}\t{_phase_name(phase, number)}"
            f"\t{cell.channel_laue}\t{space_group}\t\t\t"
        )
    return [*lines, "\t".join(_CTF_COLUMNS)]
