import numpy as np
import pytest
from orix.crystal_map import Phase
from orix.quaternion import Orientation, Rotation, Symmetry
from orix.vector import Vector3d

from pyxem_nas.diffraction import (
    laue_operations,
    make_cells,
    multiply_quaternions,
    quaternions_to_matrices,
    random_quaternions,
    rotate_vectors,
)

# a point group of every Laue group, among them some without inversion
GROUPS = ["1", "2", "222", "4", "422", "3", "32", "6", "622", "23", "432", "-43m", "mmm"]


@pytest.mark.parametrize("group", GROUPS)
def test_decode_returns_the_encoded_orientation(group):
    phase = Phase(point_group=group)
    cells = make_cells(phase, spacing=6)
    quaternions = random_quaternions(200, np.random.default_rng(0))
    direction, inplane = cells.encode(quaternions)
    found = cells.decode(direction, np.round(inplane))
    symmetry = Symmetry(laue_operations(phase))
    angle = Orientation(quaternions, symmetry).angle_with(
        Orientation(found, symmetry), degrees=True
    )
    # half a cell's direction and half an in-plane bin of 4 degrees
    assert angle.max() < np.hypot(cells.radius, 2) + 0.3
    assert cells.radius < 6


@pytest.mark.parametrize("group", GROUPS)
def test_equivalent_orientations_share_a_cell(group):
    phase = Phase(point_group=group)
    cells = make_cells(phase, spacing=8)
    quaternions = random_quaternions(50, np.random.default_rng(1))
    first = cells.encode(quaternions)
    for operation in laue_operations(phase):
        turned = multiply_quaternions(operation, quaternions)
        direction, inplane = cells.encode(turned)
        np.testing.assert_array_equal(direction, first[0])
        np.testing.assert_allclose(np.cos((inplane - first[1]) * np.pi / 45), 1, atol=1e-6)


@pytest.mark.parametrize("group", GROUPS)
def test_encode_finds_the_nearest_direction_of_all(group):
    cells = make_cells(Phase(point_group=group), spacing=5)
    quaternions = random_quaternions(300, np.random.default_rng(3))
    equivalent = multiply_quaternions(cells.symmetry[:, None], quaternions[None])
    beams = rotate_vectors(equivalent, np.array([0.0, 0, 1]))
    cosines = np.einsum("sni,di->snd", beams, cells.directions).max(axis=0)
    direction, _ = cells.encode(quaternions)
    np.testing.assert_array_equal(direction, cosines.argmax(axis=1))


def test_turning_the_sample_rolls_the_inplane_bin():
    cells = make_cells(Phase(point_group="m-3m"))
    quaternions = random_quaternions(100, np.random.default_rng(2))
    angle = np.deg2rad(20)  # five bins of four degrees
    turn = np.array([np.cos(-angle / 2), 0, 0, np.sin(-angle / 2)])
    direction, inplane = cells.encode(multiply_quaternions(quaternions, turn))
    before, inplane_before = cells.encode(quaternions)
    np.testing.assert_array_equal(direction, before)
    np.testing.assert_allclose((inplane - inplane_before) % 90, 5, atol=1e-6)


def test_algebra_is_that_of_orix():
    rng = np.random.default_rng(3)
    a, b = random_quaternions(20, rng), random_quaternions(20, rng)
    product = (Rotation(a) * Rotation(b)).data
    same = np.abs(np.sum(product * multiply_quaternions(a, b), axis=1))
    np.testing.assert_allclose(same, 1, atol=1e-12)
    vectors = rng.normal(size=(20, 3))
    np.testing.assert_allclose(
        (Rotation(a) * Vector3d(vectors)).data, rotate_vectors(a, vectors), atol=1e-12
    )
    np.testing.assert_allclose(Rotation(a).to_matrix(), quaternions_to_matrices(a), atol=1e-12)


def test_phase_without_a_point_group_is_refused():
    with pytest.raises(ValueError, match="set phase.structure and phase.space_group"):
        make_cells(Phase("unknown"))
