"""The header of a bundle file: a bundle's fields as JSON and back.

Owns the schema and its version, and refuses what is not of it: hashes that differ, numbers that
are none, lattices and cells that cannot be. Networks belong to `network_files`, the file itself
and `ModelBundle` to `bundle`.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from pyxem_nas.bundles.judges import Judge, PhaseJudge, Thresholds
from pyxem_nas.bundles.network_files import BundleError, check_network
from pyxem_nas.diffraction import (
    Acquisition,
    OrientationCells,
    get_lattice_parameters,
    laue_operations,
    name_proper_group,
)
from pyxem_nas.patterns import DescriptorSpec, PatternSpec

if TYPE_CHECKING:
    from orix.crystal_map import Phase

    from pyxem_nas.bundles.bundle import ModelBundle

SCHEMA_VERSION = 3
_allowed: set[str] = set()  # hashes of networks that passed `check_network`


def make_header(bundle: ModelBundle) -> dict[str, Any]:
    """Return all of a bundle but its networks, of which it holds the hashes, for JSON."""
    return {
        "schema_version": SCHEMA_VERSION,
        "name": bundle.name,
        "phases": [_phase_to_dict(phase) for phase in bundle.phases],
        "acquisition": bundle.acquisition.to_dict(),
        "spec": bundle.spec.to_dict(),
        "pattern_spec": bundle.pattern_spec and bundle.pattern_spec.to_dict(),
        "cells": {
            str(k): {"directions": c.directions.tolist(), "n_inplane": c.n_inplane}
            for k, c in bundle.cells.items()
        },
        "judges": {
            str(k): {kind: dataclasses.asdict(judge) for kind, judge in judges.items()}
            for k, judges in bundle.judges.items()
        },
        "thresholds": dataclasses.asdict(bundle.thresholds),
        "phase_judge": bundle.phase_judge and dataclasses.asdict(bundle.phase_judge),
        "precession_range": bundle.precession_range and list(bundle.precession_range),
        "phase_temperature": bundle.phase_temperature,
        "provenance": dict(bundle.provenance),
        "search_report": bundle.search_report,
        "hashes": {
            name: hashlib.sha256(content).hexdigest() for name, content in bundle.models.items()
        },
    }


def read_header(header: dict[str, Any], files: dict[str, bytes]) -> dict[str, Any]:
    """Return the fields of a `ModelBundle`, its phases as a list.

    Raises
    ------
    BundleError
        If the header or a network is not as it must be, or the schema is newer than ours. Whatever
        a foreign header makes stumble besides passes through.
    """
    version = header["schema_version"]
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise BundleError(
            f"schema version {version!r} is newer than this package's {SCHEMA_VERSION}; upgrade "
            "pyxem-nas"
        )
    models = {}
    for name, digest in header["hashes"].items():
        content = files.get(f"models/{name}.keras")
        if content is None:
            raise BundleError(f"the network {name!r} is missing")
        if hashlib.sha256(content).hexdigest() != digest:
            raise BundleError(f"the network {name!r} is damaged: its hash differs")
        if digest not in _allowed:  # looked at once in a process
            check_network(content)
            _allowed.add(digest)
        models[name] = content
    phases = [_phase_from_dict(fields) for fields in header["phases"]]
    judge = header.get("phase_judge")  # bundles of version 0.1.0 have none
    return {
        "name": str(header["name"]),
        "phases": phases,
        "acquisition": Acquisition(**header["acquisition"]),
        "spec": DescriptorSpec.from_dict(header["spec"]),
        "models": models,
        "cells": {int(k): _cells_from_dict(c, phases[int(k)]) for k, c in header["cells"].items()},
        "judges": {
            int(k): {kind: _judge_from_dict(fields) for kind, fields in judges.items()}
            for k, judges in header["judges"].items()
        },
        "thresholds": Thresholds(**_finite(header["thresholds"])),
        "precession_range": _precession_range(header["precession_range"]),
        "provenance": dict(header["provenance"]),
        "search_report": [dict(report) for report in header["search_report"]],
        "pattern_spec": header["pattern_spec"] and PatternSpec(**header["pattern_spec"]),
        "phase_judge": PhaseJudge(**_finite(judge)) if judge else None,
        **_finite({"phase_temperature": header["phase_temperature"]}),
    }


def _judge_from_dict(fields: dict[str, Any]) -> Judge:
    # the first schema knows no relative correlations; weights that the second lacks are 0
    relative = fields.pop("relative", False)
    if not isinstance(relative, bool):
        raise BundleError(f"relative must be true or false, got {relative!r}")
    return Judge(**_finite(fields), relative=relative)


def _finite(fields: dict[str, Any]) -> dict[str, float | None]:
    """Return numbers by name; JSON knows NaN and infinity, a bundle does not.

    "none" (the utility of "none of them") and "phase_temperature" may be None: not calibrated.
    """
    for name, value in fields.items():
        if value is None and name in ("none", "phase_temperature"):
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and np.isfinite(value)):
            raise BundleError(f"{name} must be a number, got {value!r}")
    return fields


def _precession_range(values: Any) -> tuple[float, float] | None:
    if values is None:
        return None
    low, high = _finite(dict(zip(("lowest", "highest precession"), values, strict=True))).values()
    return low, high


def _cells_from_dict(fields: dict[str, Any], phase: Phase) -> OrientationCells:
    symmetry = laue_operations(phase)
    directions = np.array(fields["directions"], np.float64).reshape(-1, 3)
    # `not` with `<=`: NaN is refused, too
    if not np.all(np.abs(np.linalg.norm(directions, axis=1) - 1) <= 1e-3) or not len(directions):
        raise BundleError("the directions of orientation cells must be unit vectors")
    if not 1 <= fields["n_inplane"] <= 3600:
        raise BundleError(f"n_inplane must be 1 to 3600, got {fields['n_inplane']!r}")
    return OrientationCells(
        name_proper_group(symmetry),
        directions,
        int(fields["n_inplane"]),
        symmetry,
    )


def _phase_to_dict(phase: Phase) -> dict[str, Any]:
    if phase.space_group is None:
        raise ValueError(f"phase {phase.name!r} has no space group; set phase.space_group")
    return {
        "name": phase.name,
        "space_group": int(phase.space_group.number),
        "color": phase.color,
        "lattice": list(get_lattice_parameters(phase)),
        "atoms": [
            [atom.element, *(float(v) for v in atom.xyz), float(atom.occupancy)]
            for atom in phase.structure
        ],
    }


def _phase_from_dict(fields: dict[str, Any]) -> Phase:
    from diffpy.structure import Atom, Lattice, Structure
    from orix.crystal_map import Phase

    lattice = [float(v) for v in fields["lattice"]]
    if len(lattice) != 6 or not all(0 < v <= 500 for v in lattice):
        raise BundleError(f"no lattice: {lattice!r}")
    atoms = [Atom(a[0], [float(v) for v in a[1:4]], occupancy=a[4]) for a in fields["atoms"]]
    structure = Structure(atoms=atoms, lattice=Lattice(*lattice))
    return Phase(
        name=fields["name"],
        space_group=fields["space_group"],
        structure=structure,
        color=fields["color"],
    )
