"""Diffraction: crystals and a microscope -> spots; orientation space.

Phases, their reflections, which of them an orientation excites (kinematically and by Bloch waves),
and orientations: cells, symmetry, disorientation. Knows no image and no detector.
"""

from pyxem_nas.diffraction.acquisition import Acquisition
from pyxem_nas.diffraction.crystals import TO_HEXAGONAL, check_phase, read_phases
from pyxem_nas.diffraction.disorientation import disorientation_angles, turned_about_beam
from pyxem_nas.diffraction.dynamical import draw_dynamical_spots, simulate_dynamical_spots
from pyxem_nas.diffraction.foreign import make_foreign_phases, make_foreign_reflections
from pyxem_nas.diffraction.hosts import check_hosts, get_lattice_parameters
from pyxem_nas.diffraction.kinematical import excitation_error, rocking_factor, simulate_spots
from pyxem_nas.diffraction.orientation import (
    OrientationCells,
    fibonacci_sphere,
    make_cells,
)
from pyxem_nas.diffraction.quaternions import (
    matrices_to_quaternions,
    multiply_quaternions,
    quaternions_to_matrices,
    random_quaternions,
    rotate_vectors,
)
from pyxem_nas.diffraction.reflections import (
    Reflections,
    get_reflections,
    list_reciprocal_lattice,
    structure_factors,
)
from pyxem_nas.diffraction.spot_library import DynamicalDraw, DynamicalSpots, SpotLibrary
from pyxem_nas.diffraction.symmetry import (
    laue_operations,
    name_laue_group,
    name_proper_group,
    standard_operations,
    to_orix,
)
from pyxem_nas.diffraction.unit_cell import UnitCell, get_unit_cell

__all__ = [
    "Acquisition",
    "DynamicalDraw",
    "DynamicalSpots",
    "OrientationCells",
    "Reflections",
    "SpotLibrary",
    "TO_HEXAGONAL",
    "UnitCell",
    "check_hosts",
    "check_phase",
    "disorientation_angles",
    "draw_dynamical_spots",
    "excitation_error",
    "fibonacci_sphere",
    "get_lattice_parameters",
    "get_reflections",
    "get_unit_cell",
    "laue_operations",
    "list_reciprocal_lattice",
    "make_cells",
    "make_foreign_phases",
    "make_foreign_reflections",
    "matrices_to_quaternions",
    "multiply_quaternions",
    "name_laue_group",
    "name_proper_group",
    "quaternions_to_matrices",
    "random_quaternions",
    "read_phases",
    "rocking_factor",
    "rotate_vectors",
    "simulate_dynamical_spots",
    "simulate_spots",
    "standard_operations",
    "structure_factors",
    "to_orix",
    "turned_about_beam",
]
