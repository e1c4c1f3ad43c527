"""The unit cell of a phase as plain arrays.

Owns what the atoms of an orix `Phase` are: elements, and coordinates in the base of the lattice
that the phase has. orix keeps atoms where they are in space when it turns a lattice to x along a
and z along c*, so that the coordinates in its structure belong to the lattice before the turn;
here they are brought to the lattice after it. Which files and atoms may become a phase belongs to
`crystals`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from orix.crystal_map import Phase

#: Atoms that an operation takes nearer than this to another, in angstrom, are on it.
SYMMETRY_TOLERANCE = 0.01
#: Atoms nearer than this in angstrom share a site.
SITE_TOLERANCE = 0.1
_U_TO_B = 8 * np.pi**2


@dataclass(frozen=True)
class CellSymmetry:
    """What spglib finds in a unit cell.

    Parameters
    ----------
    number, name
        Space group: number and international short name.
    primitive_base
        Rows of a primitive base in the frame of the cell, angstrom, shape (3, 3).
    rotations
        Different rotations of the space group in the primitive base, shape (n, 3, 3), int.
    """

    number: int
    name: str
    primitive_base: np.ndarray = field(repr=False)
    rotations: np.ndarray = field(repr=False)


@dataclass(frozen=True, eq=False)
class UnitCell:
    """Atoms of a unit cell and its base.

    Parameters
    ----------
    base
        Rows a, b, c in the crystal's Cartesian frame, x along a and z along c*, angstrom,
        shape (3, 3).
    elements
        Chemical symbols of n atoms, without charge and isotope.
    positions
        Fractional coordinates in that base, shape (n, 3).
    occupancy
        Shape (n,), in 0 to 1.
    displacement
        Isotropic B in angstrom squared, shape (n,); 0 where none is stated.
    """

    base: np.ndarray = field(repr=False)
    elements: tuple[str, ...]
    positions: np.ndarray = field(repr=False)
    occupancy: np.ndarray = field(repr=False)
    displacement: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.elements)

    @cached_property
    def volume(self) -> float:
        """Volume in cubic angstrom."""
        return float(abs(np.linalg.det(self.base)))

    @cached_property
    def distances(self) -> np.ndarray:
        """Distances between atoms and the nearest images of others, angstrom, shape (n, n)."""
        between = self.positions[:, None] - self.positions
        between -= np.rint(between)
        between = between @ self.base
        squares = np.einsum("ijk,ijk->ij", between, between)
        if not np.allclose(self.base, np.diag(np.diag(self.base)), atol=1e-6):
            # in an oblique cell the nearest image need not be that of the smallest coordinates
            for shift in np.ndindex(3, 3, 3):
                t = (np.array(shift) - 1) @ self.base
                image = between + t
                np.minimum(squares, np.einsum("ijk,ijk->ij", image, image), out=squares)
        return np.sqrt(squares)

    @cached_property
    def site_of_atom(self) -> np.ndarray:
        """The first atom on the site of each atom: those in one place share a site, shape (n,)."""
        return (self.distances < SITE_TOLERANCE).argmax(axis=1)

    @cached_property
    def sites(self) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates of m sites, shape (m, 3), and a number for what is on each, shape (m,)."""
        occupancy, displacement = self.occupancy.round(4), self.displacement.round(3)
        kinds = list(zip(self.elements, occupancy, displacement, strict=True))
        first = np.unique(self.site_of_atom)
        contents = [
            tuple(sorted(kinds[i] for i in np.flatnonzero(self.site_of_atom == site)))
            for site in first
        ]
        numbers = {content: k for k, content in enumerate(sorted(set(contents)), start=1)}
        return self.positions[first], np.array([numbers[c] for c in contents], int)

    @cached_property
    def symmetry(self) -> CellSymmetry:
        """Symmetry of the sites.

        Raises
        ------
        ValueError
            If spglib finds no crystal in them.
        """
        return self.find_symmetry(SYMMETRY_TOLERANCE)

    def to_phase(self, name: str, space_group: int, color: str | None = None) -> Phase:
        """Return the orix phase of these atoms, with the same lattice in the same frame."""
        from diffpy.structure import Atom, Lattice, Structure
        from orix.crystal_map import Phase

        lengths = np.linalg.norm(self.base, axis=1)
        unit = self.base / lengths[:, None]
        cosines = [unit[i] @ unit[j] for i, j in ((1, 2), (0, 2), (0, 1))]
        # in diffpy's standard axes, from which orix turns the lattice and leaves the atoms
        lattice = Lattice(*lengths, *np.rad2deg(np.arccos(cosines)).round(10))
        structure = Structure(lattice=lattice)
        rows = zip(self.elements, self.positions, self.occupancy, self.displacement, strict=True)
        for element, xyz, share, b in rows:
            structure.append(Atom(element, xyz, occupancy=float(share), Uisoequiv=b / _U_TO_B))
        return Phase(name, space_group=space_group, structure=structure, color=color)

    def find_symmetry(self, tolerance: float) -> CellSymmetry:
        """Return the symmetry of the sites within a tolerance in angstrom; see `symmetry`."""
        import spglib

        # of the primitive cell: a cell of several would hide operations that do not keep it
        primitive = self._standardize(tolerance, to_primitive=True, no_idealize=True)
        with _spglib_errors(len(self)):
            found = spglib.get_symmetry_dataset(primitive, symprec=tolerance)
        if not found:
            raise ValueError(_NO_SYMMETRY.format(len(self), "it found none"))
        rotations = np.unique(found.rotations, axis=0)
        return CellSymmetry(found.number, found.international, np.array(primitive[0]), rotations)

    def take_conventional(self, tolerance: float) -> UnitCell:
        """Return the conventional cell of the sites' space group, its symmetry made exact."""
        base, positions, numbers = self._standardize(tolerance)
        content: dict[int, list[int]] = {}
        for site, number in zip(np.unique(self.site_of_atom), self.sites[1], strict=True):
            content.setdefault(number, np.flatnonzero(self.site_of_atom == site).tolist())
        rows = [(k, i) for k, number in enumerate(numbers) for i in content[number]]
        owner = [i for _, i in rows]
        return UnitCell(
            np.linalg.cholesky(base @ base.T),  # x along a, z along c*
            tuple(self.elements[i] for i in owner),
            positions[[k for k, _ in rows]],
            self.occupancy[owner],
            self.displacement[owner],
        )

    def _standardize(self, tolerance: float, **options: bool) -> tuple:
        """Return spglib's standard cell: base, positions and numbers of the sites' contents."""
        import spglib

        with _spglib_errors(len(self)):
            found = spglib.standardize_cell((self.base, *self.sites), symprec=tolerance, **options)
        if not found:
            raise ValueError(_NO_SYMMETRY.format(len(self), "it found none"))
        return found


