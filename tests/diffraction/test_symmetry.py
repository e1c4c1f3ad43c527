"""The kind, not the case: every space group, every crystal system."""

import gemmi
import numpy as np
import pytest
from diffpy.structure import Atom, Lattice, Structure
from orix.crystal_map import Phase
from orix.quaternion import Orientation, Symmetry

from pyxem_nas.diffraction import (
    disorientation_angles,
    get_reflections,
    get_unit_cell,
    laue_operations,
    make_cells,
    multiply_quaternions,
    name_laue_group,
    quaternions_to_matrices,
    random_quaternions,
    rotate_vectors,
    to_orix,
)

# lengths and angles that have no more symmetry than the crystal system
CELLS = {
    "triclinic": (5.1, 6.3, 7.2, 81, 97, 104),
    "monoclinic": (5.1, 6.3, 7.2, 90, 108, 90),
    "orthorhombic": (5.1, 6.3, 7.2, 90, 90, 90),
    "tetragonal": (5.6, 5.6, 7.2, 90, 90, 90),
    "trigonal": (5.6, 5.6, 7.2, 90, 90, 120),
    "hexagonal": (5.6, 5.6, 7.2, 90, 90, 120),
    "cubic": (7.6, 7.6, 7.6, 90, 90, 90),
}
GENERAL = [("Fe", (0.137, 0.059, 0.213)), ("O", (0.291, 0.173, 0.042))]


def crystal_of(setting: gemmi.SpaceGroup, cell=None) -> Phase:
    """Two atoms in general positions: as many symmetries as the group has, and no more."""
    cell = cell or CELLS[setting.crystal_system_str()]
    atoms = []
    for element, xyz in GENERAL:
        images = np.array([op.apply_to_xyz(xyz) for op in setting.operations()]) % 1
        atoms += [Atom(element, position) for position in images]
    structure = Structure(atoms, Lattice(*cell))
    return Phase(setting.hm, space_group=setting.number, structure=structure)


def frame_of(cell) -> np.ndarray:
    """Rows a, b, c with x along a and z along c*, by hand."""
    a, b, c = cell[:3]
    alpha, beta, gamma = np.deg2rad(cell[3:])
    cy = c * (np.cos(alpha) - np.cos(beta) * np.cos(gamma)) / np.sin(gamma)
    cx = c * np.cos(beta)
    return np.array(
        [
            [a, 0, 0],
            [b * np.cos(gamma), b * np.sin(gamma), 0],
            [cx, cy, np.sqrt(c**2 - cx**2 - cy**2)],
        ]
    )


def proper_matrices(setting: gemmi.SpaceGroup, frame: np.ndarray) -> np.ndarray:
    """Proper parts of a group's rotations in the Cartesian frame, without repetition."""
    rotations = np.array([op.rot for op in setting.operations().sym_ops]) / gemmi.Op.DEN
    matrices = frame.T @ rotations @ np.linalg.inv(frame.T)
    matrices *= np.linalg.det(matrices)[:, None, None].round()
    return np.unique(matrices.round(6) + 0.0, axis=0)


