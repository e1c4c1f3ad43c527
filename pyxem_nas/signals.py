"""The methods on ElectronDiffraction2D.

Owns every check of what a user passes and the edges to HyperSpy: axes in, CrystalMap out. The work
is `indexing.block`'s; no array is touched here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pyxem_nas.bundles import ModelBundle, get_default_bundle
from pyxem_nas.diffraction import (
    Acquisition,
    check_hosts,
    multiply_quaternions,
    read_phases,
)
from pyxem_nas.indexing import (
    Branch,
    Precision,
    calibrate_scan,
    check_store,
    choose_by_neighbours,
    describe_lazily,
    describe_run,
    get_predictor,
    get_specs,
    keep_blocks,
    make_plan,
    predict_lazily,
    split_candidates,
    split_rows,
)
from pyxem_nas.maps import make_crystal_map
from pyxem_nas.patterns import (
    DescriptorSpec,
    Detector,
    PolarSampler,
    check_navigation_mask,
    choose_scan_rotation,
    get_acquisition,
    get_beam,
    get_beam_energy,
    get_centers,
    get_scale,
    get_scan_axes,
    make_sampler,
    warn_of_wrong_scale,
)

if TYPE_CHECKING:
    import dask.array as da
    from orix.crystal_map import CrystalMap, PhaseList
    from pyxem.signals import ElectronDiffraction2D

    from pyxem_nas.patterns.polar_descriptor import PolarDescriptor2D

_PATTERNS_PER_BLOCK = 1024
_BLOCK_BYTES = 2**27


def get_polar_descriptors(
    self: ElectronDiffraction2D,
    spec: DescriptorSpec | None = None,
    *,
    center: Any = None,
    mask: np.ndarray | None = None,
    detector_flip: str | None = None,
    distortion: np.ndarray | None = None,
    lazy_output: bool | None = None,
    show_progressbar: bool | None = None,
) -> PolarDescriptor2D:
    """Return the polar intensity descriptors of the patterns.

    Parameters
    ----------
    spec
        Definition of the descriptor; None is the default.
    center
        Direct-beam positions, as in `index_phase_orientation`.
    mask
        True where a detector pixel is left out, shape (ny, nx).
    detector_flip
        Axis along which the camera mirrors patterns: "x", "y" or None.
    distortion
        Matrix of shape (2, 2), as in `index_phase_orientation`.
    lazy_output
        Return a lazy signal; None: lazy for a lazy signal.
    show_progressbar
        None: HyperSpy's preference.

    Returns
    -------
    descriptors
        Signal of shape (..., n_radial, n_azimuthal), float32; empty patterns give zeros.

    Raises
    ------
    ValueError
        If the signal is not calibrated, or an argument does not fit it.

    References
    ----------
    Zaefferer and Wu (2008), see `pyxem_nas.DescriptorSpec`.
    """
    from pyxem_nas.patterns.polar_descriptor import LazyPolarDescriptor2D

    spec = DescriptorSpec() if spec is None else spec
    acquisition = get_acquisition(self, Acquisition())
    scale = get_scale(self, get_beam_energy(self))
    sampler = get_sampler(self, scale, mask, detector_flip, distortion, (spec,))
    centers = get_centers(self, center, scale, mask)
    patterns = get_blocks(self)
    data = describe_lazily(patterns, centers, sampler)
    if not self.axes_manager.navigation_shape:
        data = data[0]
    signal = LazyPolarDescriptor2D(data, axes=_descriptor_axes(self, spec))
    signal.metadata.General.title = self.metadata.General.title
    signal.metadata.set_item("Descriptor.spec", spec.to_dict())
    signal.metadata.set_item("Descriptor.beam_energy", acquisition.beam_energy)
    if self._lazy if lazy_output is None else lazy_output:
        return signal
    signal.data = compute_with_progress(signal.data, show_progressbar)
    signal._lazy = False
    signal._assign_subclass()
    return signal


def index_phase_orientation(
    self: ElectronDiffraction2D,
    bundle: ModelBundle | PhaseList | Path | str | Sequence[Path | str] | None = None,
    *,
    method: str | Mapping[str, Branch] = "hybrid",
    phases: list[str] | None = None,
    acquisition: Acquisition | None = None,
    center: Any = None,
    mask: np.ndarray | None = None,
    detector_flip: str | None = None,
    distortion: np.ndarray | None = None,
    calibrate: Literal["auto"] | None = None,
    scan_rotation: float | None = None,
    n_best: int = 1,
    refine: bool = True,
    regularize: bool = False,
    n_overlaps: int = 1,
    template_threshold: float | None = None,
    min_confidence: float | None = None,
    navigation_mask: np.ndarray | None = None,
    store: Path | str | None = None,
    precision: Precision = "auto",
    show_progressbar: bool | None = None,
) -> CrystalMap:
    """Index phase and crystal orientation at every position of the scan.

    Parameters
    ----------
    bundle
        The phases that may be there: a `PhaseList`, a CIF file or a list of them; nothing needs to
        be trained. Or a bundle with networks, the path of one, or the name of a shipped one
        ("steel"). None: the one set with `pyxem_nas.set_default_bundle`.
    method
        "hybrid": exhaustive matching and, where the phase has one, its network, judged together;
        "match": exhaustive matching alone; "network"; "template": pyxem's matcher; or a mapping
        from phase name to one of these or to a callable
        ``(descriptors (m, n_radial, n_azimuthal), phase, acquisition) -> (quaternions (m, k, 4),
        scores (m, k))``.
    phases
        Names of those of the bundle's phases that may be present; None: all.
    acquisition
        Microscope; None: from the signal's metadata, else the bundle's.
    center
        Direct-beam positions (column, row) in pixels, shape (2,) or (ny, nx, 2). None: the
        calibration's centre; "auto": found in the patterns.
    mask
        True where a detector pixel is left out (beam stop, dead pixels), shape (ny, nx).
    detector_flip
        Axis along which the camera mirrors patterns: "x", "y" or None.
    distortion
        Matrix of shape (2, 2) that takes a true position (x, y), y up, to where the detector shows
        it: ellipticity and scale error of the projector lenses.
    calibrate
        "auto": find scale, ellipse, centre and its drift in a sample of the patterns, and use them
        where they explain other positions better by more than their error; `distortion` and
        `center` are where it starts. The map says what was used (properties `distortion`,
        `beam_column`, `beam_row`), the log why.
    scan_rotation
        Angle in degrees from the diffraction to the scan frame, counter-clockwise. None: 0, with a
        warning where the file states another.
    n_best
        Number of orientations per position, best first.
    refine
        Refine orientations in continuous orientation space.
    regularize
        Let neighbouring positions choose among each other's candidates, so that a lone 180-degree
        twin in a grain is set right (`indexing.regularization`). Boundaries are not smoothed.
    n_overlaps
        2: look for a second crystal in each pattern after the first one's spots are taken out.
    template_threshold
        Positions whose orientation probability is below go to pyxem's matcher, too ("hybrid" with
        networks). None: none.
    min_confidence
        Positions whose phase probability times orientation probability is below, or whose pattern
        is rather none of the bundle's phases, are not indexed. None: the bundle's, which bounds the
        phase probability alone, too; 0: all but empty patterns are indexed.
    navigation_mask
        True where a position is left out, shape of the scan.
    store
        Folder in which finished blocks are kept. The same call with the same folder goes on where
        an interrupted one was; delete the folder when the map is saved.
    precision
        Of the networks' arithmetic: "int8", two to four times as fast on a CPU; "float32",
        TensorFlow's own. "auto": "int8" unless there is a GPU. The maps differ in a few positions
        where two answers are about as likely (`benchmarks/results/precision.md`).
    show_progressbar
        None: HyperSpy's preference.

    Returns
    -------
    xmap
        Map with `phase_probability`, `orientation_probability`, `correlation`, `reliability`,
        `twin_reliability`, `phase_reliability`, `indexed_by` (0 network, 1 pyxem's template
        matching, 2 other, 3 exhaustive matching) and `n_plausible`, how many orientations it takes
        to hold the right one at 9 of 10 positions that found it (`plausible_orientations`).
        Rotations are lab2crystal, in the frame x right, y up, z against the beam's way. Positions
        that are not indexed have ``phase_id = -1``. Where the beam was sought: `beam_column` and
        `beam_row` in pixels, `beam_seen`, 0 where its place is that of its neighbours, and
        `beam_probability`, that this is the beam and no other spot, one for the scan. With
        `regularize` the probabilities are those given the neighbours, and `regularized` is 1 where
        they changed the answer. With two overlaps: `phase_id_2` (-1 where there is no second
        crystal: its probability is below 0.5, unless `min_confidence` is 0), `rotation_2`
        (quaternions, shape (points, 4)), `correlation_2` with what the first left over, and
        `probability_2` that it is there.

    Raises
    ------
    ValueError
        If the signal is not calibrated, an argument does not fit it, or its acquisition clashes
        with the bundle's.
    FileNotFoundError
        If there is no such bundle.

    Examples
    --------
    >>> xmap = s.index_phase_orientation(["ferrite.cif", "NbC.cif"])  # doctest: +SKIP
    >>> xmap = s.index_phase_orientation("steel")  # doctest: +SKIP
    """
    bundle = get_bundle(bundle, acquisition, self)
    if phases is not None:
        bundle = bundle.select_phases(list(phases))
    scan = get_scan_axes(self)
    if calibrate not in (None, "auto"):
        raise ValueError(f'calibrate must be None or "auto", got {calibrate!r}')
    check_navigation_mask(navigation_mask, scan.shape)
    scan_rotation = choose_scan_rotation(self, scan_rotation)
    acquisition = check_acquisition(self, bundle, acquisition)
    scale = get_scale(self, acquisition.beam_energy)
    plan = make_plan(
        bundle,
        get_sampler(self, scale, mask, detector_flip, distortion, get_specs(bundle)),
        method=method,
        acquisition=acquisition,
        n_best=n_best,
        refine=refine,
        template_threshold=template_threshold,
        min_confidence=min_confidence,
        regularize=regularize,
        n_overlaps=n_overlaps,
        precision=precision,
    )
    if store is not None:
        check_store(store)
    predictor = get_predictor(bundle, plan.precision)
    # from here on patterns are computed: what can be refused is refused above
    beam = get_beam(self, center, scale, mask)
    centers = beam.centers
    plan = plan.see(centers)
    patterns = get_blocks(self)
    detector = Detector(plan.sampler.detector_shape, scale, distortion, detector_flip, mask)
    warn_of_wrong_scale(patterns, centers, detector, predictor.reflections)
    if calibrate is not None:
        found = calibrate_scan(patterns, centers, plan, detector)
        if found.used:
            detector = replace(detector, distortion=found.distortion)
            centers = found.centers
            plan = replace(plan, sampler=make_sampler(detector, *get_specs(bundle))).see(centers)
    rows = predict_lazily(patterns, centers, plan)
    if store is not None:
        rows = keep_blocks(rows, store, describe_run(patterns, centers, plan))
    computed = compute_with_progress(rows, show_progressbar)
    columns = _make_columns(computed.reshape(-1, plan.n_columns), plan, scan, navigation_mask)
    if scan_rotation:
        half = -np.deg2rad(scan_rotation) / 2
        turn = np.array([np.cos(half), 0, 0, np.sin(half)])
        for name in {"rotations", "rotation_2"} & set(columns):
            columns[name] = multiply_quaternions(columns[name], turn)
    if calibrate is not None:
        matrix = np.eye(2) if detector.distortion is None else np.asarray(detector.distortion)
        columns["distortion"] = np.tile(matrix.ravel(), (int(np.prod(scan.shape)), 1))
    if calibrate is not None or beam.was_sought:
        columns["beam_column"], columns["beam_row"] = centers.reshape(-1, 2).T
    if beam.was_sought:
        columns["beam_seen"] = beam.seen.ravel().astype(np.int8)
        columns["beam_probability"] = np.full(beam.seen.size, beam.probability)
    return make_crystal_map(
        columns,
        bundle.phase_list,
        shape=scan.shape,
        step=scan.step,
        scan_unit=scan.unit,
        navigation_mask=navigation_mask,
    )


def _make_columns(rows, plan, scan, navigation_mask) -> dict[str, np.ndarray]:
    """Return the columns of a map; where the plan wants it, neighbours choose."""
    columns = split_rows(rows, plan)
    if not plan.regularize:
        return columns
    return choose_by_neighbours(
        columns,
        split_candidates(rows, plan),
        scan.shape,
        get_predictor(plan.bundle, plan.precision).symmetry,
        navigation_mask=navigation_mask,
    )


def attach_methods() -> None:
    """Give ElectronDiffraction2D the methods of this module.

    Raises
    ------
    AttributeError
        If the class has a method of that name from elsewhere.
    ImportError
        If HyperSpy, pyxem or orix no longer have what this package relies on.
    """
    from pyxem.signals import ElectronDiffraction2D

    check_hosts()
    for method in (get_polar_descriptors, index_phase_orientation):
        present = ElectronDiffraction2D.__dict__.get(method.__name__)
        if present is not None and getattr(present, "__module__", "") != __name__:
            raise AttributeError(
                f"ElectronDiffraction2D.{method.__name__} exists already, from "
                f"{present.__module__!r}; pyxem_nas does not replace it"
            )
        setattr(ElectronDiffraction2D, method.__name__, method)


def get_bundle(
    bundle: Any, acquisition: Acquisition | None = None, s: ElectronDiffraction2D | None = None
) -> ModelBundle:
    """Return a bundle of whatever a user may pass for one.

    Parameters
    ----------
    bundle
        A bundle, its path or name, None for the default one; or phases that need none: a
        `PhaseList`, a CIF file or several.
    acquisition
        For phases: the microscope. None: what the metadata of `s` tell.
    s
        The scan.

    Raises
    ------
    TypeError
        If it is nothing of these.
    ValueError
        If phases are given and nothing tells the beam energy, or a CIF file cannot be read.
    """
    if bundle is None:
        bundle = get_default_bundle()
    if isinstance(bundle, ModelBundle):
        return bundle
    several = isinstance(bundle, list | tuple)
    if several and bundle and all(isinstance(path, str | Path) for path in bundle):
        return _from_phases(read_phases(*bundle), acquisition, s)
    if isinstance(bundle, str | Path):
        if Path(bundle).suffix.lower() == ".cif":
            return _from_phases(read_phases(bundle), acquisition, s)
        return ModelBundle.load(bundle)
    from orix.crystal_map import PhaseList

    if isinstance(bundle, PhaseList):
        return _from_phases(bundle, acquisition, s)
    raise TypeError(
        "bundle must be a ModelBundle, path or name, or the phases: a PhaseList or paths of CIF "
        f"files; got {type(bundle).__name__}"
    )


def _from_phases(
    phase_list: PhaseList, acquisition: Acquisition | None, s: ElectronDiffraction2D | None
) -> ModelBundle:
    """Return a bundle without networks for the microscope that a scan was taken with."""
    if acquisition is None:
        if s is None or get_beam_energy(s) is None:
            raise ValueError(
                "nothing tells the beam energy, which phases without a bundle need; pass "
                "acquisition=Acquisition(beam_energy=200), in kV"
            )
        acquisition = get_acquisition(s, Acquisition())
    return ModelBundle.from_phases(phase_list, acquisition)


def check_acquisition(
    s: ElectronDiffraction2D, bundle: ModelBundle, acquisition: Acquisition | None
) -> Acquisition:
    """Return the acquisition to simulate with, refusing one that the networks do not know."""
    known = get_acquisition(s, bundle.acquisition) if acquisition is None else acquisition
    if not bundle.models:
        return known
    made_for = bundle.acquisition.beam_energy
    if abs(known.beam_energy / made_for - 1) > 0.01:
        raise ValueError(
            f"the scan was taken at {known.beam_energy:g} kV, bundle {bundle.name!r} is for "
            f"{made_for:g} kV; make a bundle for this energy with search_models, or pass "
            f"acquisition= if the metadata are wrong"
        )
    low, high = bundle.precession_range or (0.0, 10.0)
    if not low - 0.05 <= known.precession_angle <= high + 0.05:
        raise ValueError(
            f"the scan was taken with a precession of {known.precession_angle:.2f} degrees, bundle "
            f"{bundle.name!r} is for {low:g} to {high:g}; make a bundle for it with search_models, "
            "or pass acquisition= if the metadata are wrong"
        )
    return known


def get_sampler(s, scale, mask, detector_flip, distortion, specs) -> PolarSampler:
    """Return the sampler of a signal's patterns, refusing a detector that cannot be."""
    if detector_flip not in (None, "x", "y"):
        raise ValueError(f'detector_flip must be "x", "y" or None, got {detector_flip!r}')
    if s.data.dtype.kind not in "buif":
        raise TypeError(f"patterns must be real, got dtype {s.data.dtype}; use s.real or abs(s)")
    shape = s.axes_manager._signal_shape_in_array
    if min(shape) < 16:
        raise ValueError(f"patterns must have at least 16 x 16 pixels, got {shape}")
    if distortion is not None and not (
        np.shape(distortion) == (2, 2) and np.linalg.det(distortion) > 0
    ):
        raise ValueError(
            f"distortion must be a (2, 2) matrix of positive determinant, got {distortion!r}"
        )
    detector = Detector(shape, scale, distortion, detector_flip, mask)
    return make_sampler(detector, *specs)


