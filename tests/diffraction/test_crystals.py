"""The one way in: crystals as the field writes them."""

import json

import gemmi
import numpy as np
import pytest
from conftest import SHARED
from diffpy.structure import Atom, Lattice, Structure
from orix.crystal_map import Phase, PhaseList

from pyxem_nas import Acquisition, ModelBundle, read_phases
from pyxem_nas.diffraction import (
    check_phase,
    get_reflections,
    get_unit_cell,
    laue_operations,
    matrices_to_quaternions,
    name_laue_group,
    quaternions_to_matrices,
)
from pyxem_nas.diffraction.cif import parse_formula
from pyxem_nas.diffraction.space_groups import find_setting
from pyxem_nas.diffraction.unit_cell import parse_element

CRYSTALS = SHARED / "crystals"


def cif(cell, sites, *, name="P 1", operators=(), extra="", head=("label", "type_symbol")):
    """Return the text of a CIF file; a site is what stands on its line."""
    tags = ["length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma"]
    lines = ["data_x", *(f"_cell_{tag} {value}" for tag, value in zip(tags, cell, strict=True))]
    lines += [f"_space_group_name_H-M_alt '{name}'"] if name else []
    lines += [extra] if extra else []
    if operators:
        lines += ["loop_", "_space_group_symop_operation_xyz", *(f"'{o}'" for o in operators)]
    lines += ["loop_", *(f"_atom_site_{tag}" for tag in head)]
    lines += [f"_atom_site_fract_{axis}" for axis in "xyz"]
    lines += [*(["_atom_site_occupancy"] if len(sites[0].split()) > len(head) + 3 else []), *sites]
    return "\n".join(lines) + "\n"


@pytest.fixture
def read(tmp_path):
    """Return a function that reads the text of a CIF file."""

    def function(text, name="crystal"):
        (tmp_path / f"{name}.cif").write_text(text)
        return read_phases(tmp_path / f"{name}.cif")[0]

    return function


def composition(phase):
    cell = get_unit_cell(phase)
    pairs = list(zip(cell.elements, cell.occupancy, strict=True))
    return {
        element: round(sum(n for e, n in pairs if e == element), 4)
        for element in sorted(set(cell.elements))
    }


CUBE = (4.0, 4.0, 4.0, 90, 90, 90)
MAGNETITE = (8.396, 8.396, 8.396, 90, 90, 90)


# ----------------------------------------------------------------- the twelve crystals


def _examples():
    if not (CRYSTALS / "reference.npz").exists():
        return []
    with np.load(CRYSTALS / "reference.npz") as reference:
        return list(enumerate(json.loads(str(reference["meta"]))))


def _frames_between(known, phase, reflections):
    """Rotations from the reference's frame to the phase's, by lattice metric and intensities."""
    table = get_reflections([phase], reciprocal_radius=1.6)
    strongest = np.argsort(-reflections[1])[:60]
    g, intensity = reflections[0][strongest], reflections[1][strongest]
    a = g[0]
    b = next(v for v in g[1:] if np.linalg.norm(np.cross(a, v)) > 0.2 * np.linalg.norm(a) ** 2)
    lengths = np.linalg.norm(table.vectors, axis=1)
    best = []
    for u in table.vectors[np.abs(lengths - np.linalg.norm(a)) < 2e-3]:
        near = np.abs(lengths - np.linalg.norm(b)) < 2e-3
        for v in table.vectors[near]:
            if abs(u @ v - a @ b) > 5e-3:
                continue
            one = np.stack([a, b, np.cross(a, b)], axis=1)
            other = np.stack([u, v, np.cross(u, v)], axis=1)
            left, _, right = np.linalg.svd(other @ np.linalg.inv(one))
            rotation = left @ right
            images = g @ rotation.T
            distance = np.linalg.norm(images[:, None] - table.vectors, axis=2)
            if distance.min(axis=1).max() < 5e-3:
                found = table.intensities[distance.argmin(axis=1)]
                best.append((np.corrcoef(found, intensity)[0, 1], rotation))
    return best


