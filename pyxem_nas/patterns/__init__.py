"""Patterns: calibrated images -> descriptors.

What a descriptor is and the compiled kernel that makes it; scale, centre and distortion of a
detector. One definition for measured and simulated patterns.
"""

from pyxem_nas.patterns.calibration import (
    beam_position,
    find_centers,
    get_acquisition,
    get_centers,
    get_scale,
)
from pyxem_nas.patterns.distortion import (
    CalibrationFit,
    describe_matrix,
    fit_displacements,
    measure_spots,
)
from pyxem_nas.patterns.kernel import (
    FASTMATH,
    PolarSampler,
    blur_pattern,
    compute_descriptors,
    describe_pattern,
    make_sampler,
    to_native,
)
from pyxem_nas.patterns.ring_check import warn_of_wrong_scale
from pyxem_nas.patterns.spec import DescriptorSpec, Detector, PatternSpec

__all__ = [
    "CalibrationFit",
    "DescriptorSpec",
    "Detector",
    "FASTMATH",
    "PatternSpec",
    "PolarSampler",
    "beam_position",
    "blur_pattern",
    "compute_descriptors",
    "describe_matrix",
    "describe_pattern",
    "find_centers",
    "fit_displacements",
    "get_acquisition",
    "get_centers",
    "get_scale",
    "make_sampler",
    "measure_spots",
    "to_native",
    "warn_of_wrong_scale",
]
