"""Simulated spots on a picture of a pattern.

Owns the way from an orientation to spots in detector pixels, and their drawing with hkl labels in
any matplotlib axes. Which orientation, and which pattern, is for :mod:`pyxem_nas.figures.overlay`,
:mod:`pyxem_nas.indexing.posterior` and :mod:`pyxem_nas.figures.report` to say.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pyxem_nas.diffraction import Acquisition, Reflections, multiply_quaternions, simulate_spots
from pyxem_nas.patterns import Detector

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["SpotMarks", "Spots", "detector_reach", "format_hkl", "locate_spots", "turn_to_detector"]

_MIN_SIZE, _MAX_SIZE = 4.0, 13.0  # diameters of the marks, points
MIN_INTENSITY, MAX_SPOTS = 0.003, 150  # of the strongest spot; of a pattern
_LABEL_DISTANCE, _LABEL_SIZE = 5.0, 8.0  # from ring to label, and height of the label, points


@dataclass(frozen=True)
class Spots:
    """Spots of one orientation on a detector.

    Parameters
    ----------
    pixels
        Positions (column, row), row 0 at the top, shape (n, 2).
    intensities
        Intensities relative to the strongest, shape (n,), falling.
    hkl
        Miller indices, shape (n, 3).
    """

    pixels: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    intensities: np.ndarray = field(default_factory=lambda: np.zeros(0))
    hkl: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), int))

    def __len__(self) -> int:
        return len(self.intensities)


def locate_spots(
    quaternion: np.ndarray,
    reflections: Reflections,
    phase_id: int,
    *,
    acquisition: Acquisition,
    detector: Detector,
    center: np.ndarray,
    max_excitation_error: float = 0.01,
    min_intensity: float = MIN_INTENSITY,
    max_spots: int = MAX_SPOTS,
) -> Spots:
    """Return where the spots of an orientation fall on a detector.

    Parameters
    ----------
    quaternion
        Orientation in the frame of the diffraction pattern (x right, y up), shape (4,),
        lab2crystal, scalar first.
    reflections
        From `pyxem_nas.simulation.get_reflections`.
    phase_id
        Which phase of the reflections.
    acquisition
        Beam energy and precession.
    detector
        Shape, pixel size, mirror and distortion of the detector.
    center
        Direct beam (column, row) in pixels.
    max_excitation_error
        Reflections farther from the Ewald sphere are left out, 1/angstrom.
    min_intensity, max_spots
        Spots weaker than this share of the strongest are left out, and all but the strongest.

    Returns
    -------
    spots
        Those that fall on the detector, strongest first.
    """
    ((positions, intensities, hkl),) = simulate_spots(
        reflections,
        np.asarray(quaternion, float)[np.newaxis],
        acquisition,
        phase_id=phase_id,
        max_excitation_error=max_excitation_error,
        rocking_curve="gaussian",
        reciprocal_radius=detector_reach(detector),
    )
    pixels = np.asarray(center, float) + positions @ detector.matrix.T
    ny, nx = detector.shape
    inside = (pixels >= -0.5).all(axis=1) & (pixels <= [nx - 0.5, ny - 0.5]).all(axis=1)
    if not inside.any():
        return Spots()
    pixels, hkl = pixels[inside], hkl[inside]
    intensities = intensities[inside] / intensities[inside].max()
    order = np.argsort(-intensities, kind="stable")[:max_spots]
    order = order[intensities[order] >= min_intensity]
    return Spots(pixels[order], intensities[order], hkl[order])


def turn_to_detector(quaternions: np.ndarray, scan_rotation: float) -> np.ndarray:
    """Return orientations of a map, shape (..., 4), in the frame of the diffraction pattern.

    The inverse of what `index_phase_orientation` does with ``scan_rotation`` (degrees).
    """
    half = np.deg2rad(scan_rotation) / 2
    return multiply_quaternions(quaternions, np.array([np.cos(half), 0, 0, np.sin(half)]))


def format_hkl(hkl: np.ndarray) -> str:
    r"""Return Miller indices as matplotlib writes them, bars over the negative ones.

    Examples
    --------
    >>> print(format_hkl([1, -1, 0]), format_hkl([12, 0, -2]))
    $1\bar{1}0$ $12\,0\,\bar{2}$
    """
    texts = [rf"\bar{{{-k}}}" if k < 0 else str(k) for k in (int(k) for k in hkl)]
    gap = r"\," if max(abs(int(k)) for k in hkl) > 9 else ""
    return f"${gap.join(texts)}$"


class SpotMarks:
    """Rings around spots, and labels, in an axes; drawn anew for each pattern.

    Parameters
    ----------
    ax
        Axes with the image of a pattern.
    extent
        Pixel (0, 0) and size of a pixel in the axes' units: (x_0, y_0, x_step, y_step).
    n_labels
        Labels at most, at the strongest spots and where there is room.
    animated
        Whether the axes are drawn by blitting.
    """

    def __init__(
        self,
        ax: Axes,
        *,
        extent: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0),
        n_labels: int = 16,
        animated: bool = False,
    ) -> None:
        self._ax, self._n_labels, self._animated = ax, n_labels, animated
        self._origin, self._step = np.array(extent[:2]), np.array(extent[2:])
        self.rings = ax.scatter(
            [], [], facecolors="none", linewidths=1.1, zorder=5, animated=animated
        )
        self.beam = ax.scatter([], [], marker="+", s=36, linewidths=1.1, zorder=5,
                               animated=animated)  # fmt: skip
        self.labels: list[Any] = []

    def show(self, spots: Spots, center: np.ndarray, color: Any, *, labels: bool = True) -> None:
        """Draw the spots of one orientation and remove those drawn before."""
        for label in self.labels:
            label.remove()
        self.labels = []
        points = self._origin + spots.pixels * self._step
        middle = self._origin + np.asarray(center, float) * self._step
        size = _MIN_SIZE + (_MAX_SIZE - _MIN_SIZE) * spots.intensities**0.25
        self.rings.set_offsets(points if len(points) else np.zeros((0, 2)))
        self.rings.set_sizes(size**2)
        self.rings.set_edgecolor(color)
        self.beam.set_offsets(middle[np.newaxis])
        self.beam.set_color(color)
        if labels and len(points):
            self._label(points, middle, size, spots.hkl)

    def hide(self) -> None:
        """Remove what is drawn."""
        self.show(Spots(), np.full(2, np.nan), "none", labels=False)

    def _label(self, points, middle, size, hkl) -> None:
        """Write hkl outside of the strongest spots, none over another or the frame."""
        from matplotlib.patheffects import withStroke

        to_points = 72 / self._ax.figure.dpi
        window = self._ax.get_window_extent()
        at = self._ax.transData.transform(points) * to_points
        outward = at - self._ax.transData.transform(middle) * to_points
        length = np.hypot(*outward.T)
        away = length > 1
        outward[away] /= length[away, np.newaxis]
        frame = np.array([window.x0, window.y0, window.x1, window.y1]) * to_points
        taken: list[np.ndarray] = []
        for i in np.flatnonzero(away):
            if len(taken) >= self._n_labels:
                break
            n_signs = sum(len(str(abs(k))) for k in hkl[i])
            half = np.array([0.33 * _LABEL_SIZE * (n_signs + 0.5), 0.6 * _LABEL_SIZE])
            reach = size[i] / 2 + _LABEL_DISTANCE + 0.4 * half
            for side in (1, -1):  # outside of the ring, else inside
                where = at[i] + side * reach * outward[i]
                box = np.concatenate([where - half, where + half])
                outside = (box[:2] < frame[:2]).any() or (box[2:] > frame[2:]).any()
                if not outside and not any(_overlap(box, other) for other in taken):
                    break
            else:
                continue
            taken.append(box)
            label = self._ax.annotate(
                format_hkl(hkl[i]),
                points[i],
                xytext=where - at[i],
                textcoords="offset points",
                ha="center",
                va="center",
                fontsize=_LABEL_SIZE,
                color="0.1",
                zorder=6,
                animated=self._animated,
                path_effects=[withStroke(linewidth=1.6, foreground="white")],
            )
            self.labels.append(label)


def detector_reach(detector: Detector) -> float:
    """Return a radius in 1/angstrom beyond which no spot falls on the detector."""
    ny, nx = detector.shape
    diagonal = np.hypot(ny * detector.scale[0], nx * detector.scale[1])
    return float(min(diagonal, 1.85))  # reflections end there


def _overlap(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((a[:2] < b[2:]).all() and (b[:2] < a[2:]).all())
