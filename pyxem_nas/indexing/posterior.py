"""Where else could it be: the network's posterior over orientations, for one pattern.

Owns the numbers behind :func:`pyxem_nas.plot_posterior`. The posterior comes from the bundle's
network, or from exhaustive matching where there is none, and the candidates from the branch that
`index_phase_orientation` takes, so that the figure shows what the map's answer was chosen from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.spatial import cKDTree

from pyxem_nas.bundles import ModelBundle
from pyxem_nas.diffraction import (
    Acquisition,
    OrientationCells,
    disorientation_angles,
    laue_operations,
    multiply_quaternions,
    name_proper_group,
    rotate_vectors,
    to_orix,
)
from pyxem_nas.indexing.block import correct_answers, describe
from pyxem_nas.indexing.branches import get_judge, get_library, orient
from pyxem_nas.indexing.described import Described
from pyxem_nas.indexing.matching import score_everywhere
from pyxem_nas.indexing.plan import IndexingPlan, get_specs, make_plan
from pyxem_nas.indexing.predictor import Predictor, get_predictor
from pyxem_nas.patterns import (
    Detector,
    find_centers,
    get_acquisition,
    get_centers,
    get_scale,
    make_sampler,
)

if TYPE_CHECKING:
    from orix.crystal_map import Phase
    from pyxem.signals import ElectronDiffraction2D

__all__ = [
    "Posterior", "compute_posterior", "fold_directions", "inplane_bins", "project_candidates",
]  # fmt: skip

NEAR = 6.0  # degrees: cells nearer than this to a beam direction count as the same direction
_N_PIXELS = 360  # of the inverse pole figure's picture, along its longer side


@dataclass(frozen=True, eq=False)
class Posterior:
    """Posterior over the orientations of one phase, for one pattern.

    Parameters
    ----------
    pattern
        The pattern, shape (ny, nx).
    center
        Direct beam (column, row) in pixels.
    detector
        Geometry of the camera.
    acquisition
        Beam energy and precession.
    phase_id
        Phase of the bundle.
    phase_probability
        Probability of each phase and, last, of none of them; None without a phase network.
    cells
        What the probabilities stand for.
    cell_probability
        Shape (n_inplane, n_directions), sum 1.
    candidates
        Distinct answers, best first, shape (k, 4), lab2crystal in the frame of the pattern.
    probability
        Calibrated probability of each candidate, shape (k,); NaN where the bundle is not
        calibrated.
    mass
        Posterior of the network within 6 degrees of each candidate, shape (k,).
    """

    pattern: np.ndarray = field(repr=False)
    center: np.ndarray
    detector: Detector = field(repr=False)
    acquisition: Acquisition
    phase_id: int
    phase_probability: np.ndarray | None
    cells: OrientationCells
    cell_probability: np.ndarray = field(repr=False)
    candidates: np.ndarray
    probability: np.ndarray
    mass: np.ndarray

    @property
    def beam_directions(self) -> np.ndarray:
        """Direction of the beam's source in the crystal of each candidate, shape (k, 3)."""
        return rotate_vectors(self.candidates, np.array([0.0, 0.0, 1.0]))

    @property
    def direction_probability(self) -> np.ndarray:
        """Marginal over the in-plane angle, shape (n_directions,)."""
        return self.cell_probability.sum(axis=0)

    @property
    def inplane_probability(self) -> tuple[np.ndarray, np.ndarray]:
        """Marginals over the beam direction, shape (n_inplane,): near the answer's, and elsewhere.

        The in-plane angle has a common zero only for neighbouring beam directions.
        """
        images = rotate_vectors(self.cells.symmetry, self.beam_directions[0])
        near = (self.cells.directions @ images.T).max(axis=1) > np.cos(np.deg2rad(NEAR))
        return self.cell_probability[:, near].sum(axis=1), self.cell_probability[:, ~near].sum(
            axis=1
        )


