"""A scan, its map and the frames between them: the spots of any solution at any position.

Owns :class:`SolutionViewer`, which the overlay and the report share. Drawing is left to them, the
simulation of spots to :mod:`pyxem_nas.figures.spots`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pyxem_nas.bundles import ModelBundle
from pyxem_nas.diffraction import Acquisition, Reflections, get_reflections, turned_about_beam
from pyxem_nas.figures.spots import Spots, locate_spots, turn_to_detector
from pyxem_nas.maps import NOT_INDEXED, get_geometry
from pyxem_nas.patterns import Detector, find_centers, get_acquisition, get_centers, get_scale
from pyxem_nas.signals import get_bundle

if TYPE_CHECKING:
    from orix.crystal_map import CrystalMap
    from pyxem.signals import ElectronDiffraction2D

__all__ = ["SolutionViewer", "make_viewer"]


@dataclass(frozen=True, eq=False)
class SolutionViewer:
    """What stands behind the spots: scan, map, bundle and the frames between them.

    Parameters
    ----------
    signal
        Calibrated patterns.
    xmap
        Map of the signal's positions.
    bundle
        Bundle with the map's phases, found by their names.
    acquisition
        Beam energy and precession of the simulation.
    detector
        Geometry of the camera.
    scan_rotation
        Degrees from the diffraction to the scan frame.
    centers
        Direct beam (column, row) in pixels over the navigation axes, shape (..., 2); None: found in
        each pattern.
    max_excitation_error
        Reflections farther from the Ewald sphere are not drawn, 1/angstrom.
    stated_center
        Centre as the user stated it.
    rows
        Row of the map for each position of the scan, row-major, -1 where it is left out.
    reflections
        Of the bundle's phases.
    """

    signal: ElectronDiffraction2D
    xmap: CrystalMap
    bundle: ModelBundle
    acquisition: Acquisition
    detector: Detector
    scan_rotation: float = 0.0
    centers: np.ndarray | None = field(default=None, repr=False)
    max_excitation_error: float = 0.01
    stated_center: Any = field(default=None, repr=False)
    rows: np.ndarray = field(init=False, repr=False)
    reflections: Reflections = field(init=False, repr=False)

    def __post_init__(self) -> None:
        shape = self.signal.axes_manager._navigation_shape_in_array
        n, in_data = int(np.prod(shape)), self.xmap.is_in_data
        if n not in (in_data.size, self.xmap.size):
            raise ValueError(
                f"the map has {in_data.size} positions, the scan the shape {shape}; pass the map "
                "of this very scan"
            )
        names = [p.name for i, p in self.xmap.phases if i != NOT_INDEXED]
        unknown = [name for name in names if name not in self.bundle.phase_names]
        if unknown:
            raise ValueError(
                f"the map has the phases {unknown!r}, bundle {self.bundle.name!r} only "
                f"{self.bundle.phase_names!r}; pass the bundle that the map was made with"
            )
        # a part cut out of a map holds exactly the positions of the part of the scan
        rows = np.where(in_data, np.cumsum(in_data) - 1, -1) if n == in_data.size else np.arange(n)
        # frozen: the two below follow from the fields
        object.__setattr__(self, "rows", rows)
        object.__setattr__(self, "reflections", get_reflections(self.bundle.phases))

    @property
    def n_solutions(self) -> int:
        """Orientations per position."""
        return 1 if self.xmap.rotations.ndim == 1 else self.xmap.rotations.shape[1]

    @property
    def grid_shape(self) -> tuple[int, int]:
        """Rows and columns of the scan; one row for a line scan or a single pattern."""
        shape = self.signal.axes_manager._navigation_shape_in_array
        return (1, 1, *shape)[-2:] if len(shape) < 2 else tuple(shape)

    def row(self, position: tuple[int, ...]) -> int:
        """Return the map's row at (column, row) of the scan; -1 where it is left out."""
        shape = self.signal.axes_manager._navigation_shape_in_array
        return int(self.rows[np.ravel_multi_index(position[::-1], shape)] if shape else 0)

    def center(self, position: tuple[int, ...]) -> np.ndarray:
        """Return the direct beam (column, row) in pixels at a position of the scan."""
        if self.centers is not None:
            return self.centers[position[::-1]]
        pattern = self.signal.inav[position] if position else self.signal
        return find_centers(pattern, self.detector.scale)

    def locate_beams(self, images: np.ndarray) -> np.ndarray:
        """Return the direct beam (column, row) of patterns (n, ny, nx), found in them."""
        from hyperspy.signals import Signal2D

        return find_centers(Signal2D(images), self.detector.scale).reshape(-1, 2)

    def pattern(self, position: tuple[int, ...]) -> np.ndarray:
        """Return the pattern at (column, row) of the scan, shape (ny, nx)."""
        return np.asarray(self.signal.data[position[::-1]])

    def phase_name(self, row: int) -> str | None:
        """Return the phase of a row of the map; None where it is not indexed."""
        if row < 0 or self.xmap.phase_id[row] == NOT_INDEXED:
            return None
        return self.xmap.phases[int(self.xmap.phase_id[row])].name

    def spots(
        self, position: tuple[int, ...], *, solution: int = 1, twin: bool = False
    ) -> tuple[Spots, np.ndarray]:
        """Return the spots of a solution (1 is the best) at a position, and the direct beam."""
        row, center = self.row(position), self.center(position)
        name = self.phase_name(row)
        if name is None:
            return Spots(), center
        quaternion = self.xmap.rotations.data[row].reshape(-1, 4)[solution - 1]
        quaternion = turn_to_detector(quaternion, self.scan_rotation)
        if twin:
            quaternion = turned_about_beam(quaternion)[0]
        spots = locate_spots(
            quaternion,
            self.reflections,
            self.bundle.phase_names.index(name),
            acquisition=self.acquisition,
            detector=self.detector,
            center=center,
            max_excitation_error=self.max_excitation_error,
        )
        return spots, center

    def describe(self, position: tuple[int, ...], solution: int = 1, twin: bool = False) -> str:
        """Return what the map says of a position, two lines."""
        row = self.row(position)
        name = self.phase_name(row)
        if name is None:
            return "left out" if row < 0 else "not indexed"
        text = name
        if self.n_solutions > 1:
            text += f", solution {solution} of {self.n_solutions}"
        text += ", its 180° twin" if twin else ""
        if solution > 1 or twin:  # the map rates its best solution only
            return text + "\n"
        shown = {"phase_probability": "P(phase)", "orientation_probability": "P(orientation)",
                 "correlation": "correlation"}  # fmt: skip
        values = {
            label: float(np.ravel(self.xmap.prop[key][row])[0])
            for key, label in shown.items()
            if key in self.xmap.prop
        }
        numbers = [f"{label} {v:.2f}" for label, v in values.items() if np.isfinite(v)]
        return text + "\n" + "   ".join(numbers)


