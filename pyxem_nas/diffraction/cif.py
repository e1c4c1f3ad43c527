"""What a CIF file states about a crystal.

Owns reading the cell, the sites and what else a CIF file says of its one crystal, by gemmi. The
space group belongs to `space_groups`; what a crystal must be like to `crystal_checks`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pyxem_nas.diffraction.space_groups import (
    UNKNOWN,
    get_column,
    get_value,
    read_operators,
    read_setting,
)
from pyxem_nas.diffraction.unit_cell import parse_element

if TYPE_CHECKING:
    import gemmi

_U_TO_B = 8 * np.pi**2
_NUMBER = re.compile(r"[+-]?(\d+\.?(\d*)|\.(\d+))([eE][+-]?\d+)?(\(\d+\))?")


@dataclass(frozen=True)
class CifCrystal:
    """A crystal as a CIF file states it.

    Parameters
    ----------
    lattice
        a, b, c in angstrom, alpha, beta, gamma in degrees, shape (6,).
    labels, elements
        Labels and chemical symbols of the sites.
    positions
        Fractional coordinates, shape (n, 3).
    occupancy
        Shape (n,).
    displacement
        Isotropic B in angstrom squared, shape (n,), 0 where none is stated.
    rounding
        Half a unit of the last digit of the coordinates, in angstrom.
    operators
        The file's operators, None where it lists none.
    stated
        The setting that the Hall symbol, the name or the number states; None: none does.
    why_not
        Why there is no such setting.
    composition
        Sum formula: number of atoms by element; empty where it is not stated.
    formula_units, density, volume
        Formula units in the cell, g/cm^3 and cubic angstrom, None where they are not stated.
    """

    lattice: np.ndarray
    labels: list[str]
    elements: list[str]
    positions: np.ndarray = field(repr=False)
    occupancy: np.ndarray = field(repr=False)
    displacement: np.ndarray = field(repr=False)
    rounding: float
    operators: gemmi.GroupOps | None
    stated: gemmi.SpaceGroup | None
    why_not: str
    composition: dict[str, float]
    formula_units: float | None
    density: float | None
    volume: float | None


def read_cif(path: Path) -> CifCrystal:
    """Read the one crystal of a CIF file.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    crystal
        As the file states it.

    Raises
    ------
    ValueError
        If the file is no CIF, holds none or several crystals, or a cell, site or operator that
        cannot be read; the message names what was found and what to do.
    """
    block = _crystal_block(path)
    lattice = np.array(
        [_cell_value(block, f"{kind}_{name}") for kind, name in (
            ("length", "a"), ("length", "b"), ("length", "c"),
            ("angle", "alpha"), ("angle", "beta"), ("angle", "gamma"))]
    )  # fmt: skip
    composition = parse_formula(get_value(block, "_chemical_formula_sum"))
    columns = [_site_column(block, f"fract_{axis}", "?") for axis in "xyz"]
    types = _site_column(block, "type_symbol", "?")
    labels = _site_column(block, "label") or types
    kept = _real_sites(block, labels)
    texts = [[column[i] for column in columns] for i in kept]
    positions = np.array(
        [
            [_number(text, f"site {labels[i]!r}, coordinate {axis}")
             for axis, text in zip("xyz", row, strict=True)]
            for i, row in zip(kept, texts, strict=True)
        ]
    )  # fmt: skip
    known = frozenset(composition) | frozenset(_exact_types(types))
    stated, why_not = read_setting(block, lattice)
    return CifCrystal(
        lattice=lattice,
        labels=[labels[i] for i in kept],
        elements=[_element_of(types[i], labels[i], known) for i in kept],
        positions=positions,
        occupancy=np.array(_occupancies(block, labels))[kept],
        displacement=np.array(_displacements(block, labels, lattice))[kept],
        rounding=_rounding(texts, lattice),
        operators=read_operators(block),
        stated=stated,
        why_not=why_not,
        composition=composition,
        formula_units=_optional(block, "_cell_formula_units_Z"),
        density=_optional(block, "_exptl_crystal_density_diffrn"),
        volume=_optional(block, "_cell_volume"),
    )


def parse_formula(text: str) -> dict[str, float]:
    """Return the number of atoms by element of a sum formula; empty where it is not understood.

    Examples
    --------
    >>> parse_formula("(Mg1.8 Fe.2) Si O4")
    {'Mg': 1.8, 'Fe': 0.2, 'Si': 1.0, 'O': 4.0}
    """
    text = re.sub(r"[\s'\"*]", "", text or "")
    if text in UNKNOWN or not re.fullmatch(r"([A-Z][a-z]?|[\d.]|[()\[\]])+", text):
        return {}
    while "(" in text or "[" in text:
        inner = re.search(r"[(\[]([^()\[\]]*)[)\]](\d*\.?\d*)", text)
        if not inner:
            return {}
        factor = float(inner.group(2) or 1)
        parts = re.findall(r"([A-Z][a-z]?)(\d*\.?\d*)", inner.group(1))
        spelled = "".join(f"{e}{float(n or 1) * factor:.6f}" for e, n in parts)
        text = text[: inner.start()] + spelled + text[inner.end() :]
    composition: dict[str, float] = {}
    try:
        for symbol, number in re.findall(r"([A-Z][a-z]?)(\d*\.?\d*)", text):
            element = parse_element(symbol)
            composition[element] = composition.get(element, 0.0) + float(number or 1)
    except ValueError:
        return {}
    return composition


# ----------------------------------------------------------------- blocks, values


def _crystal_block(path: Path) -> gemmi.cif.Block:
    from gemmi import cif

    # what is not ASCII stands in names of people only, and not every reader takes it
    content = path.read_bytes()
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = content.decode(encoding, errors="replace").encode("ascii", "replace")
    try:
        document = cif.read_string(text.decode("ascii"))
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"it cannot be read as a CIF file: {error}") from error
    blocks = [block for block in document if get_column(block, *_fractional("x"))]
    if len(blocks) > 1:
        names = [block.name for block in blocks]
        raise ValueError(
            f"it holds {len(blocks)} crystals, the data blocks {names!r}; save the one that is "
            "meant to a file of its own"
        )
    if not blocks:
        cartesian = any(get_column(b, "_atom_site_Cartn_x", "_atom_site.Cartn_x") for b in document)
        what = "Cartesian coordinates only" if cartesian else "no atoms"
        raise ValueError(
            f"it cannot be read as a CIF file of a crystal: it gives {what}; take one with a list "
            "of fractional coordinates"
        )
    return blocks[0]


def _fractional(axis: str) -> tuple[str, str]:
    return f"_atom_site_fract_{axis}", f"_atom_site.fract_{axis}"


def _site_column(block: gemmi.cif.Block, name: str, default: str | None = None) -> list[str]:
    """Return a property of each site; the default, or nothing, where there is no such list."""
    n_sites = len(get_column(block, *_fractional("x")))
    found = get_column(block, f"_atom_site_{name}", f"_atom_site.{name}")
    if found and len(found) != n_sites:
        raise ValueError(
            f"it lists {n_sites} coordinates x of sites, but {len(found)} values of "
            f"_atom_site_{name}; put the properties of the sites in one loop"
        )
    return found or ([] if default is None else [default] * n_sites)


def _number(text: str, what: str) -> float:
    """Return the number that a text states, its uncertainty in brackets left out."""
    if not _NUMBER.fullmatch(text):
        hint = ""
        if re.fullmatch(r"[+-]?\d*,\d+(\(\d+\))?", text):
            hint = f", with a decimal comma? write {text.replace(',', '.')}"
        elif text in UNKNOWN:
            hint = ", it is not stated; complete the file"
        raise ValueError(f"{what}: {text or '?'!r} is no number{hint}")
    return float(text.split("(")[0])


def _optional(block: gemmi.cif.Block, tag: str) -> float | None:
    text = get_value(block, tag)
    return float(text.split("(")[0]) if _NUMBER.fullmatch(text) else None


def _cell_value(block: gemmi.cif.Block, name: str) -> float:
    text = (get_column(block, f"_cell_{name}", f"_cell.{name}") or [""])[0]
    if text == "" and name.startswith("angle"):
        return 90.0  # what the dictionary of CIF says of an angle that is left out
    return _number(text, f"_cell_{name}")


def _real_sites(block: gemmi.cif.Block, labels: list[str]) -> list[int]:
    """Return the rows of sites that hold an atom."""
    flags = _site_column(block, "calc_flag", "")
    shares = _site_column(block, "occupancy", "1")
    return [
        i for i in range(len(labels))
        if flags[i].lower() != "dum" and not re.fullmatch(r"0*\.?0*", shares[i] or "1")
    ]  # fmt: skip


def _exact_types(types: list[str]) -> list[str]:
    """Return the elements of those type symbols that are symbols of elements."""
    found = []
    for text in types:
        try:
            found += [parse_element(text)]
        except ValueError:
            continue
    return found


def _element_of(kind: str, label: str, known: frozenset[str]) -> str:
    """Return the element of a site by its type symbol, else by its label."""
    if kind not in UNKNOWN:
        try:
            return parse_element(kind, among=known)
        except ValueError as error:
            raise ValueError(f"site {label!r}: type {error}") from None
    try:
        return parse_element(label, label=True, among=known)
    except ValueError as error:
        raise ValueError(f"site label {error}") from None


def _occupancies(block: gemmi.cif.Block, labels: list[str]) -> list[float]:
    texts = _site_column(block, "occupancy", "1")
    return [
        1.0 if text in UNKNOWN else _number(text, f"site {label!r}, occupancy")
        for label, text in zip(labels, texts, strict=True)
    ]


def _displacements(block: gemmi.cif.Block, labels: list[str], lattice: np.ndarray) -> list[float]:
    """Return the isotropic B of each site, of the mean of its tensor where that is all there is."""
    found = dict.fromkeys(range(len(labels)), 0.0)
    anisotropic = _equivalent_b(block, lattice)
    columns = [
        (_site_column(block, f"{kind}_iso_or_equiv"), factor)
        for kind, factor in (("B", 1.0), ("U", _U_TO_B))
    ]
    for i, label in enumerate(labels):
        found[i] = anisotropic.get(label, 0.0)
        for texts, factor in columns:
            if texts and _NUMBER.fullmatch(texts[i]):
                found[i] = factor * float(texts[i].split("(")[0])
    # what is not positive is no displacement
    return [max(0.0, found[i]) for i in range(len(labels))]


def _equivalent_b(block: gemmi.cif.Block, lattice: np.ndarray) -> dict[str, float]:
    """Return B of the mean of each site's displacement tensor, by label."""
    labels = get_column(block, "_atom_site_aniso_label")
    parts = [
        get_column(block, f"_atom_site_aniso_U_{ij}") for ij in ("11", "22", "33", "12", "13", "23")
    ]
    if not labels or any(len(part) != len(labels) for part in parts):
        return {}
    metric = metric_of(lattice)
    reciprocal = np.sqrt(np.diag(np.linalg.inv(metric)))
    found = {}
    for k, label in enumerate(labels):
        texts = [part[k] for part in parts]
        if all(_NUMBER.fullmatch(text) for text in texts):
            u11, u22, u33, u12, u13, u23 = (float(text.split("(")[0]) for text in texts)
            tensor = np.array([[u11, u12, u13], [u12, u22, u23], [u13, u23, u33]])
            scaled = tensor * np.outer(reciprocal, reciprocal)
            found[label] = _U_TO_B * float((scaled * metric).sum()) / 3
    return found


def metric_of(lattice: np.ndarray) -> np.ndarray:
    """Return the metric tensor of a, b, c, alpha, beta, gamma, angstrom squared, shape (3, 3)."""
    lengths, cosines = np.asarray(lattice[:3]), np.cos(np.deg2rad(lattice[3:]))
    metric = np.outer(lengths, lengths)
    for (i, j), cosine in zip(((1, 2), (0, 2), (0, 1)), cosines, strict=True):
        metric[i, j] = metric[j, i] = metric[i, j] * cosine
    return metric


def _rounding(texts: list[list[str]], lattice: np.ndarray) -> float:
    """Return half a unit of the last digit of the coordinates, angstrom."""
    digits = [
        max((len(m.group(2) or m.group(3) or "") for m in map(_NUMBER.fullmatch, column) if m),
            default=0)
        for column in zip(*texts, strict=True)
    ]  # fmt: skip
    return float(
        max(0.5 * 10.0**-n * length for n, length in zip(digits, lattice[:3], strict=True))
    )
