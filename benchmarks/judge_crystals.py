"""The crystals that the universal judge is fitted to: real ones and random ones of all systems.

None of them is ferrite, NbC, cementite or silver, by which it is judged. Positions are those of
textbooks and of the databases that they cite, to a few digits: what is wanted are crystals that can
be, not structures to the last digit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import gemmi
import numpy as np

if TYPE_CHECKING:
    from orix.crystal_map import Phase

_THIRD, _TWO = 1 / 3, 2 / 3
# name: Hermann-Mauguin symbol, cell, atoms (element, x, y, z) of the asymmetric unit
REAL = {
    "Al": ("F m -3 m", (4.0495,), [("Al", 0, 0, 0)]),
    "Cu": ("F m -3 m", (3.6149,), [("Cu", 0, 0, 0)]),
    "Au": ("F m -3 m", (4.0786,), [("Au", 0, 0, 0)]),
    "W": ("I m -3 m", (3.1652,), [("W", 0, 0, 0)]),
    "V": ("I m -3 m", (3.024,), [("V", 0, 0, 0)]),
    "Ni": ("F m -3 m", (3.524,), [("Ni", 0, 0, 0)]),
    "Pt": ("F m -3 m", (3.924,), [("Pt", 0, 0, 0)]),
    "Mo": ("I m -3 m", (3.147,), [("Mo", 0, 0, 0)]),
    "Nb": ("I m -3 m", (3.301,), [("Nb", 0, 0, 0)]),
    "Ta": ("I m -3 m", (3.303,), [("Ta", 0, 0, 0)]),
    "diamond": ("F d -3 m:1", (3.567,), [("C", 0, 0, 0)]),
    "NaCl": ("F m -3 m", (5.64,), [("Na", 0, 0, 0), ("Cl", 0.5, 0.5, 0.5)]),
    "Si": ("F d -3 m:1", (5.431,), [("Si", 0, 0, 0)]),
    "GaAs": ("F -4 3 m", (5.653,), [("Ga", 0, 0, 0), ("As", 0.25, 0.25, 0.25)]),
    "MgO": ("F m -3 m", (4.212,), [("Mg", 0, 0, 0), ("O", 0.5, 0.5, 0.5)]),
    "TiN": ("F m -3 m", (4.242,), [("Ti", 0, 0, 0), ("N", 0.5, 0.5, 0.5)]),
    "CsCl": ("P m -3 m", (4.123,), [("Cs", 0, 0, 0), ("Cl", 0.5, 0.5, 0.5)]),
    "SrTiO3": (
        "P m -3 m",
        (3.905,),
        [("Sr", 0, 0, 0), ("Ti", 0.5, 0.5, 0.5), ("O", 0.5, 0.5, 0)],
    ),
    "CaF2": ("F m -3 m", (5.463,), [("Ca", 0, 0, 0), ("F", 0.25, 0.25, 0.25)]),
    "FeS2": ("P a -3", (5.418,), [("Fe", 0, 0, 0), ("S", 0.385, 0.385, 0.385)]),
    "MgAl2O4": (
        "F d -3 m:2",
        (8.083,),
        [("Mg", 0.125, 0.125, 0.125), ("Al", 0.5, 0.5, 0.5), ("O", 0.2624, 0.2624, 0.2624)],
    ),
    "Cr3Si": ("P m -3 n", (4.556,), [("Si", 0, 0, 0), ("Cr", 0.25, 0, 0.5)]),
    "FeSi": ("P 21 3", (4.488,), [("Fe", 0.137, 0.137, 0.137), ("Si", 0.842, 0.842, 0.842)]),
    "Mg": ("P 63/m m c", (3.2094, 5.2105), [("Mg", _THIRD, _TWO, 0.25)]),
    "Co": ("P 63/m m c", (2.507, 4.069), [("Co", _THIRD, _TWO, 0.25)]),
    "Zn": ("P 63/m m c", (2.665, 4.947), [("Zn", _THIRD, _TWO, 0.25)]),
    "Zr": ("P 63/m m c", (3.232, 5.147), [("Zr", _THIRD, _TWO, 0.25)]),
    "ZnO": ("P 63 m c", (3.2498, 5.2066), [("Zn", _THIRD, _TWO, 0), ("O", _THIRD, _TWO, 0.382)]),
    "graphite": ("P 63/m m c", (2.464, 6.711), [("C", 0, 0, 0.25), ("C", _THIRD, _TWO, 0.25)]),
    "MoS2": (
        "P 63/m m c",
        (3.161, 12.295),
        [("Mo", _THIRD, _TWO, 0.25), ("S", _THIRD, _TWO, 0.621)],
    ),
    "AlB2": ("P 6/m m m", (3.005, 3.257), [("Al", 0, 0, 0), ("B", _THIRD, _TWO, 0.5)]),
    "WC": ("P -6 m 2", (2.906, 2.837), [("W", 0, 0, 0), ("C", _THIRD, _TWO, 0.5)]),
    "Al2O3": ("R -3 c:H", (4.759, 12.991), [("Al", 0, 0, 0.352), ("O", 0.306, 0, 0.25)]),
    "calcite": (
        "R -3 c:H",
        (4.99, 17.06),
        [("Ca", 0, 0, 0), ("C", 0, 0, 0.25), ("O", 0.257, 0, 0.25)],
    ),
    "quartz": (
        "P 32 2 1",
        (4.913, 5.405),
        [("Si", 0.4697, 0, _TWO), ("O", 0.4133, 0.2672, 0.7855)],
    ),
    "Bi": ("R -3 m:H", (4.546, 11.862), [("Bi", 0, 0, 0.234)]),
    "Bi2Te3": (
        "R -3 m:H",
        (4.383, 30.487),
        [("Bi", 0, 0, 0.4), ("Te", 0, 0, 0), ("Te", 0, 0, 0.212)],
    ),
    "Te": ("P 31 2 1", (4.456, 5.926), [("Te", 0.263, 0, _THIRD)]),
    "CdI2": ("P -3 m 1", (4.24, 6.84), [("Cd", 0, 0, 0), ("I", _THIRD, _TWO, 0.25)]),
    "Sn": ("I 41/a m d:1", (5.831, 3.182), [("Sn", 0, 0, 0)]),
    "rutile": ("P 42/m n m", (4.593, 2.959), [("Ti", 0, 0, 0), ("O", 0.305, 0.305, 0)]),
    "anatase": ("I 41/a m d:1", (3.784, 9.515), [("Ti", 0, 0, 0), ("O", 0, 0, 0.208)]),
    "BaTiO3": (
        "P 4 m m",
        (3.992, 4.036),
        [("Ba", 0, 0, 0), ("Ti", 0.5, 0.5, 0.513), ("O", 0.5, 0.5, 0.975), ("O", 0.5, 0, 0.484)],
    ),
    "Al2Cu": ("I 4/m c m", (6.067, 4.877), [("Cu", 0, 0, 0.25), ("Al", 0.158, 0.658, 0)]),
    "MoSi2": ("I 4/m m m", (3.203, 7.855), [("Mo", 0, 0, 0), ("Si", 0, 0, 0.333)]),
    "TiAl": ("P 4/m m m", (2.83, 4.07), [("Ti", 0, 0, 0), ("Al", 0.5, 0.5, 0.5)]),
    "CuFeS2": (
        "I -4 2 d",
        (5.289, 10.423),
        [("Cu", 0, 0, 0), ("Fe", 0, 0, 0.5), ("S", 0.257, 0.25, 0.125)],
    ),
    "CaWO4": (
        "I 41/a:1",
        (5.243, 11.376),
        [("W", 0, 0, 0), ("Ca", 0, 0, 0.5), ("O", 0.2415, 0.1504, 0.0861)],
    ),
    "U": ("C m c m", (2.854, 5.869, 4.955), [("U", 0, 0.1025, 0.25)]),
    "CaTiO3": (
        "P n m a",
        (5.44, 7.64, 5.38),
        [("Ca", 0.036, 0.25, 0.993), ("Ti", 0, 0, 0.5), ("O", 0.484, 0.25, 0.071),
         ("O", 0.289, 0.037, 0.711)],
    ),
    "forsterite": (
        "P n m a",
        (10.207, 5.98, 4.756),
        [("Mg", 0, 0, 0), ("Mg", 0.2774, 0.25, 0.9915), ("Si", 0.094, 0.25, 0.4262),
         ("O", 0.0913, 0.25, 0.7657), ("O", 0.4474, 0.25, 0.2215), ("O", 0.1633, 0.0331, 0.2777)],
    ),
    "SnS": (
        "P n m a",
        (11.2, 3.987, 4.334),
        [("Sn", 0.118, 0.25, 0.12), ("S", 0.854, 0.25, 0.479)],
    ),
    "barite": (
        "P n m a",
        (8.884, 5.457, 7.157),
        [("Ba", 0.184, 0.25, 0.158), ("S", 0.437, 0.75, 0.19), ("O", 0.587, 0.75, 0.106),
         ("O", 0.317, 0.75, 0.049), ("O", 0.419, 0.974, 0.312)],
    ),
    "Al6Mn": (
        "C m c m",
        (7.555, 6.499, 8.872),
        [("Mn", 0, 0.457, 0.25), ("Al", 0, 0.136, 0.103), ("Al", 0.318, 0, 0),
         ("Al", 0.32, 0.285, 0.25)],
    ),
    "TiSi2": ("F d d d:1", (8.267, 4.8, 8.55), [("Ti", 0, 0, 0), ("Si", 0.336, 0, 0)]),
    "CuO": (
        "C 1 2/c 1",
        (4.684, 3.423, 5.129, 90, 99.54, 90),
        [("Cu", 0.25, 0.25, 0), ("O", 0, 0.4184, 0.25)],
    ),
    "MoO2": (
        "P 1 21/c 1",
        (5.611, 4.856, 5.629, 90, 120.95, 90),
        [("Mo", 0.232, 0.991, 0.017), ("O", 0.11, 0.217, 0.234), ("O", 0.391, 0.701, 0.272)],
    ),
    "VO2": (
        "P 1 21/c 1",
        (5.743, 4.517, 5.375, 90, 122.6, 90),
        [("V", 0.242, 0.975, 0.025), ("O", 0.1, 0.21, 0.2), ("O", 0.39, 0.69, 0.29)],
    ),
    "diopside": (
        "C 1 2/c 1",
        (9.746, 8.899, 5.251, 90, 105.63, 90),
        [("Ca", 0, 0.3015, 0.25), ("Mg", 0, 0.9082, 0.25), ("Si", 0.2862, 0.0933, 0.2293),
         ("O", 0.1156, 0.0873, 0.1422), ("O", 0.3611, 0.25, 0.318), ("O", 0.3505, 0.0176, 0.9953)],
    ),
}  # fmt: skip
#: Space groups of the random crystals.
RANDOM = (
    1, 2, 2, 2, 2, 4, 5, 11, 12, 14, 15, 19, 36, 51, 60, 64, 72, 82, 88, 92, 114, 129, 141,
    147, 148, 155, 160, 166, 173, 176, 186, 189, 198, 205, 216, 217,
)  # fmt: skip
_ELEMENTS = (
    "C", "N", "O", "Mg", "Al", "Si", "S", "Ca", "Ti", "Cr", "Mn", "Ni", "Zn", "Ge", "Zr", "Mo",
    "Sn", "La", "W", "Pb",
)  # fmt: skip
_CLOSEST = 1.6  # angstrom between two atoms of a random crystal


def make_crystals() -> list[Phase]:
    """Return all crystals, the random ones by their space group's number."""
    crystals = []
    for name, (symbol, cell, atoms) in REAL.items():
        group = gemmi.find_spacegroup_by_name(symbol)
        crystals.append(_make_phase(name, group, _complete(cell, group), atoms))
    for k, number in enumerate(RANDOM):
        crystals.append(_draw_crystal(f"random {k}", number, np.random.default_rng((19, k))))
    return crystals


