"""A crystal that goes through a bundle file is the same crystal."""

import json
import zipfile

import numpy as np
import pytest
from diffpy.structure import Atom, Lattice, Structure
from orix.crystal_map import Phase, PhaseList

from pyxem_nas import Acquisition, BundleError, ModelBundle
from pyxem_nas.bundles.stored_phases import cells_from_dict
from pyxem_nas.diffraction import get_reflections, laue_operations

# name: space group, lattice, all atoms: real crystals of the seven systems, two of them oblique in
# all senses, one on rhombohedral axes
CRYSTALS = {
    "triclinic": (2, (5.1, 6.3, 7.2, 81, 97, 104), [
        ("Cu", (0.1, 0.2, 0.3)), ("Cu", (0.9, 0.8, 0.7)), ("O", (0.41, 0.13, 0.77)),
        ("O", (0.59, 0.87, 0.23))]),
    "monoclinic": (14, (5.15, 5.21, 5.32, 90, 99.2, 90), [
        (kind, np.array(xyz) * sign + shift * np.array([0, 0.5, 0.5]) * [1, 1, 1])
        for kind, (x, y, z) in (("Zr", (0.275, 0.04, 0.208)), ("O", (0.07, 0.332, 0.345)),
                                ("O", (0.45, 0.757, 0.479)))
        for sign, shift, xyz in ((1, 0, (x, y, z)), (-1, 0, (x, y, z)),
                                 (1, 1, (x, -y, z)), (-1, 1, (x, -y, z)))
    ]),
    "orthorhombic": (58, (4.5, 5.0, 3.0, 90, 90, 90), [
        ("Fe", (0, 0, 0)), ("Fe", (0.5, 0.5, 0.5)), ("O", (0.2, 0.38, 0)), ("O", (0.8, 0.62, 0)),
        ("O", (0.3, 0.88, 0.5)), ("O", (0.7, 0.12, 0.5))]),
    "tetragonal": (136, (4.59, 4.59, 2.96, 90, 90, 90), [
        ("Ti", (0, 0, 0)), ("Ti", (0.5, 0.5, 0.5)), ("O", (0.305, 0.305, 0)),
        ("O", (0.695, 0.695, 0)), ("O", (0.195, 0.805, 0.5)), ("O", (0.805, 0.195, 0.5))]),
    "trigonal": (152, (4.366, 4.366, 4.958, 90, 90, 120), [
        ("Se", (0.225, 0, 1 / 3)), ("Se", (0, 0.225, 2 / 3)), ("Se", (0.775, 0.775, 0))]),
    "rhombohedral": (160, (4.293, 4.293, 4.293, 58.02, 58.02, 58.02), [
        ("Ge", (0.2371,) * 3), ("Te", (0.7629,) * 3)]),
    "hexagonal": (194, (2.95, 2.95, 4.68, 90, 90, 120), [
        ("Ti", (1 / 3, 2 / 3, 0.25)), ("Ti", (2 / 3, 1 / 3, 0.75))]),
    "cubic": (225, (4.47, 4.47, 4.47, 90, 90, 90), [
        *(("Nb", xyz) for xyz in ((0, 0, 0), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5))),
        *(("C", xyz) for xyz in ((0.5, 0.5, 0.5), (0, 0, 0.5), (0, 0.5, 0), (0.5, 0, 0)))]),
}  # fmt: skip


def phase_of(name) -> Phase:
    number, lattice, atoms = CRYSTALS[name]
    listed = [Atom(kind, xyz, occupancy=0.9, Uisoequiv=0.004) for kind, xyz in atoms]
    return Phase(name, space_group=number, structure=Structure(listed, Lattice(*lattice)))


def table_by_hand(name):
    """Squared structure factors of point atoms with the shape of one Gaussian, by plain sums."""
    _, (a, b, c, *angles), atoms = CRYSTALS[name]
    cosines = np.cos(np.deg2rad(angles))
    metric = np.outer((a, b, c), (a, b, c))
    metric *= np.array([[1, cosines[2], cosines[1]], [cosines[2], 1, cosines[0]],
                        [cosines[1], cosines[0], 1]])  # fmt: skip
    index = np.arange(-3, 4)
    hkl = np.stack(np.meshgrid(index, index, index, indexing="ij"), -1).reshape(-1, 3)
    length = np.sqrt(np.einsum("ni,ij,nj->n", hkl, np.linalg.inv(metric), hkl))
    kinds = sorted({kind for kind, _ in atoms})
    sums = {
        kind: np.exp(2j * np.pi * hkl @ np.array([x for k, x in atoms if k == kind]).T).sum(1)
        for kind in kinds
    }
    return hkl, length, sums