def compute_posterior(
    s: ElectronDiffraction2D,
    bundle: ModelBundle | Path | str,
    *,
    phase: str | None = None,
    position: tuple[int, ...] | None = None,
    n_candidates: int = 3,
    method: str = "hybrid",
    acquisition: Acquisition | None = None,
    center: Any = None,
    mask: np.ndarray | None = None,
    detector_flip: Literal["x", "y"] | None = None,
    distortion: np.ndarray | None = None,
) -> Posterior:
    """Return the posterior over orientations for one pattern; see `plot_posterior`.

    Of a phase without a network it is what exhaustive matching tells: the exponential of the score.
    """
    bundle = bundle if isinstance(bundle, ModelBundle) else ModelBundle.load(bundle)
    if phase is not None and phase not in bundle.phase_names:
        raise ValueError(f"no phase {phase!r} in the bundle; it has {bundle.phase_names!r}")
    if s.axes_manager.navigation_shape:
        at = s.axes_manager.indices if position is None else tuple(int(i) for i in position)
        where = center if center is None or np.ndim(center) < 2 else np.asarray(center)[at[::-1]]
        s, center = s.inav[at], where
    acquisition = get_acquisition(s, bundle.acquisition) if acquisition is None else acquisition
    scale = get_scale(s, acquisition.beam_energy)
    detector = Detector(
        s.axes_manager._signal_shape_in_array, scale, distortion, detector_flip, mask
    )
    unset = center is None and all(axis.offset == 0 for axis in s.axes_manager.signal_axes)
    center = find_centers(s, scale) if unset else get_centers(s, center, scale)
    plan = make_plan(
        bundle,
        make_sampler(detector, *get_specs(bundle)),
        method=method,
        acquisition=acquisition,
        n_best=n_candidates,
    ).see(center)
    pattern = np.asarray(s.data)
    described = describe(pattern[np.newaxis], center[np.newaxis], plan)
    if not described.descriptors.any():
        raise ValueError("the pattern is empty: there is no posterior over orientations")
    predictor = get_predictor(bundle)
    phase_probability = None
    if "phase" in bundle.models:
        phase_probability = np.exp(predictor.log_phase_probability(described.phase_input)[0])
    phase_id = _choose_phase(bundle, phase, phase_probability)
    cells, shares = _spread(predictor, phase_id, described, plan)
    answers = orient(predictor, phase_id, described, plan)
    found, probability = answers["quaternions"], answers["probability"][0]
    found = correct_answers(predictor, described, plan, phase_id, found, np.zeros(1, int))[0]
    new = [k for k in range(len(found)) if not (found[:k] == found[k]).all(axis=-1).any()]
    return Posterior(
        pattern,
        center,
        detector,
        acquisition,
        phase_id,
        phase_probability,
        cells,
        shares,
        found[new],
        probability[new],
        _sum_around(found[new], cells, shares, laue_operations(bundle.phases[phase_id])),
    )


def _spread(
    predictor: Predictor, phase_id: int, described: Described, plan: IndexingPlan
) -> tuple[OrientationCells, np.ndarray]:
    """Return cells and their probability: by the network, else by exhaustive matching."""
    if predictor.bundle.has_orientation_network(phase_id):
        cells = predictor.bundle.cells[phase_id]
        logits, norms = predictor.run(f"orientation_{phase_id}", described.descriptors)
        shares = np.exp(logits[0].astype(float) - norms[0])
        return cells, shares.reshape(cells.n_inplane, -1)
    library = get_library(predictor, phase_id, plan)
    scores = score_everywhere(described.spectra, library)
    directions = rotate_vectors(library.references, np.array([0.0, 0.0, 1.0])).reshape(-1, 3)
    cells = OrientationCells(
        name_proper_group(library.symmetry), directions, library.n_angles, library.symmetry
    )
    # the mirror images' angles count from a reference of their own
    turns = multiply_quaternions(
        cells.references * [1, -1, -1, -1], library.references.reshape(-1, 4)
    )
    steps = np.rint(-np.arctan2(turns[:, 3], turns[:, 0]) / np.pi * library.n_angles).astype(int)
    rows = (np.arange(library.n_angles)[:, None] - steps) % library.n_angles
    shares = np.take_along_axis(scores.reshape(len(directions), -1).T, rows, axis=0)
    weight = get_judge(predictor, phase_id, "match fast").matching
    shares = np.exp(weight * (shares / max(shares.max(), 1e-9) - 1))
    return cells, shares / shares.sum()