@pytest.mark.skipif(not _examples(), reason="the shared crystals are not here")
@pytest.mark.filterwarnings("ignore:.*(rhombohedral axes|conventional cell)")
@pytest.mark.parametrize(
    ("index", "meta"), _examples(), ids=lambda m: m["name"] if isinstance(m, dict) else ""
)
def test_crystals_of_the_field_are_right_or_refused(index, meta):
    try:
        phase = read_phases(CRYSTALS / meta["file"])[0]
    except ValueError as error:
        assert meta["expect"] == "right or refused"
        assert meta["file"] in str(error)
        return
    with np.load(CRYSTALS / "reference.npz") as reference:
        known = reference[f"laue{index}"]
        reflections = reference[f"g{index}"], reference[f"i{index}"]
    n_cells = len(phase.structure) / meta["n_atoms"]
    assert n_cells == round(n_cells)
    wanted = {element: n * n_cells for element, n in meta["composition"].items()}
    assert composition(phase) == pytest.approx(wanted)
    assert phase.space_group.number == int(meta["group"].split()[-1])
    operations = quaternions_to_matrices(laue_operations(phase))
    assert len(operations) == meta["laue"] == len(known)
    frames = _frames_between(known, phase, reflections)
    correlation, rotation = max(frames, key=lambda frame: frame[0])
    assert correlation > 0.99
    if n_cells == 1:  # the same cell: the same frame, up to its own symmetry
        angle = matrices_to_quaternions(rotation[None] @ np.eye(3))
        assert np.abs(laue_operations(phase) @ angle[0]).max() > 1 - 1e-5
    turned = rotation @ known @ rotation.T
    near = np.abs(turned[:, None] - operations).max(axis=(-1, -2)) < 2e-3
    assert near.any(axis=1).all()


# ------------------------------------------------------------------------- elements


@pytest.mark.parametrize(
    ("label", "kind", "element"),
    [
        ("Fe1", "Fe3+", "Fe"), ("O1", "O2-", "O"), ("D1", "D", "H"), ("Fe", "FE", "Fe"),
        ("FeA", "?", "Fe"), ("SiT", ".", "Si"), ("Wat", "?", "O"), ("OH1", "?", "O"),
        ("Oc", "?", "O"), ("MgM2", "?", "Mg"), ("Al", "27Al", "Al"), ("X1", "Cval", "C"),
    ],
)  # fmt: skip
def test_element_is_found_in_type_or_label(read, label, kind, element):
    phase = read(cif(CUBE, [f"{label} {kind} 0 0 0", "W2 W 0.5 0.5 0.5"]))
    assert composition(phase) == {element: 1.0, "W": 1.0}


@pytest.mark.parametrize(
    ("label", "kind", "says"),
    [("M1", "?", "no element"), ("X1", "Xx", "no element"), ("CA", "?", "Ca or C"),
     ("Va1", "?", "no element"), ("T1", "?", "no element")],
)  # fmt: skip
def test_site_of_no_known_element_is_refused_by_its_label(read, label, kind, says):
    with pytest.raises(ValueError, match=rf"crystal\.cif.*{label}.*{says}.*_atom_site_type_symbol"):
        read(cif(CUBE, [f"{label} {kind} 0 0 0"]))


def test_sum_formula_decides_between_elements(read):
    text = cif(CUBE, ["CA ? 0 0 0", "Os1 ? 0.5 0.5 0.5"], extra="_chemical_formula_sum 'Ca O'")
    assert composition(read(text)) == {"Ca": 1.0, "O": 1.0}


def test_elements_of_phases_are_read_without_charge():
    assert parse_element("Fe3+") == "Fe"
    atoms = [Atom("Fe3+", (0, 0, 0)), Atom("Fe3+", (0.5, 0.5, 0.5))]
    charged = Phase("iron", space_group=229, structure=Structure(atoms, Lattice(*CUBE)))
    plain = charged.deepcopy()
    for atom in plain.structure:
        atom.element = "Fe"
    found, expected = get_reflections([charged]), get_reflections([plain])
    np.testing.assert_array_equal(found.intensities, expected.intensities)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Fe3 O4", {"Fe": 3, "O": 4}), ("(Mg1.8 Fe.2) Si O4", {"Mg": 1.8, "Fe": 0.2, "Si": 1, "O": 4}),
     ("Ca(OH)2", {"Ca": 1, "O": 2, "H": 2}), ("D2 O", {"H": 2, "O": 1}), ("?", {}), ("Fe-O", {})],
)  # fmt: skip
def test_sum_formulas_are_understood(text, expected):
    assert parse_formula(text) == pytest.approx(expected)


# ----------------------------------------------------------------- settings and operators