_NO_SYMMETRY = "no symmetry in {} atoms (spglib: {}); are two in one place?"


@contextmanager
def _spglib_errors(n_atoms: int) -> Iterator[None]:
    """Turn spglib's errors into ours, and keep what it says about them by warnings quiet."""
    import spglib

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            yield
        except spglib.SpglibError as error:
            raise ValueError(_NO_SYMMETRY.format(n_atoms, error)) from error


def get_unit_cell(phase: Phase) -> UnitCell:
    """Return the atoms of a phase with their coordinates in the lattice that the phase has.

    Parameters
    ----------
    phase
        Phase with a structure.

    Returns
    -------
    cell
        Kept from call to call for the same atoms.

    Raises
    ------
    ValueError
        If an atom's element is not known; the message names the phase and the atom.

    Notes
    -----
    orix' `Phase` keeps the Cartesian coordinates of atoms and turns the lattice. Where that has
    happened is not to be seen of a phase that was copied or went through a file: there the
    coordinates are taken as those of diffpy's standard orientation (z along c, a in the plane of x
    and z), as diffsims does, unless only the coordinates as they stand have the symmetry of the
    phase's space group.

    Examples
    --------
    >>> from pyxem_nas import example_phases
    >>> cell = get_unit_cell(example_phases("steel")["ferrite"])
    >>> cell.elements, cell.positions.tolist()
    (('Fe', 'Fe'), [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]])
    """
    structure = phase.structure
    elements = []
    for i, atom in enumerate(structure):
        try:
            elements.append(parse_element(atom.element))
        except ValueError as error:
            raise ValueError(f"phase {phase.name!r}, atom {i}: {error}") from None
    lattice = structure.lattice
    before = getattr(phase, "_diffpy_lattice", lattice.base)
    if np.allclose(before, lattice.base, atol=1e-6):
        before = lattice.stdbase
    values = [(atom.occupancy, _U_TO_B * atom.Uisoequiv) for atom in structure]
    group = None if phase.space_group is None else int(phase.space_group.number)
    return _make_cell(
        tuple(elements),
        *(
            np.ascontiguousarray(array, np.float64).tobytes()
            for array in (lattice.base, before, structure.xyz, values)
        ),
        group,
    )


