"""Several bundles as one: `ModelBundle.merge`.

Owns what must agree between them and what the whole inherits of each.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from pyxem_nas.bundles.bundle import ModelBundle, number_phases
from pyxem_nas.bundles.judges import Thresholds
from pyxem_nas.bundles.shared_trunk import TRUNK

if TYPE_CHECKING:
    from orix.crystal_map import PhaseList


def merge_bundles(bundles: tuple[ModelBundle, ...], name: str | None) -> ModelBundle:
    """Return one bundle with the phases of several; see `ModelBundle.merge`."""
    if len(bundles) < 2 or not all(isinstance(b, ModelBundle) for b in bundles):
        raise TypeError(
            "merge takes two or more bundles, got "
            f"{[type(bundle).__name__ for bundle in bundles]!r}"
        )
    _check_mergeable(bundles)
    trunks = {bundle.models.get(TRUNK) for bundle in bundles if bundle.models}
    shared = next(iter(trunks)) if len(trunks) == 1 else None
    if shared is None:
        bundles = tuple(bundle.with_whole_networks() for bundle in bundles)
    first = bundles[0]
    precession = _common_precession(bundles)
    angle = first.acquisition.precession_angle
    if precession is not None:
        angle = min(max(angle, precession[0]), precession[1])
    offsets = np.cumsum([0, *(len(bundle.phases) for bundle in bundles)])[:-1].tolist()
    numbered = list(zip(offsets, bundles, strict=True))
    phase_list = number_phases([phase for bundle in bundles for phase in bundle.phases])
    _tell_colors_apart(phase_list)
    return ModelBundle(
        name="+".join(bundle.name for bundle in bundles) if name is None else name,
        phase_list=phase_list,
        acquisition=dataclasses.replace(first.acquisition, precession_angle=angle),
        spec=first.spec,
        models={
            f"orientation_{start + k}": bundle.models[f"orientation_{k}"]
            for start, bundle in numbered
            for k in range(len(bundle.phases))
            if bundle.has_orientation_network(k)
        }
        | ({} if shared is None else {TRUNK: shared}),
        cells={start + k: c for start, bundle in numbered for k, c in bundle.cells.items()},
        judges={start + k: j for start, bundle in numbered for k, j in bundle.judges.items()},
        thresholds=Thresholds(
            max(bundle.thresholds.template for bundle in bundles),
            min(bundle.thresholds.confidence for bundle in bundles),
            max(bundle.thresholds.phase for bundle in bundles),
            min(bundle.thresholds.phase_confidence for bundle in bundles),
        ),
        precession_range=precession,
        provenance={
            "merged": [
                {
                    "name": bundle.name,
                    "hash": bundle.hash,
                    "phases": bundle.phase_names,
                    "provenance": dict(bundle.provenance),
                }
                for bundle in bundles
            ]
        },
        search_report=[trial for bundle in bundles for trial in bundle.search_report],
    )


def _check_mergeable(bundles: tuple[ModelBundle, ...]) -> None:
    """Raise ValueError where bundles cannot become one."""
    first = bundles[0]
    owner: dict[str, str] = {}
    for bundle in bundles:
        for name in bundle.phase_names:
            if name in owner:
                raise ValueError(
                    f"bundles {owner[name]!r} and {bundle.name!r} both have a phase {name!r}; "
                    "leave one out with select_phases"
                )
            owner[name] = bundle.name
        if bundle.spec != first.spec:
            raise ValueError(
                f"bundles {first.name!r} and {bundle.name!r} take different descriptors, "
                f"{first.spec!r} and {bundle.spec!r}; train one of them with the other's spec"
            )
        energies = first.acquisition.beam_energy, bundle.acquisition.beam_energy
        if abs(energies[1] / energies[0] - 1) > 1e-3:
            raise ValueError(
                f"bundles {first.name!r} and {bundle.name!r} are for different beam energies, "
                f"{energies[0]:g} and {energies[1]:g} kV; train one for the other's energy"
            )


def _common_precession(bundles: tuple[ModelBundle, ...]) -> tuple[float, float] | None:
    """Return the precession angles in degrees that all bundles know; None: any."""
    known = [bundle for bundle in bundles if bundle.precession_range is not None]
    if not known:
        return None
    low = max(bundle.precession_range[0] for bundle in known)
    high = min(bundle.precession_range[1] for bundle in known)
    if low > high:
        ranges = {bundle.name: "{:g} to {:g}".format(*bundle.precession_range) for bundle in known}
        raise ValueError(
            f"the bundles' precession ranges in degrees have nothing in common: {ranges!r}; train "
            "one of them for the other's precession"
        )
    return low, high


def _tell_colors_apart(phase_list: PhaseList) -> None:
    """Give a phase whose colour another has already a colour of its own, in place."""
    free = [f"tab:{c}" for c in ("blue", "orange", "green", "red", "purple", "brown", "pink")]
    used: set[str] = set()
    own = {phase.color for _, phase in phase_list}
    for _, phase in phase_list:
        if phase.color in used:
            spare = [color for color in free if color not in used | own]
            phase.color = spare[0] if spare else phase.color
        used.add(phase.color)
