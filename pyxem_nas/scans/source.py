"""Simulated descriptors without end: what networks are trained and scaled on.

Owns `DescriptorSource`, the draw of phases, orientations, specimen and camera together. What a
camera does to a pattern belongs to `camera`, dynamical spots and made-up crystals to `diffraction`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pyxem_nas.diffraction import (
    Acquisition,
    Reflections,
    SpotLibrary,
    get_reflections,
    make_foreign_reflections,
    random_quaternions,
)
from pyxem_nas.patterns import DescriptorSpec, PatternSpec
from pyxem_nas.scans.camera import simulate_descriptors
from pyxem_nas.scans.randomization import Randomization

if TYPE_CHECKING:
    from pyxem_nas.bundles import ModelBundle


N_FOREIGN = 150  # made-up crystals that stand for "none of these"


@dataclass(frozen=True)
class DescriptorSource:
    """Simulated descriptors with their orientations and phases, as many as one wants.

    Parameters
    ----------
    reflections
        Known phases first, then those that stand for "none of these".
    n_known
        Number of known phases; all others are class ``n_known``.
    acquisition
        Beam energy; the precession is drawn from `randomization`.
    spec
        The descriptor.
    randomization
        Ranges of specimen and camera.
    library
        Dynamical spots of the known phases; None: all patterns are kinematical or two-beam.
    """

    reflections: Reflections = field(repr=False)
    n_known: int
    acquisition: Acquisition
    spec: DescriptorSpec | PatternSpec = field(default_factory=DescriptorSpec)
    randomization: Randomization = field(default_factory=Randomization)
    library: SpotLibrary | None = field(default=None, repr=False)

    def simulate(
        self, n: int, rng: np.random.Generator, *, phase_id: int | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Simulate n descriptors.

        Parameters
        ----------
        n
            Their number.
        rng
            Source of all that is random.
        phase_id
            The one phase wanted; None draws all known phases and "none of these" alike.

        Returns
        -------
        descriptors
            Shape (n, n_radial, n_azimuthal), float32.
        classes
            Phase of each, shape (n,), ``n_known`` for none of these.
        quaternions
            Orientation of each, shape (n, 4).
        """
        quaternions = random_quaternions(2 * n, rng).reshape(n, 2, 4)
        parameters = self.randomization.draw(n, rng)
        if phase_id is not None:
            classes = np.full(n, phase_id)
            phases = np.stack([classes, classes], axis=1)
        else:
            classes = rng.integers(0, self.n_known + 1, n)
            phases = self._draw_phases(classes, parameters, rng)
        dynamical = None
        if self.library is not None:
            dynamical, quaternions = self.library.draw(
                phases, quaternions, parameters["dynamical"], rng
            )
        descriptors = simulate_descriptors(
            self.reflections,
            phases,
            quaternions,
            parameters,
            self.spec,
            rng,
            wavelength=self.acquisition.wavelength,
            dynamical=dynamical,
        )
        return descriptors, classes, quaternions[:, 0]

    def _draw_phases(self, classes, parameters, rng) -> np.ndarray:
        """Draw the two crystals of each pattern; none of these: foreign, amorphous or vacuum."""
        n = len(classes)
        other = rng.integers(0, self.n_known, n)
        phases = np.stack([classes, other], axis=1)
        none = classes == self.n_known
        n_foreign = self.reflections.n_phases - self.n_known
        foreign = rng.integers(0, max(n_foreign, 1), n) + self.n_known
        is_crystal = none & (rng.random(n) < 0.7) & (n_foreign > 0)
        phases[none, 0] = -1
        phases[is_crystal, 0] = foreign[is_crystal]
        phases[none, 1] = phases[none, 0]
        parameters["halo_share"][none & ~is_crystal] = rng.random((none & ~is_crystal).sum())
        return phases


def make_source(bundle: ModelBundle, seed: int) -> DescriptorSource:
    """Return the simulator that a bundle was trained with, as far as the bundle tells.

    It has no dynamical patterns: their Bloch waves are not kept.
    """
    ranges = bundle.provenance.get("settings", {}).get("randomization")
    try:
        randomization = Randomization.from_dict(ranges)
    except (TypeError, AttributeError):  # none, or of a version with other fields
        low, high = bundle.precession_range or (0.0, 1.0)
        randomization = Randomization(precession_angle=(low, high))
    known = get_reflections(bundle.phases)
    reflections = make_foreign_reflections(known, N_FOREIGN, np.random.default_rng((seed, 11)))
    return DescriptorSource(
        reflections, len(bundle.phases), bundle.acquisition, bundle.spec, randomization
    )
