"""The posterior's figure shows what the network says and what the map answers."""

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import as_signal, draw_with_diffsims
from orix.crystal_map import Phase, PhaseList
from orix.vector import Vector3d

from pyxem_nas import Acquisition, ModelBundle
from pyxem_nas.diffraction import (
    disorientation_angles,
    laue_operations,
    make_cells,
    multiply_quaternions,
    random_quaternions,
    rotate_vectors,
    to_orix,
)
from pyxem_nas.figures.posterior_figure import plot_posterior
from pyxem_nas.indexing.candidates import TWIN
from pyxem_nas.indexing.posterior import (
    Posterior,
    _sum_around,
    compute_posterior,
    fold_directions,
    inplane_bins,
    project_candidates,
)
from pyxem_nas.patterns.spec import Detector


@pytest.fixture(scope="module", params=["cementite", "trigonal 312", "monoclinic"])
def phase(request, steel):
    """Return a crystal whose axes are orix' own, and two of whom they are not."""
    return {
        "cementite": steel["cementite"],
        "trigonal 312": Phase(space_group=149),
        "monoclinic": Phase(space_group=14),
    }[request.param]


@pytest.fixture(scope="module")
def posterior(phase):
    """Return a posterior that is made up: a share each to an answer and its twin."""
    cells = make_cells(phase, spacing=9, n_inplane=60)
    shares = np.full((60, cells.n_directions), 0.1 / 60 / cells.n_directions)
    shares[7, 11] += 0.6
    shares[37, 11] += 0.3
    answer = cells.decode(np.array([11]), np.array([7]))
    candidates = np.concatenate([answer, multiply_quaternions(answer, TWIN)])
    nothing = np.full(2, np.nan)
    return Posterior(
        np.ones((32, 32)), np.array([16.0, 16]), Detector((32, 32), (0.1, 0.1)), Acquisition(), 0,
        None, cells, shares, candidates, nothing, nothing,
    )  # fmt: skip


def test_twin_lies_at_the_same_beam_direction_half_a_turn_away(posterior, phase):
    points, same_side = project_candidates(posterior, phase)
    assert np.allclose(points[0], points[1]) and same_side.all()
    bins = inplane_bins(posterior)
    assert (bins[1] - bins[0]) % 60 == pytest.approx(30)
    near, elsewhere = posterior.inplane_probability
    assert near[7] > 0.6 and near[37] > 0.3 and near.sum() < 0.95
    assert near.sum() + elsewhere.sum() == pytest.approx(1)


def test_mass_is_that_of_the_cells_around_a_candidate(posterior, phase):
    group = laue_operations(phase)
    mass = _sum_around(posterior.candidates, posterior.cells, posterior.cell_probability, group)
    assert mass == pytest.approx([0.6, 0.3], abs=0.01)


def test_inverse_pole_figure_adds_both_sides_of_a_beam_direction(posterior, phase):
    x, y, values = fold_directions(posterior, phase)
    cells, marginal = posterior.cells, posterior.direction_probability
    rng = np.random.default_rng(2)
    rows, columns = (rng.choice(k, 40) for k in np.nonzero(~values.mask))
    inside = ~values.mask[rows, columns]
    for row, column in zip(rows[inside], columns[inside], strict=True):
        r2 = x[column] ** 2 + y[row] ** 2
        v = np.array([2 * x[column], 2 * y[row], 1 - r2]) / (1 + r2)
        expected = 0.0
        v = rotate_vectors(to_orix(phase)[1] * [1, -1, -1, -1], v)  # into the crystal's axes
        for beam in (v, -v):
            # any orientation with this beam: the cell's direction does not depend on the angle
            turn = Vector3d.zvector(), Vector3d(beam)
            q = np.cross(turn[0].data[0], beam)
            q = np.array([1 + beam[2], *q]) if beam[2] > -0.999 else np.array([0, 1.0, 0, 0])
            q /= np.linalg.norm(q)
            expected += marginal[cells.encode(q[np.newaxis])[0][0]]
        assert values[row, column] == pytest.approx(expected)
    brightest = np.unravel_index(values.argmax(), values.shape)
    point = project_candidates(posterior, phase)[0][0]
    assert np.hypot(x[brightest[1]] - point[0], y[brightest[0]] - point[1]) < 0.15


@pytest.fixture(scope="module")
def silver():
    """Return the shipped bundle, a pattern by diffsims and its orientation."""
    bundle = ModelBundle.load("silver")
    quaternion = random_quaternions(3, np.random.default_rng(4))[2:]
    return bundle, draw_with_diffsims(bundle.phases[0], quaternion)[0], quaternion


def test_first_candidate_is_the_answer_of_the_map(silver):
    bundle, image, _ = silver
    s = as_signal(np.stack([image, image])[:, None])
    posterior = compute_posterior(s, bundle, position=(0, 1))
    xmap = s.inav[0, 1].index_phase_orientation(bundle, min_confidence=0, show_progressbar=False)
    group = laue_operations(bundle.phases[0])
    assert disorientation_angles(posterior.candidates[:1], xmap.rotations.data, group)[0] < 1e-3
    assert posterior.probability[0] == pytest.approx(xmap.orientation_probability[0])
    assert posterior.cell_probability.sum() == pytest.approx(1, abs=1e-4)
    assert posterior.phase_probability.sum() == pytest.approx(1)
    assert posterior.phase_probability[0] == pytest.approx(xmap.phase_probability[0], abs=0.2)
    assert (posterior.mass >= 0).all() and posterior.mass.max() <= 1 + 1e-6
    figure = plot_posterior(s, bundle, "silver", position=(0, 1))
    kinds = sorted(ax.name for ax in figure.axes)
    assert kinds == ["ipf", "polar", "rectilinear", "rectilinear"]
    texts = [t.get_text() for t in figure.findobj(plt.Text)]
    assert "the answer" in texts and any(t.startswith("If this is silver") for t in texts)
    plt.close(figure)


def test_what_gives_no_posterior_is_told(silver, steel):
    bundle, image, _ = silver
    s = as_signal(image)
    with pytest.raises(ValueError, match=r"no phase 'gold' in the bundle; it has \['silver'\]"):
        plot_posterior(s, bundle, "gold")
    with pytest.raises(ValueError, match="the pattern is empty"):
        plot_posterior(as_signal(np.zeros_like(image)), bundle)
    both = ModelBundle.from_phases(PhaseList([steel["NbC"], steel["ferrite"]]), Acquisition())
    with pytest.raises(ValueError, match="has no phase network; name the phase"):
        plot_posterior(s, both)
