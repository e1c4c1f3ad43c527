"""Patterns: calibrated images -> descriptors.

What a descriptor is and the compiled kernel that makes it; scale, centre and distortion of a
detector; what a scan's axes and metadata state. One definition for measured and simulated patterns.
"""

from pyxem_nas.patterns.beam import BeamSearch, beam_position, find_centers, search_beam
from pyxem_nas.patterns.blur import FASTMATH, blur_pattern
from pyxem_nas.patterns.calibration import get_beam, get_centers, get_scale
from pyxem_nas.patterns.distortion import (
    CalibrationFit,
    describe_matrix,
    fit_displacements,
    measure_spots,
)
from pyxem_nas.patterns.kernel import compute_descriptors, describe_pattern, to_native
from pyxem_nas.patterns.ring_check import warn_of_wrong_scale
from pyxem_nas.patterns.sampler import PolarSampler, make_sampler
from pyxem_nas.patterns.scan_axes import ScanAxes, check_navigation_mask, get_scan_axes
from pyxem_nas.patterns.scan_files import read_scan
from pyxem_nas.patterns.spec import DescriptorSpec, Detector, PatternSpec
from pyxem_nas.patterns.stated import (
    choose_scan_rotation,
    get_acquisition,
    get_beam_energy,
    get_precession,
)
from pyxem_nas.patterns.units import convert_length, to_inverse_angstrom

__all__ = [
    "BeamSearch",
    "CalibrationFit",
    "DescriptorSpec",
    "Detector",
    "FASTMATH",
    "PatternSpec",
    "PolarSampler",
    "ScanAxes",
    "beam_position",
    "blur_pattern",
    "check_navigation_mask",
    "choose_scan_rotation",
    "compute_descriptors",
    "convert_length",
    "describe_matrix",
    "describe_pattern",
    "find_centers",
    "fit_displacements",
    "get_acquisition",
    "get_beam",
    "get_beam_energy",
    "get_centers",
    "get_precession",
    "get_scale",
    "get_scan_axes",
    "make_sampler",
    "measure_spots",
    "read_scan",
    "search_beam",
    "to_inverse_angstrom",
    "to_native",
    "warn_of_wrong_scale",
]