def _sum_around(
    quaternions: np.ndarray, cells: OrientationCells, shares: np.ndarray, group: np.ndarray
) -> np.ndarray:
    """Return the posterior of the cells near each orientation, shape (k,)."""
    inplane, direction = np.nonzero(shares > 1e-6)
    centers = cells.decode(direction, inplane)
    values = shares[inplane, direction]
    return np.array(
        [
            values[disorientation_angles(centers, np.broadcast_to(q, centers.shape), group)
                   < NEAR].sum()
            for q in quaternions
        ]
    )  # fmt: skip


def _choose_phase(bundle: ModelBundle, name: str | None, probability: np.ndarray | None) -> int:
    """Return the phase to look at."""
    if name is None and probability is None and len(bundle.phases) > 1:
        raise ValueError(
            f"bundle {bundle.name!r} has no phase network; name the phase, one of "
            f"{bundle.phase_names!r}"
        )
    if name is not None:
        phase_id = bundle.phase_names.index(name)
    else:
        phase_id = 0 if probability is None else int(probability[:-1].argmax())
    return phase_id


def fold_directions(
    posterior: Posterior, phase: Phase
) -> tuple[np.ndarray, np.ndarray, np.ma.MaskedArray]:
    """Return x, y and the cell probability over the sector of the Laue group, both sides added.

    The sector is orix', in the axes of its own group (`to_orix`).
    """
    from orix.projections import InverseStereographicProjection, StereographicProjection

    laue, turn = to_orix(phase)
    sector = laue.fundamental_sector
    edge = np.stack(StereographicProjection().vector2xy(sector.edges), axis=1)
    low, high = edge.min(axis=0), edge.max(axis=0)
    step = (high - low).max() / _N_PIXELS
    x, y = (np.arange(low[i] - step, high[i] + 2 * step, step) for i in (0, 1))
    grid_x, grid_y = np.meshgrid(x, y)
    points = InverseStereographicProjection().xy2vector(grid_x.ravel(), grid_y.ravel())
    inside = np.asarray(points <= sector).reshape(grid_x.shape)
    vectors = rotate_vectors(turn * [1, -1, -1, -1], points.data.reshape(-1, 3))
    cells = posterior.cells
    inverse = cells.symmetry * [1, -1, -1, -1]
    images = rotate_vectors(inverse[:, np.newaxis], cells.directions[np.newaxis]).reshape(-1, 3)
    tree = cKDTree(images)
    marginal = posterior.direction_probability
    values = sum(marginal[tree.query(sign * vectors)[1] % cells.n_directions] for sign in (1, -1))
    return x, y, np.ma.masked_array(values.reshape(grid_x.shape), ~inside)


def project_candidates(posterior: Posterior, phase: Phase) -> tuple[np.ndarray, np.ndarray]:
    """Return the candidates' points (k, 2) in the sector, and which are on candidate 1's side."""
    from orix.projections import StereographicProjection
    from orix.vector import Vector3d

    laue, turn = to_orix(phase)
    beams = posterior.beam_directions
    folded = Vector3d(rotate_vectors(turn, beams)).in_fundamental_sector(laue)
    points = np.stack(StereographicProjection().vector2xy(folded), axis=1)
    images = rotate_vectors(posterior.cells.symmetry[:, np.newaxis], beams[np.newaxis])
    images = rotate_vectors(turn, images)
    target = folded.data.reshape(-1, 3)
    proper = (images * target).sum(axis=-1).max(axis=0)
    improper = (-images * target).sum(axis=-1).max(axis=0)
    side = proper >= improper - 1e-9
    return points, (side == side[0]) | (np.abs(proper - improper) < 1e-6)


def inplane_bins(posterior: Posterior) -> np.ndarray:
    """Return the in-plane angle of each candidate in bins."""
    return posterior.cells.encode(posterior.candidates)[1]