def same_set(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two sets of matrices are the same."""
    near = np.abs(a[:, None] - b).max(axis=(-1, -2)) < 1e-4
    return len(a) == len(b) and near.any(axis=0).all() and near.any(axis=1).all()


def maps_table_onto_itself(matrix: np.ndarray, reflections) -> bool:
    """Whether a rotation takes each reflection to one of the same intensity."""
    images = reflections.vectors @ matrix.T
    hkl = images @ np.linalg.pinv(np.linalg.lstsq(reflections.hkl, reflections.vectors)[0])
    rounded = np.rint(hkl).astype(int)
    if np.abs(hkl - rounded).max() > 1e-3:
        return False
    known = dict(zip(map(tuple, reflections.hkl), reflections.intensities, strict=True))
    found = np.array([known.get(key, -1.0) for key in map(tuple, rounded)])
    return bool(np.allclose(found, reflections.intensities, rtol=1e-4, atol=1e-7))


@pytest.mark.parametrize("number", range(1, 231))
def test_laue_operations_are_those_of_the_reflections_and_no_more(number):
    setting = gemmi.find_spacegroup_by_number(number)
    cell = CELLS[setting.crystal_system_str()]
    phase = crystal_of(setting)
    operations = quaternions_to_matrices(laue_operations(phase))
    assert same_set(operations, proper_matrices(setting, frame_of(cell)))
    reflections = get_reflections([phase], reciprocal_radius=0.85)
    assert all(maps_table_onto_itself(matrix, reflections) for matrix in operations)
    # of the symmetry of the bare lattice nothing else may hold
    holohedry = {"trigonal": 191, "hexagonal": 191, "cubic": 221, "tetragonal": 123}
    lattice = gemmi.find_spacegroup_by_number(holohedry.get(setting.crystal_system_str(), number))
    for matrix in proper_matrices(lattice, frame_of(cell)):
        inside = np.abs(operations - matrix).max(axis=(1, 2)).min() < 1e-4
        assert maps_table_onto_itself(matrix, reflections) == inside


# settings whose axes orix takes elsewhere than the crystal has them
ODD_SETTINGS = [
    (setting, {"R": (5.6, 5.6, 5.6, 74, 74, 74), "c": (5.1, 6.3, 7.2, 90, 90, 108)}[kind])
    for setting in gemmi.spacegroup_table()
    for kind in ("R", "c")
    if (kind == "R" and setting.ext == "R")
    or (kind == "c" and 3 <= setting.number <= 15 and setting.monoclinic_unique_axis() == "c")
]


@pytest.mark.parametrize(("setting", "cell"), ODD_SETTINGS, ids=lambda s: getattr(s, "hm", ""))
def test_laue_operations_are_those_of_the_setting(setting, cell):
    operations = laue_operations(crystal_of(setting, cell))
    expected = proper_matrices(setting, frame_of(cell))
    assert same_set(quaternions_to_matrices(operations), expected)


# one group of each Laue class and setting of axes, where orix is right and where it is not
LAUE_EXAMPLES = [2, 14, 62, 88, 141, 147, 148, 151, 154, 162, 164, 167, 176, 194, 205, 227]


@pytest.mark.parametrize("number", LAUE_EXAMPLES)
def test_phase_without_atoms_has_the_operations_of_its_group(number):
    setting = gemmi.find_spacegroup_by_number(number)
    cell = CELLS[setting.crystal_system_str()]
    bare = Phase(space_group=number, structure=Structure(lattice=Lattice(*cell)))
    assert same_set(
        quaternions_to_matrices(laue_operations(bare)), proper_matrices(setting, frame_of(cell))
    )


def test_lattice_that_cannot_have_the_group_is_refused():
    bare = Phase("odd", structure=Structure(lattice=Lattice(3, 4, 5, 90, 90, 90)))
    bare._space_group = Phase(space_group=225).space_group  # orix itself refuses some
    with pytest.raises(ValueError, match="'odd' is of space group 225, which its lattice cannot"):
        laue_operations(bare)


@pytest.mark.parametrize("number", LAUE_EXAMPLES)
def test_decode_returns_the_encoded_orientation_under_the_crystals_own_symmetry(number):
    phase = crystal_of(gemmi.find_spacegroup_by_number(number))
    cells = make_cells(phase, spacing=8)
    quaternions = random_quaternions(300, np.random.default_rng(number))
    direction, inplane = cells.encode(quaternions)
    found = cells.decode(direction, np.round(inplane))
    angles = disorientation_angles(found, quaternions, laue_operations(phase))
    assert angles.max() < np.hypot(cells.radius, 2) + 0.3
    assert cells.radius < 8
    for operation in laue_operations(phase):
        images = cells.encode(multiply_quaternions(operation, quaternions))
        same = images[0] == direction  # but at a border, where rounding may decide
        assert same.mean() > 0.99
        turn = np.cos((images[1] - inplane)[same] * np.pi / 45)
        np.testing.assert_allclose(turn, 1, atol=1e-5)


@pytest.mark.parametrize("number", LAUE_EXAMPLES)
def test_turn_to_orix_takes_the_axes_onto_those_of_its_group(number):
    phase = crystal_of(gemmi.find_spacegroup_by_number(number))
    laue, turn = to_orix(phase)
    operations = laue_operations(phase)
    back = turn * [1, -1, -1, -1]
    turned = multiply_quaternions(multiply_quaternions(turn, operations), back)
    wanted = quaternions_to_matrices(laue.proper_subgroup.data.reshape(-1, 4))
    assert same_set(quaternions_to_matrices(turned), wanted)
    assert laue.name == name_laue_group(operations)
    # orix itself is the truth where its axes are the crystal's
    if same_set(quaternions_to_matrices(operations), wanted):
        np.testing.assert_allclose(np.abs(turn[0]), 1, atol=1e-6)


@pytest.mark.parametrize("number", LAUE_EXAMPLES)
def test_turn_to_orix_is_one_whatever_the_last_digits(number):
    # colours of one crystal, read twice, must not differ
    setting = gemmi.find_spacegroup_by_number(number)
    cell = CELLS[setting.crystal_system_str()]
    turn = to_orix(crystal_of(setting))[1]
    lengths = np.array(cell[:3]) * (1 + 1e-9 * np.array([1, 1, -1]))
    again = to_orix(crystal_of(setting, (*lengths, *cell[3:])))[1]
    np.testing.assert_allclose(again, turn, atol=1e-5)


def test_disorientation_is_that_of_orix_by_the_same_operations():
    phase = crystal_of(gemmi.find_spacegroup_by_number(151))
    a, b = (random_quaternions(40, np.random.default_rng(seed)) for seed in (1, 2))
    operations = laue_operations(phase)
    expected = Orientation(a, Symmetry(operations)).angle_with(
        Orientation(b, Symmetry(operations)), degrees=True
    )
    np.testing.assert_allclose(disorientation_angles(a, b, operations), expected, atol=1e-4)


@pytest.mark.parametrize("name", CELLS)
def test_reflections_are_complete_within_their_radius(name):
    number = {"triclinic": 1, "monoclinic": 4, "orthorhombic": 19, "tetragonal": 76}
    number |= {"trigonal": 144, "hexagonal": 169, "cubic": 198}
    phase = crystal_of(gemmi.find_spacegroup_by_number(number[name]))
    table = get_reflections([phase], reciprocal_radius=1.0, minimum_intensity=0)
    index = np.arange(-12, 13)
    hkl = np.stack(np.meshgrid(index, index, index, indexing="ij"), -1).reshape(-1, 3)
    vectors = hkl @ np.linalg.inv(frame_of(CELLS[name])).T
    length = np.linalg.norm(vectors, axis=1)
    inside = (length <= 1.0) & (length > 0)
    assert np.abs(hkl[inside]).max() < 12  # the loop went far enough
    cell = get_unit_cell(phase)
    factor = np.exp(2j * np.pi * hkl[inside] @ cell.positions[: len(cell) // 2].T).sum(axis=1)
    present = {tuple(h) for h in hkl[inside][np.abs(factor) > 1e-6].tolist()}
    assert present <= {tuple(h) for h in table.hkl.tolist()}


def test_titanium_has_all_its_reflections_with_equal_intensities_in_a_family():
    # of space group 194: 812 within 1.85 1/angstrom, of which diffsims lists 732
    atoms = [Atom("Ti", (1 / 3, 2 / 3, 0.25)), Atom("Ti", (2 / 3, 1 / 3, 0.75))]
    structure = Structure(atoms, Lattice(2.95, 2.95, 4.68, 90, 90, 120))
    phase = Phase("titanium", space_group=194, structure=structure)
    table = get_reflections([phase], minimum_intensity=1e-5)
    assert len(table.hkl) == 812
    first = table.intensities[:6]
    assert {tuple(np.abs(h)) for h in table.hkl[:6].tolist()} == {(1, 0, 0), (0, 1, 0), (1, 1, 0)}
    np.testing.assert_allclose(first, first[0], rtol=1e-9)


def test_operations_act_on_the_crystal_not_on_the_laboratory():
    phase = crystal_of(gemmi.find_spacegroup_by_number(14))  # the 2-fold axis is b
    axis = rotate_vectors(laue_operations(phase)[1], np.array([0.0, 1.0, 0.0]))
    np.testing.assert_allclose(axis, (0, 1, 0), atol=1e-9)