def get_blocks(s: ElectronDiffraction2D) -> da.Array:
    """Return the patterns as a dask array of blocks of whole patterns; 0-D navigation as 1-D."""
    import dask.array as da

    data = s.data if s._lazy else da.from_array(s.data, chunks=-1, name=False)
    if data.ndim == 2:
        data = data[None]
    n_bytes = data.dtype.itemsize * data.shape[-1] * data.shape[-2]
    n = int(np.clip(_BLOCK_BYTES // n_bytes, 1, _PATTERNS_PER_BLOCK))
    rows = max(1, n // data.shape[-3]) if data.ndim == 4 else n
    wanted = {data.ndim - 1: -1, data.ndim - 2: -1, data.ndim - 3: min(n, data.shape[-3])}
    if data.ndim == 4:
        wanted[0] = min(rows, data.shape[0])
    if not s._lazy:
        return data.rechunk(wanted)
    per_chunk = int(np.prod([max(c) for c in data.chunks[:-2]]))
    if per_chunk < n // 8:
        return data.rechunk(wanted)
    # a lazy signal keeps its chunks, or parts of them: blocks across the borders of large chunks
    # (HyperSpy's of a .blo file hold a hundred rows and columns, and parts of patterns) would keep
    # bands of the scan in memory
    data = data.rechunk({data.ndim - 1: -1, data.ndim - 2: -1})
    if per_chunk <= 2 * n:
        return data
    parts, left = {}, n
    for axis in range(data.ndim - 3, -1, -1):  # the fastest axis is cut last
        size = min(left, max(data.chunks[axis]))
        parts[axis] = tuple(piece for chunk in data.chunks[axis] for piece in _cut(chunk, size))
        left = max(1, left // size)
    return data.rechunk(parts)


def _cut(length: int, size: int) -> list[int]:
    """Return the lengths of parts of at most `size`."""
    return [min(size, length - start) for start in range(0, length, size)]


def _descriptor_axes(s: ElectronDiffraction2D, spec: DescriptorSpec) -> list[dict[str, Any]]:
    axes = [axis.get_axis_dictionary() for axis in s.axes_manager.navigation_axes[::-1]]
    radial = {
        "name": "radius", "units": "1/angstrom", "size": spec.n_radial, "navigate": False,
        "scale": spec.radial_step, "offset": float(spec.radii[0]),
    }  # fmt: skip
    azimuthal = {
        "name": "azimuth", "units": "deg", "size": spec.n_azimuthal, "navigate": False,
        "scale": 360 / spec.n_azimuthal, "offset": 0.0,
    }  # fmt: skip
    return [*({**axis, "navigate": True} for axis in axes), radial, azimuthal]


def compute_with_progress(array: da.Array, show: bool | None) -> np.ndarray:
    """Compute with dask's progress bar, or with distributed's where a cluster does the work."""
    import hyperspy.api as hs
    from dask.base import get_scheduler
    from dask.diagnostics import ProgressBar

    show = hs.preferences.General.show_progressbar if show is None else show
    client = getattr(get_scheduler(collections=[array]), "__self__", None)
    with ProgressBar() if show and client is None else nullcontext():
        if show and client is not None:
            from distributed import progress

            array = client.persist(array)
            bar = progress(array)  # a text that waits, or in a notebook something to display
            if bar is not None:
                from IPython.display import display

                display(bar)
        return np.asarray(array.compute())
