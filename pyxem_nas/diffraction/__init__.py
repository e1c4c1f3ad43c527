"""Diffraction: crystals and a microscope -> spots; orientation space.

Phases, their reflections, which of them an orientation excites (kinematically and by Bloch waves),
and orientations: cells, symmetry, disorientation. Knows no image and no detector.
"""

from pyxem_nas.diffraction.acquisition import Acquisition
from pyxem_nas.diffraction.disorientation import disorientation_angles, turned_about_beam
from pyxem_nas.diffraction.dynamical import (
    DynamicalDraw,
    DynamicalSpots,
    SpotLibrary,
    draw_dynamical_spots,
)
from pyxem_nas.diffraction.foreign import make_foreign_phases, make_foreign_reflections
from pyxem_nas.diffraction.hosts import check_hosts, get_lattice_parameters
from pyxem_nas.diffraction.kinematical import excitation_error, rocking_factor, simulate_spots
from pyxem_nas.diffraction.orientation import (
    OrientationCells,
    fibonacci_sphere,
    laue_proper_group,
    make_cells,
    multiply_quaternions,
    quaternions_to_matrices,
    random_quaternions,
    rotate_vectors,
)
from pyxem_nas.diffraction.reflections import Reflections, get_reflections

__all__ = [
    "Acquisition",
    "DynamicalDraw",
    "DynamicalSpots",
    "OrientationCells",
    "Reflections",
    "SpotLibrary",
    "check_hosts",
    "disorientation_angles",
    "draw_dynamical_spots",
    "excitation_error",
    "fibonacci_sphere",
    "get_lattice_parameters",
    "get_reflections",
    "laue_proper_group",
    "make_cells",
    "make_foreign_phases",
    "make_foreign_reflections",
    "multiply_quaternions",
    "quaternions_to_matrices",
    "random_quaternions",
    "rocking_factor",
    "rotate_vectors",
    "simulate_spots",
    "turned_about_beam",
]