@lru_cache(maxsize=512)
def _make_cell(
    elements: tuple[str, ...], base: bytes, before: bytes, xyz: bytes, values: bytes,
    group: int | None,
) -> UnitCell:  # fmt: skip
    """Return the cell of arrays given as bytes; `before` is the base that the atoms belong to."""
    lattice = np.frombuffer(base).reshape(3, 3)
    standing = np.frombuffer(xyz).reshape(-1, 3)
    occupancy, displacement = np.frombuffer(values).reshape(-1, 2).T.copy()
    turn = lattice @ np.linalg.inv(np.frombuffer(before).reshape(3, 3))
    # rounded, so that a phase which went through a file is the same to the last digit
    turned = UnitCell(lattice, elements, (standing @ turn).round(12), occupancy, displacement)
    if group is None or np.allclose(turn, np.eye(3), atol=1e-9) or _has_group(turned, group):
        return turned
    cell = UnitCell(lattice, elements, standing, occupancy, displacement)
    return cell if _has_group(cell, group) else turned


def _has_group(cell: UnitCell, group: int) -> bool:
    try:
        return cell.symmetry.number == group
    except ValueError:
        return False


# --------------------------------------------------------------------- elements


def parse_element(text: str, *, label: bool = False, among: frozenset[str] = frozenset()) -> str:
    """Return the chemical symbol of an atom's type or, where that says nothing else, of its label.

    Parameters
    ----------
    text
        "Fe3+", "O2-", "D", "56Fe" or, of a label, "FeA", "SiT", "Wat1".
    label
        Whether the text is a label.
    among
        Elements of the crystal, where they are known: they decide whether "CA" is calcium.

    Raises
    ------
    ValueError
        If no element is found, or two that might be meant.

    Examples
    --------
    >>> parse_element("Fe3+"), parse_element("D"), parse_element("OA", label=True)
    ('Fe', 'H', 'O')
    """
    text = str(text).strip()
    found = re.match(r"\d*([A-Za-z]+)", text)
    letters = found.group(1) if found else ""
    exact = re.fullmatch(r"\d*([A-Za-z]{1,2})(\d*\.?\d*[+-]?|[+-]\d*)", text)
    if exact and not label:
        symbol = letters.capitalize()
        if symbol in ("D", "T"):
            return "H"
        if symbol in scattering_tables():
            return symbol
    choices = _elements_of_label(letters)
    choices = [symbol for symbol in choices if symbol in among] or choices
    if letters[1:2].islower():  # "FeA" is iron, "FEA" may be fluorine
        choices = choices[:1]
    if len(choices) != 1:
        raise ValueError(
            f"{text!r} is {' or '.join(choices) or 'no element'}; state the element by its symbol, "
            "in a CIF file as _atom_site_type_symbol"
        )
    return choices[0]


def _elements_of_label(letters: str) -> list[str]:
    """Return the elements that the letters of a label may mean, the likelier first."""
    name = letters.capitalize()
    if name.startswith(("Wat", "Hoh")):
        return ["O"]  # of water, of which the oxygen scatters most
    if name == "D":
        return ["H"]
    if name in ("Va", "Vac", "Vacancy", "Du", "Dum", "Dummy"):
        return []
    choices = dict.fromkeys((name[:2], name[:1]))
    return [symbol for symbol in choices if symbol in scattering_tables()]


@lru_cache(maxsize=1)
def scattering_tables() -> dict[str, Any]:
    """Return the coefficients of the elements' electron scattering factors, neutral atoms.

    References
    ----------
    Lobato, I. & Van Dyck, D. (2014) Acta Cryst. A70, 636, doi:10.1107/S205327331401643X.
    """
    from diffsims.utils.sim_utils import get_scattering_params_dict

    return get_scattering_params_dict("lobato")