@pytest.mark.parametrize(
    ("name", "number", "hall"),
    [("P 21/n", 14, "-P 2yn"), ("P b n m", 62, "-P 2c 2ab"), ("F d -3 m :2", 227, "-F 4vw 2vw 3"),
     ("F d -3 m S", 227, "F 4d 2 3 -1d"), ("Fd-3mZ", 227, "-F 4vw 2vw 3"),
     ("I 41/a m d :2", 141, "-I 4bd 2"), ("P 6(3)/m m c", 194, "-P 6c 2c"),
     ("P2_1/c", 14, "-P 2ybc"), ("P6_3/mmc", 194, "-P 6c 2c"), ("Pnma", 62, "-P 2ac 2n"),
     ("R -3 m H", 166, '-R 3 2"'), ("C 2/c", 15, "-C 2yc"), ("I 2/a", 15, "-I 2ya")],
)  # fmt: skip
def test_names_state_their_setting(name, number, hall):
    gamma = 120 if number > 142 and number < 195 else 90
    setting = find_setting(name, np.array([5.0, 5, 9, 90, 90, gamma]))
    assert (setting.number, setting.hall) == (number, hall)


@pytest.mark.parametrize("hm", ["P 1 21/n 1", "P b n m", "P 1 1 21/b", "C 1 2/c 1", "A 1 2/n 1",
                                "P n a m", "P c a b", "I 1 2/a 1"])  # fmt: skip
@pytest.mark.parametrize("how", ["operators", "name", "Hall"])
def test_odd_settings_are_read_as_they_are(read, hm, how):
    setting = gemmi.find_spacegroup_by_name(hm)
    c_axis = setting.monoclinic_unique_axis() == "c"
    angles = (90, 90, 108) if c_axis else (90, 108 if setting.number < 16 else 90, 90)
    operators = [op.triplet() for op in setting.operations()] if how == "operators" else ()
    text = cif(
        (5.1, 6.3, 7.2, *angles),
        ["Fe1 Fe 0.13 0.06 0.11", "O1 O 0.29 0.17 0.42"],
        name={"operators": "", "name": hm, "Hall": ""}[how],
        operators=operators,
        extra=f"_space_group_name_Hall '{setting.hall}'" if how == "Hall" else "",
    )
    phase = read(text)
    expected = {
        tuple(np.round(np.array(op.apply_to_xyz(xyz)) % 1, 5) % 1)
        for op in setting.operations()
        for xyz in ((0.13, 0.06, 0.11), (0.29, 0.17, 0.42))
    }
    found = {tuple(xyz) for xyz in get_unit_cell(phase).positions.round(5) % 1}
    assert found == expected
    assert phase.space_group.number == setting.number
    assert phase.structure.lattice.abcABG() == pytest.approx((5.1, 6.3, 7.2, *angles))


@pytest.mark.parametrize(
    ("name", "extra", "says"),
    [("F d -3 m", "", "two origins"),
     ("F m -3 m", "_space_group_IT_number 216", "is that of group 225, its number 216"),
     ("", "", "states no space group"),
     ("", "_space_group_IT_number 62", "62 has 6 settings"),
     ("Q 4 2 1", "", "'Q 4 2 1' of its space group is not known")],
)  # fmt: skip
def test_setting_that_is_not_stated_is_refused(read, name, extra, says):
    with pytest.raises(ValueError, match=f"lists no operators.*{says}.*symop_operation_xyz"):
        read(cif(CUBE, ["C1 C 0 0 0"], name=name, extra=extra))


def test_number_with_one_setting_is_enough(read):
    phase = read(cif(CUBE, ["Cu1 Cu 0 0 0"], name="", extra="_symmetry_Int_Tables_number 225"))
    assert len(phase.structure) == 4


def test_operators_win_over_the_name_and_it_is_said(read):
    pnma = [op.triplet() for op in gemmi.find_spacegroup_by_name("P n m a").operations()]
    text = cif((5, 6, 7, 90, 90, 90), ["Fe1 Fe 0.11 0.07 0.23"], name="P b c a", operators=pnma)
    with pytest.warns(UserWarning, match="those of 'P n m a', its name says 'P b c a'"):
        assert read(text).space_group.number == 62