@pytest.mark.parametrize("name", CRYSTALS)
def test_crystal_is_the_same_after_save_and_load(name, tmp_path):
    before = phase_of(name)
    bundle = ModelBundle("one", PhaseList([before], ids=[0]), Acquisition(200))
    table = get_reflections([before])
    for _ in range(3):  # and again, and again
        bundle.save(tmp_path / "a.nas", overwrite=True)
        loaded = ModelBundle.load(tmp_path / "a.nas")
        assert loaded.hash == bundle.hash
        bundle = loaded
    after = get_reflections(bundle.phases)
    np.testing.assert_array_equal(after.hkl, table.hkl)
    np.testing.assert_allclose(after.vectors, table.vectors, atol=1e-8)
    np.testing.assert_allclose(after.intensities, table.intensities, rtol=1e-6)
    np.testing.assert_allclose(
        laue_operations(bundle.phases[0]), laue_operations(before), atol=1e-6
    )
    atom = bundle.phases[0].structure[0]
    assert (atom.occupancy, round(float(atom.Uisoequiv), 6)) == (0.9, 0.004)


@pytest.mark.parametrize("name", CRYSTALS)
def test_intensities_are_those_of_the_coordinates_by_hand(name, tmp_path):
    ModelBundle("one", PhaseList([phase_of(name)], ids=[0]), Acquisition(200)).save(
        tmp_path / "a.nas"
    )
    table = get_reflections(ModelBundle.load(tmp_path / "a.nas").phases, minimum_intensity=0)
    known = dict(zip(map(tuple, table.hkl.tolist()), range(len(table.hkl)), strict=True))
    hkl, length, sums = table_by_hand(name)
    rows = [i for i in range(len(hkl)) if 0 < length[i] < 1.8]
    values = [*table.intensities, 0.0]  # 0 where a glide or a centring extinguishes
    found = np.array([values[known.get(tuple(hkl[i].tolist()), -1)] for i in rows])
    # atomic factors depend on the length alone: within a ring they drop out of the comparison
    from diffsims.utils.sim_utils import get_atomic_scattering_factors, get_scattering_params_dict

    parameters = get_scattering_params_dict("lobato")
    g2 = length[rows] ** 2
    total = sum(
        get_atomic_scattering_factors(g2, np.array(parameters[kind])[None], "lobato").ravel()
        * part[rows]
        for kind, part in sums.items()
    )
    b = 8 * np.pi**2 * 0.004
    expected = np.abs(0.9 * total * np.exp(-b * g2 / 4)) ** 2
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def as_older_schema(path, phase, target, n_saves=1):
    """Write a bundle as schema 3 did: the coordinates that orix' structure shows."""
    for _ in range(n_saves - 1):  # loaded and saved once more, each time turned once more
        atoms = [Atom(a.element, a.xyz, occupancy=a.occupancy) for a in phase.structure]
        lattice = Lattice(*phase.structure.lattice.abcABG())
        phase = Phase(phase.name, phase.space_group.number, structure=Structure(atoms, lattice))
    with zipfile.ZipFile(path) as archive:
        header = json.loads(archive.read("bundle.json"))
    header["schema_version"] = 3
    header["phases"][0]["atoms"] = [
        [a.element, *map(float, a.xyz), float(a.occupancy)] for a in phase.structure
    ]
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("bundle.json", json.dumps(header))


@pytest.mark.parametrize("n_saves", [1, 2, 3])
@pytest.mark.parametrize("name", ["cubic", "orthorhombic", "tetragonal", "hexagonal"])
def test_older_bundles_are_read_right(name, n_saves, tmp_path):
    phase = phase_of(name)
    for atom in phase.structure:
        atom.Uisoequiv = 0.0  # which they did not keep
    ModelBundle("one", PhaseList([phase], ids=[0]), Acquisition(200)).save(tmp_path / "a.nas")
    as_older_schema(tmp_path / "a.nas", phase, tmp_path / "b.nas", n_saves)
    if name == "hexagonal":
        with pytest.warns(UserWarning, match="turned back"):
            loaded = ModelBundle.load(tmp_path / "b.nas")
    else:
        loaded = ModelBundle.load(tmp_path / "b.nas")
    before, after = get_reflections([phase]), get_reflections(loaded.phases)
    np.testing.assert_array_equal(after.hkl, before.hkl)
    np.testing.assert_allclose(after.intensities, before.intensities, rtol=1e-6)


@pytest.mark.parametrize("name", ["triclinic", "monoclinic", "trigonal"])
def test_older_bundles_that_do_not_tell_are_refused_with_the_way_out(name, tmp_path):
    phase = phase_of(name)
    ModelBundle("one", PhaseList([phase], ids=[0]), Acquisition(200)).save(tmp_path / "a.nas")
    as_older_schema(tmp_path / "a.nas", phase, tmp_path / "b.nas")
    with pytest.raises(BundleError, match="make it again from the CIF files"):
        ModelBundle.load(tmp_path / "b.nas")


def test_older_cells_of_axes_that_the_crystal_has_not_are_refused():
    fields = {"directions": [[0.0, 0.0, 1.0]], "n_inplane": 90}
    odd = Phase("odd", space_group=151, structure=Structure(lattice=Lattice(5, 5, 6, 90, 90, 120)))
    assert cells_from_dict(fields, odd, 4).group == "32"
    with pytest.raises(BundleError, match="symmetry axes that the crystal has not"):
        cells_from_dict(fields, odd, 3)
