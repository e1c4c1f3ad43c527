"""What is drawn knows the crystal's own symmetry axes."""

import numpy as np
import pytest
from diffpy.structure import Atom, Lattice, Structure
from orix.crystal_map import Phase, PhaseList

from pyxem_nas import evaluate, make_crystal_map
from pyxem_nas.diffraction import laue_operations, multiply_quaternions, random_quaternions
from pyxem_nas.figures.map_colors import ipf_colors

PHASES = {
    "monoclinic": Phase("one", space_group=14),
    "trigonal 312": Phase("one", space_group=151),
    "trigonal 321": Phase("one", space_group=152),
    "rhombohedral axes": Phase(
        "one",
        space_group=160,
        structure=Structure(
            [Atom("Ge", (0.2371,) * 3), Atom("Te", (0.7629,) * 3)],
            Lattice(4.293, 4.293, 4.293, 58.02, 58.02, 58.02),
        ),
    ),
    "cubic without inversion": Phase("one", space_group=216),
}


def _map(phase, quaternions):
    columns = {"phase_id": np.zeros(len(quaternions), int), "rotations": quaternions[:, np.newaxis]}
    return make_crystal_map(columns, PhaseList(phase), shape=(len(quaternions),), step=(1,))


@pytest.mark.parametrize("name", PHASES)
def test_equivalent_orientations_have_one_colour_and_others_another(name):
    phase, rng = PHASES[name], np.random.default_rng(1)
    quaternions = random_quaternions(30, rng)
    for direction in ((1, 0, 0), (0, 0, 1)):
        colors = ipf_colors(_map(phase, quaternions), direction)
        for operation in laue_operations(phase):
            turned = multiply_quaternions(operation, quaternions)
            found = ipf_colors(_map(phase, turned), direction)
            np.testing.assert_allclose(found, colors, atol=1e-5)
        half = np.deg2rad(15)  # 30 degrees about an axis that no crystal has
        axis = np.array([0.2, 0.5, 0.84])
        other = np.concatenate([[np.cos(half)], np.sin(half) * axis / np.linalg.norm(axis)])
        found = ipf_colors(_map(phase, multiply_quaternions(other, quaternions)), direction)
        assert np.abs(found - colors).max(axis=1).min() > 0.01


@pytest.mark.parametrize("name", PHASES)
def test_right_map_is_right_whatever_the_point_group(name):
    # of F-43m, patterns tell the Laue group m-3m: half of the right answers are others in F-43m
    phase, rng = PHASES[name], np.random.default_rng(2)
    operations = laue_operations(phase)
    true = random_quaternions(60, rng)
    answered = multiply_quaternions(operations[rng.integers(len(operations), size=60)], true)
    found = evaluate(_map(phase, answered), _map(phase, true)).orientation["one"]
    assert found.within_2 == 1.0
    wrong = multiply_quaternions(np.array([np.cos(0.2), np.sin(0.2), 0, 0]), true)
    assert evaluate(_map(phase, wrong), _map(phase, true)).orientation["one"].within_2 == 0.0