def test_identity_beside_a_cubic_name_is_not_taken_for_p1(read):
    sites = ["Na1 Na 0 0 0", "Cl1 Cl 0.5 0.5 0.5"]
    with pytest.warns(UserWarning, match="'x,y,z' alone beside the name 'F m -3 m'"):
        phase = read(cif((5.64,) * 3 + (90,) * 3, sites, name="F m -3 m", operators=["x,y,z"]))
    assert composition(phase) == {"Cl": 4.0, "Na": 4.0}
    faces = ((0, 0, 0), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5))
    sites = [f"Cu{i} Cu {x} {y} {z}" for i, (x, y, z) in enumerate(faces)]
    whole = read(cif((3.61,) * 3 + (90,) * 3, sites, name="F m -3 m", operators=["x,y,z"]), "b")
    assert composition(whole) == {"Cu": 4.0}  # the file lists them all: nothing is added


def test_operators_that_cannot_be_are_refused(read):
    hexagonal = [op.triplet() for op in gemmi.find_spacegroup_by_name("P 63/m m c").operations()]
    with pytest.raises(ValueError, match="does not fit the cell"):
        read(cif(CUBE, ["Ti1 Ti 0.33 0.67 0.25"], name="", operators=hexagonal))
    with pytest.raises(ValueError, match="operators are no group"):
        read(cif(CUBE, ["Ti1 Ti 0.1 0.2 0.3"], name="", operators=["x,y,z", "-y,x,z"]))
    with pytest.raises(ValueError, match="operator 'x,y,q' cannot be read"):
        read(cif(CUBE, ["Ti1 Ti 0.1 0.2 0.3"], name="", operators=["x,y,q"]))


# ----------------------------------------------------------------- sites and numbers


@pytest.mark.parametrize("third", ["0.333", "0.3333", "0.33333", "0.3333333"])
def test_special_positions_with_few_digits_count_once(read, third):
    two = f"{1 - float(third):.{len(third) - 2}f}"
    text = cif((2.461, 2.461, 6.708, 90, 90, 120), ["C1 C 0 0 0.25", f"C2 C {third} {two} 0.25"],
               name="P 63/m m c")  # fmt: skip
    phase = read(text)
    assert composition(phase) == {"C": 4.0}
    table = get_reflections([phase])
    ring = np.linalg.norm(table.vectors, axis=1).round(4)
    for length in np.unique(ring)[:12]:
        rows = ring == length
        assert np.ptp(table.intensities[rows]) < 1e-6 * table.intensities.max()


def test_position_that_moves_far_is_told(read):
    with pytest.warns(UserWarning, match="special positions were up to 0.0.. angstrom from them"):
        phase = read(cif((6.0,) * 3 + (90,) * 3, ["Cu1 Cu 0.01 0 0"], name="P m -3 m"))
    assert len(phase.structure) == 1


@pytest.mark.parametrize(
    ("site", "says"),
    [("Na1 Na 4,17 0 0", "site 'Na1', coordinate x: '4,17' is no number, with a decimal comma"),
     ("Na1 Na ? 0 0", r"site 'Na1', coordinate x: '\?' is no number, it is not stated"),
     ("Na1 Na 0 0 0 1.2", "Na1: an occupancy of 1.2"),
     ("Na1 Na 0 0 0 -0.2", "Na1: an occupancy of -0.2")],
)  # fmt: skip
def test_numbers_that_are_none_are_refused_by_their_site(read, site, says):
    with pytest.raises(ValueError, match=says):
        read(cif(CUBE, [site]))


def test_cells_that_are_none_are_refused(read):
    for cell in ((4, 4, "4,0", 90, 90, 90), (4, 4, 0, 90, 90, 90), (4, 4, 4, 90, 90, 200),
                 (4, 4, 4, 150, 150, 150), (4, 4, "?", 90, 90, 90)):  # fmt: skip
        with pytest.raises(ValueError, match=r"crystal\.cif.*(_cell_|no crystal has the cell)"):
            read(cif(cell, ["Na1 Na 0 0 0"]))


def test_atoms_too_near_are_refused_by_their_labels(read):
    with pytest.raises(ValueError, match="Si1 and O1 are 0.400 angstrom apart"):
        read(cif(CUBE, ["Si1 Si 0 0 0", "O1 O 0.1 0 0"]))
    # the two halves of a disordered atom are never both there
    phase = read(cif(CUBE, ["O1 O 0 0 0 0.5", "O2 O 0.1 0 0 0.5", "W1 W .5 .5 .5 1"]), "b")
    assert composition(phase) == {"O": 1.0, "W": 1.0}


