"""A stack of patterns as indexing looks at it: the same rows, described in several ways.

Owns `Described`. How descriptors are made belongs to `patterns`, what is done with them to
`branches` and the rooms above it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pyxem_nas.indexing.matching import transform
from pyxem_nas.patterns import DescriptorSpec


@dataclass(frozen=True, eq=False)
class Described:
    """Descriptors of n patterns.

    Parameters
    ----------
    descriptors
        Of the bundle's spec, shape (n, n_radial, n_azimuthal), float32.
    polar
        The finer ones that refinement looks at, as `refinement.get_refinement_spec` says.
    spec
        Of `descriptors`.
    cartesian
        What the phase network takes where it takes patterns; None: it takes descriptors.
    trunk
        From descriptors to what the networks take, where they share a trunk (`Predictor.trunk`).
    """

    descriptors: np.ndarray
    polar: np.ndarray
    spec: DescriptorSpec
    cartesian: np.ndarray | None = None
    trunk: Callable[[np.ndarray], np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.descriptors)

    @property
    def phase_input(self) -> np.ndarray:
        """What the phase network takes."""
        return self.network_input if self.cartesian is None else self.cartesian

    @cached_property
    def network_input(self) -> np.ndarray:
        """What the networks of a bundle take; passes the trunk when first asked for."""
        return self.descriptors if self.trunk is None else self.trunk(self.descriptors)

    @cached_property
    def spectra(self) -> np.ndarray:
        """What exhaustive matching takes, the same for all phases; made when first asked for."""
        return transform(self.descriptors, self.spec)

    def take(self, rows: np.ndarray) -> Described:
        """Return the patterns of some rows."""
        if len(rows) == len(self) and np.array_equal(rows, np.arange(len(self))):
            return self
        cartesian = None if self.cartesian is None else self.cartesian[rows]
        descriptors = self.descriptors[rows]
        polar = descriptors if self.polar is self.descriptors else self.polar[rows]
        taken = Described(descriptors, polar, self.spec, cartesian, self.trunk)
        made = {"spectra", "network_input"} & set(self.__dict__)
        taken.__dict__.update({name: getattr(self, name)[rows] for name in made})
        return taken
