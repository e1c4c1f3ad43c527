"""Neighbours that agree, against maps whose agreement is known."""

import numpy as np
import pytest
from orix.crystal_map import Phase, PhaseList

from pyxem_nas.maps import get_geometry, make_crystal_map, measure_coherence

PHASES = PhaseList([Phase("a", space_group=225)])


def make_map(quaternions, shape, **columns):
    rows = {"phase_id": np.zeros(len(quaternions), int), "rotations": quaternions[:, None]}
    return make_crystal_map(rows | columns, PHASES, shape=shape, step=(1,) * len(shape))


def about_z(degrees):
    half = np.deg2rad(degrees) / 2
    return np.stack([np.cos(half), 0 * half, 0 * half, np.sin(half)], axis=-1)


def random_quaternions(n, seed=0):
    q = np.random.default_rng(seed).standard_normal((n, 4))
    return q / np.linalg.norm(q, axis=1, keepdims=True)


def test_two_grains_agree_but_for_their_boundary():
    angles = np.zeros((6, 8))
    angles[:, 4:] = 30
    angles += np.arange(8) * 0.5  # half a degree from column to column
    found = measure_coherence(make_map(about_z(angles.ravel()), (6, 8)))
    assert found.n_pairs == 6 * 7 + 5 * 8
    assert found.within == pytest.approx(1 - 6 / found.n_pairs)
    # 6 x 6 pairs of half a degree, 40 of none
    assert found.inside == pytest.approx(0, abs=1e-4)
    assert found.random_within == pytest.approx(0.5, abs=0.05)


def test_neighbours_in_a_map_of_noise_agree_no_more_than_any_two():
    found = measure_coherence(make_map(random_quaternions(900), (30, 30)))
    assert found.within < 0.02 and found.random_within < 0.02
    assert found.random == pytest.approx(42, abs=3)  # cubic, at random: most near 45 degrees


def test_equivalent_orientations_and_twins_agree():
    angles = np.where(np.arange(20) % 2, 90, 0).reshape(4, 5)
    assert measure_coherence(make_map(about_z(angles.ravel()), (4, 5))).within == 1
    start = random_quaternions(1, 3)[0]
    twins = np.tile(start, (20, 1))
    # turned by 180 degrees about the beam: lab2crystal, from the right
    w, x, y, z = start
    twins[1::2] = [-z, y, -x, w]
    xmap = make_map(twins, (4, 5))
    assert measure_coherence(xmap).within < 0.6
    assert measure_coherence(xmap, forgive_twins=True).within == 1


def test_positions_without_an_answer_have_no_part():
    rows = {"phase_id": np.array([0, -1, 0, 0]), "rotations": about_z(np.zeros(4))[:, None]}
    mask = np.array([False, False, True, False])
    xmap = make_crystal_map(rows, PHASES, shape=(4,), step=(1,), navigation_mask=mask)
    found = measure_coherence(xmap)
    assert found.n_pairs == 0 and np.isnan(found.within)


def test_a_map_says_what_it_was_made_with():
    n = 6
    plain = make_map(about_z(np.zeros(n)), (2, 3))
    assert get_geometry(plain) == (None, None)
    matrix = np.array([[1.03, 0.01], [0.01, 1.02]])
    xmap = make_map(
        about_z(np.zeros(n)), (2, 3), beam_column=np.arange(n) * 1.0, beam_row=np.full(n, 7.0),
        distortion=np.tile(matrix.ravel(), (n, 1)),
    )  # fmt: skip
    centers, distortion = get_geometry(xmap)
    np.testing.assert_array_equal(centers[:, 0], np.arange(n))
    np.testing.assert_array_equal(distortion, matrix)