def test_atoms_listed_twice_are_refused(read):
    with pytest.raises(ValueError, match="Cu1, Cu2: atoms in one place.*occupancy of 2.00"):
        read(cif(CUBE, ["Cu1 Cu 0 0 0", "Cu2 Cu 0.5 0.5 0"], name="F m -3 m"))


def test_mixed_site_keeps_its_shares(read):
    phase = read(cif((3.59,) * 3 + (90,) * 3, ["Fe1 Fe 0 0 0 0.7", "Ni1 Ni 0 0 0 0.3"],
                     name="F m -3 m"))  # fmt: skip
    assert composition(phase) == {"Fe": 2.8, "Ni": 1.2}
    assert name_laue_group(laue_operations(phase)) == "m-3m"
    pure = {
        e: read(cif((3.59,) * 3 + (90,) * 3, [f"{e}1 {e} 0 0 0 1"], name="F m -3 m"), e)
        for e in ("Fe", "Ni")
    }
    first = {k: np.sqrt(get_reflections([p]).intensities[0]) for k, p in pure.items()}
    mixed = np.sqrt(get_reflections([phase]).intensities[0])
    assert mixed == pytest.approx(0.7 * first["Fe"] + 0.3 * first["Ni"])


def test_displacement_damps_reflections_as_it_should(read):
    sharp = cif((3.61,) * 3 + (90,) * 3, ["Cu1 Cu 0 0 0 0.55"], name="F m -3 m",
                head=("label", "type_symbol"))  # fmt: skip
    b = sharp.replace("_atom_site_occupancy", "_atom_site_B_iso_or_equiv")
    still = get_reflections([read(sharp.replace("0.55", "1.0"))])
    moving = get_reflections([read(b, "b")])
    length = np.linalg.norm(still.vectors, axis=1)
    np.testing.assert_allclose(
        moving.intensities / still.intensities, np.exp(-0.55 * length**2 / 2), rtol=1e-6
    )


def test_composition_that_the_sites_do_not_have_is_refused(read):
    sites = ["FeA Fe 0.125 0.125 0.125", "FeB Fe 0.5 0.5 0.5", "O1 O 0.2549 0.2549 0.2549"]
    formula = "_chemical_formula_sum 'Fe3 O4'"
    whole = read(cif(MAGNETITE, sites, name="F d -3 m :2", extra=formula))
    assert composition(whole) == {"Fe": 24.0, "O": 32.0}
    with pytest.raises(ValueError, match="make Fe8 O32 in the cell, its sum formula is Fe3 O4"):
        read(cif(MAGNETITE, [sites[0], sites[2]], name="F d -3 m :2", extra=formula))
    with pytest.raises(ValueError, match="element Al"):
        read(cif(MAGNETITE, sites, name="F d -3 m :2", extra="_chemical_formula_sum 'Fe2 Al O4'"))


def test_doubtful_statements_warn(read):
    sites = ["Cu1 Cu 0 0 0"]
    with pytest.warns(UserWarning, match="holds 4 formula units, it states 8"):
        read(cif((3.61,) * 3 + (90,) * 3, sites, name="F m -3 m",
                 extra="_chemical_formula_sum Cu\n_cell_formula_units_Z 8"))  # fmt: skip
    with pytest.warns(UserWarning, match="has hydrogen, its sites have none"):
        read(cif(CUBE, ["O1 O 0 0 0", "W1 W .5 .5 .5"], extra="_chemical_formula_sum 'H W O'"))


def test_density_that_no_crystal_has_is_refused(read):
    with pytest.raises(ValueError, match="density of .* g/cm.3, which no crystal has"):
        read(cif((30, 30, 30, 90, 90, 90), ["H1 H 0 0 0"]))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_letters_and_line_ends_of_other_systems_are_read(tmp_path, encoding, end):
    text = cif(CUBE, ["Cu1 Cu 0 0 0"], extra="_audit_author_name 'R\u00f6ntgen'", name="P m -3 m")
    text = "\n".join(line.upper() if line[0] == "_" else line for line in text.splitlines())
    (tmp_path / "a.cif").write_bytes(text.replace("\n", end).encode(encoding))
    assert composition(read_phases(tmp_path / "a.cif")[0]) == {"Cu": 1.0}


