"""Crystal maps made of result rows.

Owns the step from plain arrays, one row per scan position, to an orix ``CrystalMap``: phase
numbers that orix cannot relabel, rotations without gaps, not-indexed and left-out positions,
coordinates. Writing maps to files is left to :mod:`pyxem_nas.maps.export`, drawing them to
:mod:`pyxem_nas.figures.plotting` and comparing them to :mod:`pyxem_nas.maps.evaluation`.
"""

from collections.abc import Mapping

import numpy as np
from orix.crystal_map import CrystalMap, PhaseList
from orix.quaternion import Rotation

__all__ = ["NOT_INDEXED", "all_positions", "best_rotations", "get_geometry", "make_crystal_map"]

NOT_INDEXED = -1
"""Phase number of a position without an answer, as in orix."""

_IDENTITY = np.array([1.0, 0.0, 0.0, 0.0])


def make_crystal_map(
    columns: Mapping[str, np.ndarray],
    phase_list: PhaseList,
    *,
    shape: tuple[int, ...],
    step: tuple[float, ...],
    scan_unit: str = "nm",
    navigation_mask: np.ndarray | None = None,
) -> CrystalMap:
    """Return the crystal map of result rows.

    Parameters
    ----------
    columns
        Result columns of n rows, row-major over ``shape``. Required are ``phase_id``, shape (n,),
        integer: the position in ``phase_list`` or -1 for not indexed; and ``rotations``, shape
        (n, n_best, 4), unit quaternions lab2crystal, scalar first, best solution first. Every
        other column, shape (n,) or (n, k), any real dtype, becomes a property of the map.
    phase_list
        Phases with the IDs 0 to n_phases - 1. All of them stay in the map, also those that no
        position has.
    shape
        Navigation shape: (), (nx,) or (ny, nx).
    step
        Distance of neighbouring positions along each axis of ``shape``, in ``scan_unit``.
    scan_unit
        Unit of length of ``step``.
    navigation_mask
        Boolean array of shape ``shape``, True for positions to leave out: they are kept with
        ``is_in_data=False`` and as not indexed.

    Returns
    -------
    xmap
        Crystal map of n positions. ``rotations`` has shape (n,) for one solution per position and
        (n, n_best) for several.

    Raises
    ------
    ValueError
        If the columns, the phases, the shape, the step or the mask do not fit one another, or an
        indexed row has no usable rotation.

    See Also
    --------
    pyxem_nas.save_map, pyxem_nas.plot_map, pyxem_nas.evaluate

    Notes
    -----
    Coordinates start at 0, as everywhere in orix: it finds a position in its arrays by coordinate
    over step, so that a map with another origin can be neither sliced nor plotted.

    Rows that are not indexed get the identity rotation, whatever the column holds. A missing
    runner-up of an indexed row (not finite or zero) repeats the best solution of that row.

    Examples
    --------
    >>> import numpy as np
    >>> from orix.crystal_map import PhaseList
    >>> phases = PhaseList(names=["ferrite", "NbC"], point_groups=["m-3m", "m-3m"])
    >>> rows = {"phase_id": np.array([1, -1]), "rotations": np.tile([1.0, 0, 0, 0], (2, 1, 1))}
    >>> xmap = make_crystal_map(rows, phases, shape=(2,), step=(1.5,))
    >>> xmap.phase_id.tolist(), xmap.x.tolist(), xmap.phases.names
    ([1, -1], [0.0, 1.5], ['not_indexed', 'ferrite', 'NbC'])
    """
    shape = tuple(int(n) for n in shape)
    coordinates = _coordinates(shape, step)
    n_points = int(np.prod(shape))
    _check_columns(columns, n_points, shape)
    left_out = _flat_mask(navigation_mask, shape)
    phase_id = _checked_phase_id(columns["phase_id"], phase_list)
    phase_id[left_out] = NOT_INDEXED
    xmap = CrystalMap(
        rotations=_checked_rotations(columns["rotations"], phase_id),
        phase_id=phase_id,
        phase_list=phase_list,
        prop={k: np.array(v) for k, v in columns.items() if k not in ("phase_id", "rotations")},
        scan_unit=scan_unit,
        is_in_data=~left_out,
        **coordinates,
    )
    # CrystalMap drops phases that no position has and renumbers the rest: put the full list back
    phases = phase_list.deepcopy()
    if np.any(phase_id == NOT_INDEXED):
        phases.add_not_indexed()
    xmap.phases = phases
    return xmap


def all_positions(xmap: CrystalMap) -> tuple[np.ndarray, np.ndarray]:
    """Return the coordinates of all positions of a map, also of those that are left out.

    Parameters
    ----------
    xmap
        Crystal map of n positions, whether in the data or not.

    Returns
    -------
    x, y
        Coordinates in ``xmap.scan_unit``, shapes (n,); zeros along a missing axis.

    Examples
    --------
    >>> x, y = all_positions(CrystalMap.empty((2, 2)))
    >>> x.tolist(), y.tolist()
    ([0, 1, 0, 1], [0, 0, 1, 1])
    """
    # xmap.x and xmap.y stop at the positions in data, and a deep copy with all of them fails in
    # orix 0.15 once a property of a masked map has been looked at
    n_points = xmap.is_in_data.size
    x, y = (np.zeros(n_points) if c is None else np.asarray(c) for c in (xmap._x, xmap._y))
    return x, y


def best_rotations(xmap: CrystalMap) -> Rotation:
    """Return the best rotation of each position in the data.

    Parameters
    ----------
    xmap
        Crystal map with one or more rotations per position.

    Returns
    -------
    rotations
        Rotations lab2crystal of shape (n,).

    Examples
    --------
    >>> best_rotations(CrystalMap(Rotation.identity((5, 3)))).shape
    (5,)
    """
    return xmap.rotations if xmap.rotations.ndim == 1 else xmap.rotations[:, 0]


