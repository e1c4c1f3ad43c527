"""The header of a bundle file: a bundle's fields as JSON and back.

Owns the schema and its version, and refuses what is not of it: hashes that differ, numbers that
are none. Phases and their cells belong to `stored_phases`, networks to `network_files`, the file
itself and `ModelBundle` to `bundle`, of which this module knows the fields alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np

from pyxem_nas.bundles.judges import Judge, PhaseJudge, Thresholds
from pyxem_nas.bundles.network_files import BundleError, check_network
from pyxem_nas.bundles.set_judge import N_NETWORK_FEATURES, SetJudge
from pyxem_nas.bundles.stored_phases import cells_from_dict, phase_from_dict, phase_to_dict
from pyxem_nas.diffraction import Acquisition
from pyxem_nas.patterns import DescriptorSpec, PatternSpec

SCHEMA_VERSION = 5  # 5: networks may share a trunk, hybrid judges may be networks
_allowed: set[str] = set()  # hashes of networks that passed `check_network`


def make_header(bundle: Any) -> dict[str, Any]:
    """Return what has the fields of a `ModelBundle` for JSON, of its networks the hashes alone."""
    return {
        "schema_version": SCHEMA_VERSION,
        "name": bundle.name,
        "phases": [phase_to_dict(phase) for _, phase in bundle.phase_list],
        "acquisition": bundle.acquisition.to_dict(),
        "spec": bundle.spec.to_dict(),
        "pattern_spec": bundle.pattern_spec and bundle.pattern_spec.to_dict(),
        "cells": {
            str(k): {"directions": c.directions.tolist(), "n_inplane": c.n_inplane}
            for k, c in bundle.cells.items()
        },
        "judges": {
            str(k): {kind: _judge_to_dict(judge) for kind, judge in judges.items()}
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
    phases = [phase_from_dict(fields, version) for fields in header["phases"]]
    judge = header.get("phase_judge")  # bundles of version 0.1.0 have none
    return {
        "name": str(header["name"]),
        "phases": phases,
        "acquisition": Acquisition(**header["acquisition"]),
        "spec": DescriptorSpec.from_dict(header["spec"]),
        "models": models,
        "cells": {
            int(k): cells_from_dict(c, phases[int(k)], version) for k, c in header["cells"].items()
        },
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


def _judge_to_dict(judge: Judge) -> dict[str, Any]:
    # not by asdict, which would go into the judge of sets
    fields = {f.name: getattr(judge, f.name) for f in dataclasses.fields(judge)}
    network_judge = fields.pop("network_judge")
    return fields | ({"network_judge": network_judge.to_dict()} if network_judge else {})


def _judge_from_dict(fields: dict[str, Any]) -> Judge:
    # the first schema knows no relative correlations; weights that the second lacks are 0
    relative = fields.pop("relative", False)
    if not isinstance(relative, bool):
        raise BundleError(f"relative must be true or false, got {relative!r}")
    network_judge = fields.pop("network_judge", None)
    if network_judge is not None:
        network_judge = SetJudge.from_dict(network_judge, N_NETWORK_FEATURES)
    return Judge(**_finite(fields), relative=relative, network_judge=network_judge)


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