def test_several_crystals_in_one_file_are_refused_by_name(read):
    one = cif(CUBE, ["Cu1 Cu 0 0 0"])
    with pytest.raises(ValueError, match=r"holds 2 crystals, the data blocks \['x', 'y'\]"):
        read(one + one.replace("data_x", "data_y"))
    phase = read("data_global\n_audit_author_name 'R\u00f6ntgen'\n" + one, "b")  # text alone
    assert composition(phase) == {"Cu": 1.0}


def test_files_that_are_no_crystals_are_refused(tmp_path, capfd):
    for content in (b"", b"not a cif", b"data_x\n_cell_length_a 4\n", b"\x00\xff" * 40):
        (tmp_path / "a.cif").write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.cif.*cannot be read as a CIF file"):
            read_phases(tmp_path / "a.cif")
    assert capfd.readouterr() == ("", "")
    with pytest.raises(FileNotFoundError, match="none.cif"):
        read_phases(tmp_path / "none.cif")
    with pytest.raises(ValueError, match="at least one"):
        read_phases()


# ------------------------------------------------------------------ conventional cells


@pytest.mark.parametrize(("kind", "angle", "ratio", "n"), [
    ("fcc", 60.0, np.sqrt(2), 4), ("bcc", 109.471221, 2 / np.sqrt(3), 2)])  # fmt: skip
def test_primitive_cubic_cell_becomes_the_conventional_one(read, kind, angle, ratio, n):
    a = 3.6
    side = a / ratio
    with pytest.warns(UserWarning, match="written in P 1.*conventional cell"):
        phase = read(cif((f"{side:.5f}",) * 3 + (angle,) * 3, ["Cu1 Cu 0 0 0"]))
    assert phase.structure.lattice.abcABG() == pytest.approx((a, a, a, 90, 90, 90), rel=1e-4)
    assert len(phase.structure) == n
    assert name_laue_group(laue_operations(phase)) == "m-3m"


def test_triclinic_cell_without_hidden_symmetry_stays(read):
    phase = read(cif((5.1, 6.3, 7.2, 81, 97, 104), ["Fe1 Fe 0.1 0.2 0.3", "O1 O 0.4 0.6 0.7"]))
    assert phase.structure.lattice.abcABG() == pytest.approx((5.1, 6.3, 7.2, 81, 97, 104))


@pytest.mark.parametrize("angle", [58.02, 74.3, 96.5])
def test_rhombohedral_cell_becomes_hexagonal(read, angle):
    with pytest.warns(UserWarning, match="rhombohedral axes are turned into hexagonal"):
        phase = read(cif((5.0,) * 3 + (angle,) * 3,
                         ["Ge1 Ge .2371 .2371 .2371", "Te1 Te .7629 .7629 .7629"],
                         name="R 3 m :R"))  # fmt: skip
    a, b, c, *angles = phase.structure.lattice.abcABG()
    assert angles == pytest.approx((90, 90, 120))
    assert a == pytest.approx(10 * np.sin(np.deg2rad(angle / 2)))
    assert c == pytest.approx(5 * np.sqrt(3 + 6 * np.cos(np.deg2rad(angle))))
    assert composition(phase) == {"Ge": 3.0, "Te": 3.0}
    assert len(laue_operations(phase)) == 6


# ------------------------------------------------------------- phases that users make


def bcc(group=229, second=True, element="Fe", a=2.87):
    atoms = [Atom(element, (0, 0, 0))] + [Atom(element, (0.5, 0.5, 0.5))] * second
    return Phase(
        "mine", space_group=group, structure=Structure(atoms, Lattice(a, a, a, 90, 90, 90))
    )


def test_phases_that_users_make_are_checked_where_they_enter():
    acquisition = Acquisition(200)
    assert ModelBundle.from_phases(PhaseList(bcc()), acquisition).phase_names == ["mine"]
    for phase, says in (
        (bcc(second=False), "its space group is 229 .*its atoms have 221 .*expand_asymmetric_unit"),
        (bcc(element="Vac"), "'mine', atom 0: 'Vac' is no element"),
        (bcc(a=0.7), "are 0.606 angstrom apart"),
        (Phase("mine", space_group=225), "has no atoms.*read_phases"),
    ):
        with pytest.raises(ValueError, match=f"mine.*{says}" if "mine" not in says else says):
            ModelBundle.from_phases(PhaseList(phase), acquisition)


def test_phase_of_more_symmetry_than_it_states_warns():
    with pytest.warns(UserWarning, match="space group is 16 .*atoms have 229"):
        check_phase(bcc(group=16))