def _coordinates(shape: tuple[int, ...], step: tuple[float, ...]) -> dict[str, np.ndarray | None]:
    """Return the flat x and y coordinates of all positions, None along a missing axis."""
    if len(shape) > 2 or 0 in shape:
        raise ValueError(f"shape must be (), (nx,) or (ny, nx) without zeros, got {shape!r}")
    if len(step) != len(shape) or not np.all(np.isfinite(step)) or not np.all(np.array(step) > 0):
        raise ValueError(
            f"step must hold one positive number per axis of shape {shape!r}, got {step!r}; "
            "correct the scale of the navigation axes"
        )
    if not shape:
        return {"x": np.zeros(1), "y": None}
    indices = np.indices(shape).reshape(len(shape), -1)
    flat = [length * index for length, index in zip(step, indices, strict=True)]
    return {"x": flat[-1], "y": flat[0] if len(shape) == 2 else None}


def _check_columns(
    columns: Mapping[str, np.ndarray], n_points: int, shape: tuple[int, ...]
) -> None:
    """Raise ValueError if a required column is missing or one has a wrong number of rows."""
    missing = [name for name in ("phase_id", "rotations") if name not in columns]
    if missing:
        raise ValueError(f"columns lack {missing!r}, they have {sorted(columns)!r}")
    for name, values in columns.items():
        found = np.shape(values)
        if not found or found[0] != n_points:
            raise ValueError(
                f"column {name!r} must have {n_points} rows for a map of shape {shape!r}, "
                f"got an array of shape {found!r}"
            )


def _flat_mask(navigation_mask: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    """Return the left-out positions, shape (n,), boolean."""
    if navigation_mask is None:
        return np.zeros(int(np.prod(shape)), dtype=bool)
    mask = np.asarray(navigation_mask)
    if mask.shape != shape or mask.dtype != bool:
        raise ValueError(
            f"navigation_mask must be a boolean array of shape {shape!r}, "
            f"got {mask.dtype} of shape {mask.shape!r}"
        )
    if mask.all():
        raise ValueError("navigation_mask leaves out every position; True means left out")
    return mask.reshape(-1).copy()


def _checked_phase_id(phase_id: np.ndarray, phase_list: PhaseList) -> np.ndarray:
    """Return a copy of the phase numbers, shape (n,), int, that fits the phase list."""
    ids = [int(i) for i in phase_list.ids]
    if ids != list(range(len(ids))) or not ids:
        raise ValueError(
            f"phase_list must have the IDs 0 to n - 1 without gaps, got {ids!r}; "
            "make it with PhaseList(list_of_phases)"
        )
    phase_id = np.asarray(phase_id)
    if phase_id.ndim != 1 or not np.issubdtype(phase_id.dtype, np.integer):
        raise ValueError(
            "phase_id must be a one-dimensional integer array, "
            f"got {phase_id.dtype} of shape {phase_id.shape!r}"
        )
    unknown = sorted(set(np.unique(phase_id).tolist()) - {NOT_INDEXED, *ids})
    if unknown:
        raise ValueError(
            f"phase_id holds {unknown!r}, which phase_list does not have; "
            f"allowed are {ids!r} and {NOT_INDEXED} for not indexed"
        )
    return phase_id.astype(int, copy=True)


def _checked_rotations(quaternions: np.ndarray, phase_id: np.ndarray) -> Rotation:
    """Return rotations, shape (n,) or (n, n_best), unit quaternions without gaps."""
    q = np.array(quaternions, dtype=float)
    if q.ndim != 3 or q.shape[1] == 0 or q.shape[2] != 4:
        raise ValueError(f"rotations must have shape (n, n_best, 4), got {q.shape!r}")
    q[phase_id == NOT_INDEXED] = _IDENTITY
    norm = np.linalg.norm(q, axis=-1)
    usable = np.isfinite(norm) & (norm > 0)
    if not usable[:, 0].all():
        rows = np.flatnonzero(~usable[:, 0])
        raise ValueError(
            f"{rows.size} indexed rows have no usable rotation, the first is row {rows[0]} with "
            f"{q[rows[0], 0].tolist()!r}; give such rows the phase_id {NOT_INDEXED}"
        )
    q = np.where(usable[..., np.newaxis], q, q[:, :1])
    q /= np.linalg.norm(q, axis=-1, keepdims=True)
    return Rotation(q[:, 0] if q.shape[1] == 1 else q)


def get_geometry(xmap: CrystalMap) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return the direct-beam positions and the distortion that a map says it was made with.

    Parameters
    ----------
    xmap
        Map of this package.

    Returns
    -------
    centers
        (column, row) in pixels of all positions, also those not in the data, shape (n, 2); None
        where the map was made with stated ones.
    distortion
        Matrix of shape (2, 2) as `index_phase_orientation` takes it; None where there is none.
    """
    centers = distortion = None
    if {"beam_column", "beam_row"} <= set(xmap.prop):
        known = np.stack([xmap.prop["beam_column"], xmap.prop["beam_row"]], axis=1)
        centers = np.tile(np.median(known, axis=0), (xmap.is_in_data.size, 1))
        centers[xmap.is_in_data] = known
    if "distortion" in xmap.prop:
        matrix = np.asarray(xmap.prop["distortion"][0], float).reshape(2, 2)
        distortion = None if np.allclose(matrix, np.eye(2), atol=1e-12) else matrix
    return centers, distortion
