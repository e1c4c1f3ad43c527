"""What networks are trained and calibrated on: simulators of known and foreign crystals.

Owns which crystals stand for "none of these" and which dynamical patterns are computed. How a
pattern is drawn belongs to `scans`, Bloch waves to `diffraction`.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pyxem_nas.bundles import ModelBundle
from pyxem_nas.diffraction import (
    Acquisition,
    DynamicalSpots,
    SpotLibrary,
    draw_dynamical_spots,
    get_reflections,
    make_foreign_phases,
    make_foreign_reflections,
)
from pyxem_nas.scans import N_FOREIGN, DescriptorSource, Randomization
from pyxem_nas.training.search import hold_out_domain
from pyxem_nas.training.workshop import Workshop

if TYPE_CHECKING:
    from orix.crystal_map import Phase

    from pyxem_nas.patterns import DescriptorSpec

_logger = logging.getLogger(__name__)
_N_FOREIGN_PHASES = 24  # of them with atoms, for dynamical patterns


def make_training_source(
    workshop: Workshop,
    phases: Sequence[Phase],
    acquisition: Acquisition,
    spec: DescriptorSpec,
    randomization: Randomization,
    *,
    n_dynamical: int,
    seed: int,
) -> DescriptorSource:
    """Return the simulator of training: known phases, foreign crystals, dynamical spots of both."""
    rng = np.random.default_rng((seed, 11))
    known = get_reflections(phases)
    foreign = make_foreign_phases(known, _N_FOREIGN_PHASES, rng) if n_dynamical else []
    reflections = make_foreign_reflections(get_reflections([*phases, *foreign]), N_FOREIGN, rng)
    library = None
    if n_dynamical:
        wanted = [n_dynamical] * len(phases) + [max(1, n_dynamical // 20)] * len(foreign)
        parts = []
        for k, (phase, n) in enumerate(zip([*phases, *foreign], wanted, strict=True)):
            content = workshop.once(
                f"dynamical_{k}.npz",
                lambda k=k, phase=phase, n=n: draw_spots(
                    phase, n, acquisition, randomization, (seed, 13, k), workshop.report
                ).to_bytes(),
            )
            parts.append(DynamicalSpots.from_bytes(content))
        library = SpotLibrary(parts)
    return DescriptorSource(
        reflections, len(phases), acquisition, spec, randomization, library=library
    )


def draw_spots(
    phase: Phase,
    n: int,
    acquisition: Acquisition,
    randomization: Randomization,
    seed: tuple[int, ...],
    report: Callable[[str], None],
) -> DynamicalSpots:
    """Compute Bloch waves of a phase for random orientations, specimens as randomised."""
    report(f"computing Bloch waves of {phase.name}: {n} orientations")
    return draw_dynamical_spots(
        phase,
        n,
        acquisition,
        np.random.default_rng(seed),
        thickness=randomization.thickness,
        precession_angle=randomization.precession_angle,
    )


def hold_out_source(
    bundle: ModelBundle, source: DescriptorSource, seed: int, n_dynamical: int
) -> DescriptorSource:
    """Return a simulator of patterns that no network was trained on, at one precession angle."""
    angle = float(np.mean(source.randomization.precession_angle))
    randomization = dataclasses.replace(source.randomization, precession_angle=(angle, angle))
    if not n_dynamical:
        _, held_out = hold_out_domain(randomization)
        return dataclasses.replace(source, randomization=held_out, library=None)
    drawn = [
        draw_spots(
            phase, n_dynamical, source.acquisition, randomization, (seed, 17, k), _logger.info
        )
        for k, phase in enumerate(bundle.phases)
    ]
    # the foreign crystals' dynamical patterns are those of the training: there are no others
    others = source.library.phases[len(drawn) :] if source.library else []
    randomization = dataclasses.replace(randomization, dynamical_share=(1.0, 1.0))
    return dataclasses.replace(
        source, randomization=randomization, library=SpotLibrary([*drawn, *others])
    )