def _complete(cell: tuple[float, ...], group: gemmi.SpaceGroup) -> tuple[float, ...]:
    """Return all six lattice parameters."""
    gamma = 120.0 if group.crystal_system_str() in ("hexagonal", "trigonal") else 90.0
    if len(cell) == 6:
        return cell
    a, b, c = {1: cell * 3, 2: (cell[0], *cell), 3: cell}[len(cell)]
    return (a, b, c, 90.0, 90.0, gamma)


def _make_phase(name, group, cell, atoms) -> Phase:
    """Return a phase with all atoms of its cell."""
    from diffpy.structure import Atom, Lattice, Structure
    from orix.crystal_map import Phase

    operations = group.operations()
    whole = []
    for element, *xyz in atoms:
        images = np.array([operation.apply_to_xyz(xyz) for operation in operations]) % 1.0
        kept: list[np.ndarray] = []
        for image in images:
            gaps = [np.abs((image - other + 0.5) % 1 - 0.5).max() for other in kept]
            if not gaps or min(gaps) > 2e-3:
                kept.append(image)
        whole += [Atom(element, image) for image in kept]
    structure = Structure(whole, Lattice(*cell))
    return Phase(name, space_group=group.number, structure=structure)


def _draw_crystal(name: str, number: int, rng: np.random.Generator) -> Phase:
    """Return a random crystal of a space group: atoms in general places that keep apart."""
    group = gemmi.find_spacegroup_by_number(number)
    if group.crystal_system_str() == "trigonal" and group.hm.startswith("R"):
        group = gemmi.find_spacegroup_by_name(f"{group.hm}:H")
    operations = list(group.operations())
    for _ in range(10_000):
        volume = len(operations) * rng.uniform(14, 28) * rng.integers(1, 3)
        cell = _draw_cell(group.crystal_system_str(), volume, rng)
        n_sites = max(1, round(volume / len(operations) / 18))
        sites = [(str(rng.choice(_ELEMENTS)), *rng.random(3).round(3)) for _ in range(n_sites)]
        images = np.array([op.apply_to_xyz(list(s[1:])) for s in sites for op in operations]) % 1
        if _shortest(images, gemmi.UnitCell(*cell)) > _CLOSEST and max(cell[:3]) < 16:
            return _make_phase(name, group, cell, sites)
    raise RuntimeError(f"found no place for the atoms of {name!r}")


