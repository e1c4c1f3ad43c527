"""The space group that a CIF file states.

Owns its operators, and the setting that its Hall symbol, its name or its number state, with gemmi's
tables: what can be read in two ways is not guessed. Which of them counts belongs to `crystals`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import gemmi

#: What a CIF file writes for a value that it does not state.
UNKNOWN = ("", "?", ".")
_OPERATORS = (
    "_space_group_symop_operation_xyz", "_space_group_symop.operation_xyz",
    "_symmetry_equiv_pos_as_xyz", "_symmetry_equiv.pos_as_xyz",
)  # fmt: skip
_NAMES = (
    "_space_group_name_H-M_alt", "_space_group.name_H-M_alt", "_symmetry_space_group_name_H-M",
    "_symmetry.space_group_name_H-M", "_space_group_name_H-M_full",
)  # fmt: skip
_HALL = (
    "_space_group_name_Hall", "_space_group.name_Hall", "_symmetry_space_group_name_Hall",
    "_symmetry.space_group_name_Hall",
)  # fmt: skip
_NUMBERS = (
    "_space_group_IT_number", "_space_group.IT_number", "_symmetry_Int_Tables_number",
    "_symmetry.Int_Tables_number",
)  # fmt: skip


def get_column(block: gemmi.cif.Block, *tags: str) -> list[str]:
    """Return the values of the first tag that the block has, unquoted."""
    from gemmi import cif

    for tag in tags:
        values = block.find_values(tag)
        if len(values):
            return [cif.as_string(value).strip() for value in values]
    return []


def get_value(block: gemmi.cif.Block, *tags: str) -> str:
    """Return the first value of the tags that is stated, "" where none is."""
    for tag in tags:
        for value in get_column(block, tag):
            if value not in UNKNOWN:
                return value
    return ""


def read_operators(block: gemmi.cif.Block) -> gemmi.GroupOps | None:
    """Return the group of the file's operators; None where it lists none."""
    import gemmi

    texts = [text for text in get_column(block, *_OPERATORS) if text not in UNKNOWN]
    if not texts:
        return None
    operators = [gemmi.Op("x,y,z")]  # which some lists leave out
    for text in texts:
        try:
            operators.append(gemmi.Op(text.replace('"', "")).wrap())
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"operator {text!r} cannot be read: {error}") from error
    group = gemmi.GroupOps(list({str(op.triplet()): op for op in operators}.values()))
    n_listed = len(set(map(str, group)))
    group.add_missing_elements()
    if len(set(map(str, group))) != n_listed:
        raise ValueError(
            f"its {n_listed} operators are no group: products of them are missing; list them all, "
            "or none beside a name or Hall symbol that states the setting"
        )
    return group


def read_setting(
    block: gemmi.cif.Block, lattice: np.ndarray
) -> tuple[gemmi.SpaceGroup | None, str]:
    """Return the setting that Hall symbol, name or number state, or why there is none."""
    import gemmi

    hall, name, number = (
        get_value(block, *_HALL),
        get_value(block, *_NAMES),
        get_value(block, *_NUMBERS),
    )
    if hall:
        try:
            found = gemmi.find_spacegroup_by_ops(gemmi.symops_from_hall(hall))
        except (ValueError, RuntimeError):
            found = None
        if found is not None:
            return found, ""
    if name:
        found = find_setting(name, lattice)
        if found is None:
            return None, f"the name {name!r} of its space group is not known"
        if found.ext in ("1", "2") and not _states_origin(name):
            return None, (
                f"{name!r} has two origins and the file does not say which; write "
                f"'{found.hm} :1' or '{found.hm} :2', or list the operators"
            )
        if number.isdigit() and int(number) not in (0, found.number):
            return None, (
                f"its name {name!r} is that of group {found.number}, its number {number}; correct "
                "one of them"
            )
        return found, ""
    if number.isdigit():
        settings = [s for s in gemmi.spacegroup_table() if s.number == int(number)]
        if settings and settings[0].ext in ("H", "R"):
            settings = [find_setting(settings[0].hm, lattice)]
        if len(settings) == 1:
            return settings[0], ""
        return None, f"space group {number} has {len(settings)} settings; write its name"
    return None, "it states no space group"


def _states_origin(name: str) -> bool:
    return bool(re.search(r"(:\s*[12]|\b[SZ]|origin\D*[12]\)?)\s*$", name))


def find_setting(name: str, lattice: np.ndarray) -> gemmi.SpaceGroup | None:
    """Return the setting of an international name as the field writes it.

    Parameters
    ----------
    name
        "F d -3 m :2", "Fd-3mZ", "R -3 m H", "P 6(3)/m m c", "P21/n".
    lattice
        a, b, c, alpha, beta, gamma: of rhombohedral groups they tell the axes.
    """
    import gemmi

    text = re.sub(r"(\d)_(\d)", r"\1\2", name).replace("_", " ").strip(" *'\"")  # P2_1/c
    text = re.sub(r"\(\s*(\d)\s*\)", r"\1", text)  # P 6(3)/m m c
    text = re.sub(r"\(?origin\D*([12])\)?\s*$", r":\1", text)
    text = re.sub(r"\s*:?\s*S$", ":1", text)
    text = re.sub(r"\s*:?\s*Z$", ":2", text)
    if text.startswith("R"):
        text = re.sub(r"\s*:?\s*([HR])$", r":\1", text)
    return gemmi.find_spacegroup_by_name(text, float(lattice[3]), float(lattice[5]))
