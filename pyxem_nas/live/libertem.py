"""The same prediction inside LiberTEM: offline on its data sets, live at the microscope.

Owns `PhaseOrientationUDF`, which hands LiberTEM's partitions to `indexing.block` and its buffers to
`crystal_map`. LiberTEM is an extra (``pip install "pyxem-nas[live]"``): this module can be imported
without it, the UDF cannot be made. Watching a folder for files is left to `watcher`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pyxem_nas.bundles import ModelBundle
from pyxem_nas.diffraction import Acquisition, multiply_quaternions
from pyxem_nas.indexing import (
    Branch,
    IndexingPlan,
    Precision,
    choose_precision,
    get_specs,
    index_block,
    make_plan,
    resolve_branches,
    split_rows,
)
from pyxem_nas.maps import make_crystal_map
from pyxem_nas.patterns import Detector, beam_position, make_sampler
from pyxem_nas.signals import check_acquisition, get_bundle

if TYPE_CHECKING:
    from orix.crystal_map import CrystalMap

try:
    from libertem.udf import UDF
except ImportError:
    UDF = object

__all__ = ["PhaseOrientationUDF"]

_PATTERNS_PER_BLOCK = 1024  # a partition of LiberTEM may be half a GiB
_MERLIN = ("MIBPartition", "MerlinLivePartition")  # LiberTEM's and LiberTEM-live's
_COLUMNS = {
    "phase_id": np.int32,
    "phase_probability": np.float64,
    "orientation_probability": np.float64,
    "correlation": np.float64,
    "reliability": np.float64,
    "twin_reliability": np.float64,
    "phase_reliability": np.float64,
    "indexed_by": np.int8,
    "n_plausible": np.int8,
}


class PhaseOrientationUDF(UDF):
    """Index phase and orientation in LiberTEM, position by position, while the scan runs.

    The results are those of `index_phase_orientation`, in buffers of the kind "nav": `phase_id`,
    `phase_probability`, `orientation_probability`, `correlation`, `reliability`,
    `twin_reliability`, `phase_reliability`, `indexed_by`, `n_plausible` and `rotations` of shape
    (ny, nx, n_best, 4). `to_crystal_map` makes them a map, also while positions are missing.

    Parameters
    ----------
    bundle
        A bundle, the path of one, or the name of a shipped one. None: the one set with
        `pyxem_nas.set_default_bundle`. It is read here, once; LiberTEM hands it to each worker
        process once for a run, where its networks are kept for the next.
    scale
        Size of a detector pixel in 1/angstrom, or a pair along y and x.
    center
        Direct-beam position (column, row) in pixels, shape (2,), or one for each position, shape
        (ny, nx, 2); as HyperSpy shows the patterns, see `rows_upwards`.
    follow_beam
        Take the centre of mass of the direct beam near `center`, in each pattern. Needs a `center`
        of shape (2,).
    method, phases, mask, detector_flip, distortion, n_best, refine
        As in `index_phase_orientation`.
    acquisition
        Microscope; None: the bundle's.
    template_threshold, min_confidence, precision
        As in `index_phase_orientation`.
    rows_upwards
        Whether LiberTEM hands the rows of the detector in the reverse of HyperSpy's order, as it
        does for Merlin detectors: the map would be mirrored. None: it does for .mib files and for
        LiberTEM-live's "merlin". Center and mask are in HyperSpy's order.

    Raises
    ------
    ImportError
        If LiberTEM is not installed.
    ValueError
        If an argument does not fit the bundle, the detector or the scan.
    FileNotFoundError
        If there is no such bundle.

    See Also
    --------
    pyxem_nas.patterns.find_centers

    Examples
    --------
    >>> import libertem.api as lt  # doctest: +SKIP
    >>> with lt.Context() as ctx:  # doctest: +SKIP
    ...     scan = ctx.load("auto", path="scan.blo")
    ...     udf = PhaseOrientationUDF("steel", scale=0.0123, center=(71.5, 72.0))
    ...     for part in ctx.run_udf_iter(dataset=scan, udf=udf):
    ...         xmap = udf.to_crystal_map(part.buffers[0])  # what is known so far
    """

    def __init__(
        self,
        bundle: ModelBundle | Path | str | None = None,
        *,
        scale: float | tuple[float, float],
        center: Any,
        follow_beam: bool = False,
        method: str | Mapping[str, Branch] = "hybrid",
        phases: list[str] | None = None,
        acquisition: Acquisition | None = None,
        mask: np.ndarray | None = None,
        detector_flip: Literal["x", "y"] | None = None,
        distortion: np.ndarray | None = None,
        n_best: int = 1,
        refine: bool = True,
        template_threshold: float | None = None,
        min_confidence: float | None = None,
        precision: Precision = "auto",
        rows_upwards: bool | None = None,
    ) -> None:
        if UDF is object:
            raise ImportError(
                'PhaseOrientationUDF needs LiberTEM; install it with pip install "pyxem-nas[live]"'
            )
        # LiberTEM makes copies of a UDF from its arguments: all of this must bear repetition
        bundle = get_bundle(bundle, acquisition)
        if phases is not None:
            bundle = bundle.select_phases(list(phases))
        resolve_branches(bundle, method)
        if n_best < 1:
            raise ValueError(f"n_best must be at least 1, got {n_best!r}")
        if detector_flip not in (None, "x", "y"):
            raise ValueError(f'detector_flip must be "x", "y" or None, got {detector_flip!r}')
        super().__init__(
            bundle=bundle,
            scale=_check_scale(scale),
            center=_check_center(center, follow_beam),
            follow_beam=follow_beam,
            method=method,
            acquisition=check_acquisition(None, bundle, acquisition or bundle.acquisition),
            mask=mask,
            detector_flip=detector_flip,
            distortion=distortion,
            n_best=n_best,
            refine=refine,
            template_threshold=template_threshold,
            min_confidence=min_confidence,
            precision=choose_precision(precision),
            rows_upwards=rows_upwards,
        )

    @classmethod
    def new_for_partition(cls, kwargs: dict[str, Any], partition: Any, roi: Any) -> Any:
        """Return LiberTEM's copy for a partition, which tells of which detector it is."""
        if kwargs["rows_upwards"] is None:
            kinds = {kind.__name__ for kind in type(partition).__mro__}
            kwargs = {**kwargs, "rows_upwards": not kinds.isdisjoint(_MERLIN)}
        return super().new_for_partition(kwargs, partition, roi)

    def get_preferred_input_dtype(self) -> Any:
        """Return LiberTEM's word for the detector's own dtype, as in `index_phase_orientation`."""
        return self.USE_NATIVE_DTYPE

    def get_result_buffers(self) -> dict[str, Any]:
        """Declare one buffer per column of the map."""
        rotations = self.buffer(kind="nav", dtype=np.float64, extra_shape=(self.params.n_best, 4))
        buffers = {name: self.buffer(kind="nav", dtype=dtype) for name, dtype in _COLUMNS.items()}
        return {**buffers, "rotations": rotations}

    def get_task_data(self) -> dict[str, IndexingPlan]:
        """Prepare the sampling of the detector, once per partition."""
        p = self.params
        shape = tuple(int(n) for n in self.meta.dataset_shape.sig)
        detector = Detector(shape, p.scale, p.distortion, p.detector_flip, p.mask)
        sampler = make_sampler(detector, *get_specs(p.bundle))
        names = (
            "method", "acquisition", "n_best", "refine", "template_threshold", "min_confidence",
            "precision",
        )  # fmt: skip
        plan = make_plan(p.bundle, sampler, **{name: getattr(p, name) for name in names})
        plan = plan.see(p.center)
        return {"plan": plan}

    def process_partition(self, partition: np.ndarray) -> None:
        """Index the patterns of a partition, shape (n, ny, nx), block by block."""
        plan = self.task_data.plan
        if self.params.rows_upwards:
            partition = partition[:, ::-1]
        centers = self._get_centers(partition)
        for start in range(0, len(partition), _PATTERNS_PER_BLOCK):
            block = slice(start, start + _PATTERNS_PER_BLOCK)
            rows = index_block(np.ascontiguousarray(partition[block]), centers[block], plan)
            for name, values in split_rows(rows, plan).items():
                getattr(self.results, name)[block] = values

    def _get_centers(self, partition: np.ndarray) -> np.ndarray:
        """Return the direct-beam positions of a partition's patterns, (n, 2) float32."""
        center = self.params.center
        if self.params.follow_beam:
            column, row = (round(float(v)) for v in center)
            reach = max(2, round(0.12 / np.mean(self.params.scale)))  # as find_centers
            found = [beam_position(pattern, column, row, reach) for pattern in partition]
            return np.array(found, np.float32)
        if center.ndim > 1:
            nav_shape = tuple(self.meta.dataset_shape.nav)
            if center.shape[:-1] != nav_shape:
                raise ValueError(
                    f"center must have shape (2,) or {(*nav_shape, 2)}, got {center.shape}"
                )
            return center[tuple(self.meta.coordinates.T)]
        return np.tile(center, (len(partition), 1))

    def to_crystal_map(
        self,
        results: Mapping[str, Any],
        *,
        step: tuple[float, ...] | None = None,
        scan_unit: str = "px",
        scan_rotation: float = 0.0,
    ) -> CrystalMap:
        """Return the crystal map of the UDF's results.

        Parameters
        ----------
        results
            What `run_udf` returns, or ``part.buffers[0]`` of `run_udf_iter`.
        step
            Distance of neighbouring positions along each axis of the scan in `scan_unit`; None: 1.
        scan_unit
            Unit of `step`.
        scan_rotation
            Angle in degrees from the diffraction to the scan frame, counter-clockwise.

        Returns
        -------
        xmap
            As of `index_phase_orientation`. Positions that were not measured yet, or are outside
            the region of interest, are not in the data.
        """
        known = results["phase_id"].valid_mask
        shape = known.shape
        columns = {}
        for name in (*_COLUMNS, "rotations"):
            data = np.asarray(results[name].data)
            columns[name] = data.reshape(known.size, *data.shape[len(shape) :])
        columns["phase_id"] = np.where(known.ravel(), columns["phase_id"], -1)
        if scan_rotation:
            half = -np.deg2rad(scan_rotation) / 2
            turn = np.array([np.cos(half), 0, 0, np.sin(half)])
            columns["rotations"] = multiply_quaternions(columns["rotations"], turn)
        return make_crystal_map(
            columns,
            self.params.bundle.phase_list,
            shape=shape,
            step=(1.0,) * len(shape) if step is None else step,
            scan_unit=scan_unit,
            navigation_mask=~known,
        )


def _check_scale(scale: float | tuple[float, float]) -> tuple[float, float]:
    """Return the size of a pixel along y and x."""
    pair = tuple(float(v) for v in np.broadcast_to(scale, 2))
    if not all(np.isfinite(v) and v > 0 for v in pair):
        raise ValueError(f"scale must be positive, in 1/angstrom per pixel, got {scale!r}")
    return pair


def _check_center(center: Any, follow_beam: bool) -> np.ndarray:
    """Return one direct-beam position, shape (2,), or one for each position of the scan."""
    center = np.asarray(center, np.float32)
    if center.ndim < 1 or center.shape[-1] != 2 or not np.isfinite(center).all():
        raise ValueError(
            "center must be finite (column, row) in pixels, of shape (2,) or (ny, nx, 2); got "
            f"shape {center.shape}"
        )
    if follow_beam and center.ndim > 1:
        raise ValueError(
            f"follow_beam needs one center of shape (2,), got {center.shape}; leave out one of them"
        )
    return center