def _draw_cell(system: str, volume: float, rng: np.random.Generator) -> tuple[float, ...]:
    """Return a cell of a crystal system and volume."""
    a, b, c = np.exp(rng.uniform(-0.4, 0.4, 3))
    angles = [90.0, 90.0, 90.0]
    if system in ("tetragonal", "trigonal", "hexagonal"):
        b = a
    if system == "cubic":
        b = c = a
    if system in ("trigonal", "hexagonal"):
        angles[2] = 120.0
    if system == "monoclinic":
        angles[1] = rng.uniform(92, 118)
    if system == "triclinic":
        angles = list(rng.uniform(75, 108, 3))
    factor = (volume / gemmi.UnitCell(a, b, c, *angles).volume) ** (1 / 3)
    return (*(float(x) for x in np.round(factor * np.array([a, b, c]), 3)),
            *(float(x) for x in np.round(angles, 2)))  # fmt: skip


def _shortest(images: np.ndarray, cell: gemmi.UnitCell) -> float:
    """Return the shortest distance between two atoms, images of the neighbouring cells included."""
    base = np.array(cell.orth.mat.tolist())
    gaps = (images[:, None] - images[None] + 0.5) % 1 - 0.5
    lengths = np.linalg.norm(gaps @ base.T, axis=-1)
    np.fill_diagonal(lengths, np.inf)
    return float(min(lengths.min(), *cell.parameters[:3]))