def make_viewer(
    s: ElectronDiffraction2D,
    xmap: CrystalMap,
    bundle: Any,
    *,
    acquisition: Acquisition | None = None,
    center: Any = None,
    mask: np.ndarray | None = None,
    detector_flip: Literal["x", "y"] | None = None,
    distortion: np.ndarray | None = None,
    scan_rotation: float = 0.0,
    max_excitation_error: float = 0.01,
) -> SolutionViewer:
    """Return the viewer of a scan and its map; the arguments are those of `plot_overlay`.

    ``bundle`` is whatever `index_phase_orientation` took: a bundle, its path or name, a
    `PhaseList`, CIF files.
    """
    bundle = get_bundle(bundle, acquisition, s)
    if detector_flip not in (None, "x", "y"):
        raise ValueError(f'detector_flip must be "x", "y" or None, got {detector_flip!r}')
    acquisition = get_acquisition(s, bundle.acquisition) if acquisition is None else acquisition
    scale = get_scale(s, acquisition.beam_energy)
    found_centers, found_distortion = get_geometry(xmap)
    distortion = found_distortion if distortion is None else distortion
    if (center is None or isinstance(center, str)) and found_centers is not None:
        # what the map was made with; sought in one pattern alone it may be another spot
        center = found_centers.reshape(*s.axes_manager._navigation_shape_in_array, 2)
    unset = all(axis.offset == 0 for axis in s.axes_manager.signal_axes)
    automatic = isinstance(center, str) or (center is None and unset)
    if isinstance(center, str) and center != "auto":
        raise ValueError(f'center must be None, "auto" or pixels, got {center!r}')
    return SolutionViewer(
        s,
        xmap,
        bundle,
        acquisition,
        Detector(s.axes_manager._signal_shape_in_array, scale, distortion, detector_flip, mask),
        scan_rotation,
        None if automatic else get_centers(s, center, scale),
        max_excitation_error,
        center,
    )
