"""The atoms of a phase, whatever way it came."""

import copy

import numpy as np
import pytest
from diffpy.structure import Atom, Lattice, Structure
from orix.crystal_map import Phase, PhaseList

from pyxem_nas import make_crystal_map, save_map
from pyxem_nas.diffraction import get_reflections, get_unit_cell, laue_operations
from pyxem_nas.maps.files import read_map

LATTICE = (2.95, 2.95, 4.68, 90, 90, 120)
POSITIONS = np.array([[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]])


def _titanium(lattice, positions=POSITIONS):
    atoms = [Atom("Ti", xyz) for xyz in positions]
    return Phase("titanium", space_group=194, structure=Structure(atoms, lattice))


def _through_a_map(phase, folder):
    columns = {"phase_id": np.zeros(2, int), "rotations": np.tile([1.0, 0, 0, 0], (2, 1, 1))}
    save_map(folder / "a.h5", make_crystal_map(columns, PhaseList(phase), shape=(2,), step=(1,)))
    return read_map(folder / "a.h5").phases[0]


def _in_the_frame_of_orix(phase):
    # a lattice that lies as orix wants it, with the coordinates that belong to it
    return _titanium(Lattice(base=phase.structure.lattice.base))


WAYS = {
    "made": lambda phase, folder: phase,
    "copied": lambda phase, folder: Phase(phase),
    "copied deeply": lambda phase, folder: copy.deepcopy(phase),
    "copied twice": lambda phase, folder: Phase(Phase(phase)),
    "in a list": lambda phase, folder: PhaseList([phase])[0],
    "through a map": _through_a_map,
    "made in orix' frame": lambda phase, folder: _in_the_frame_of_orix(phase),
    "expanded": lambda phase, folder: _titanium(
        Lattice(*LATTICE), POSITIONS[:1]
    ).expand_asymmetric_unit(),
}


@pytest.mark.parametrize("way", WAYS)
def test_atoms_stay_where_the_crystal_has_them(way, tmp_path):
    # orix turns the lattice by 30 degrees and leaves the atoms: its structure shows 0.577, 0.577
    made = _titanium(Lattice(*LATTICE))
    assert made.structure.xyz[0] == pytest.approx([0.57735, 0.57735, 0.25], abs=1e-5)
    phase = WAYS[way](made, tmp_path)
    cell = get_unit_cell(phase)
    np.testing.assert_allclose(cell.positions % 1, POSITIONS, atol=1e-6)
    assert len(laue_operations(phase)) == 12
    table = get_reflections([phase])
    lengths = np.linalg.norm(table.vectors, axis=1)
    first = np.abs(lengths - lengths[0]) < 1e-6
    assert first.sum() == 6
    # by hand: F = f (exp(2 pi i 2/3) + exp(2 pi i 1/3)) = -f, of 10-10 with l = 0
    two = get_reflections([_titanium(Lattice(*LATTICE), [[0, 0, 0], [0.5, 0.5, 0.5]])])
    whole = two.intensities[np.all(two.hkl == (0, 0, 2), axis=1)]
    there = table.intensities[np.all(table.hkl == (0, 0, 2), axis=1)]
    np.testing.assert_allclose(whole, there, rtol=1e-6)  # of 0002 both have 2 f
    np.testing.assert_allclose(table.intensities[first], 13.27, rtol=1e-3)


def test_cell_as_a_phase_is_the_same_cell():
    cell = get_unit_cell(_titanium(Lattice(*LATTICE)))
    again = get_unit_cell(cell.to_phase("titanium", 194))
    np.testing.assert_allclose(again.base, cell.base, atol=1e-9)
    np.testing.assert_allclose(again.positions, cell.positions, atol=1e-9)


def test_nearest_image_of_an_oblique_cell_is_found():
    lattice = Lattice(4, 4, 4, 150, 100, 90)
    phase = Phase(
        structure=Structure([Atom("Fe", (0, 0, 0)), Atom("O", (0.4, 0.45, 0.45))], lattice)
    )
    cell = get_unit_cell(phase)
    shifts = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3, indexing="ij"), -1).reshape(-1, 3)
    vectors = (cell.positions[1] - cell.positions[0] + shifts) @ cell.base
    assert cell.distances[0, 1] == pytest.approx(np.linalg.norm(vectors, axis=1).min())
