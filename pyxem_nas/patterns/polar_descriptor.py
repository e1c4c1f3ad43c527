"""The HyperSpy signal of polar descriptors, eager and lazy."""

from __future__ import annotations

from hyperspy._signals.lazy import LazySignal
from hyperspy.signals import Signal2D

from pyxem_nas.patterns.spec import DescriptorSpec


class PolarDescriptor2D(Signal2D):
    """Polar intensity descriptors of a scan.

    Signal axes are azimuth (x, degrees, counter-clockwise with y up) and reciprocal radius
    (y, 1/angstrom), so arrays have the shape (..., n_radial, n_azimuthal).

    See Also
    --------
    pyxem_nas.DescriptorSpec : what a descriptor is.
    """

    _signal_type = "polar_descriptor"

    @property
    def spec(self) -> DescriptorSpec:
        """The specification that the descriptors were computed with.

        Raises
        ------
        AttributeError
            If the signal was not made by `get_polar_descriptors`.
        """
        fields = self.metadata.get_item("Descriptor.spec")
        if fields is None:
            raise AttributeError("the signal's metadata hold no Descriptor.spec")
        return DescriptorSpec.from_dict(fields.as_dictionary())


class LazyPolarDescriptor2D(LazySignal, PolarDescriptor2D):
    """Polar intensity descriptors of a scan, computed when needed."""
