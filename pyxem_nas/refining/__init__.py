"""Refining: a whole map, and a calibration, against its scan.

Orientations of a map refined block by block, and scale, ellipse and centre fitted to the spots of
a map that is mostly right.
"""

from pyxem_nas.refining.distortion_fit import fit_distortion
from pyxem_nas.refining.map_refinement import refine_orientations

__all__ = [
    "fit_distortion",
    "refine_orientations",
]
