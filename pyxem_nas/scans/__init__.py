"""Scans: synthetic images, descriptors and whole scans with their truth.

The random cameras that networks are trained on and the streams of simulated descriptors. Spots come
from `diffraction`, the descriptor from `patterns`.
"""

from pyxem_nas.scans.camera import simulate_descriptors
from pyxem_nas.scans.randomization import Randomization
from pyxem_nas.scans.source import N_FOREIGN, DescriptorSource, make_source
from pyxem_nas.scans.specimens import example_phases
from pyxem_nas.scans.synthetic import simulate_scan

__all__ = [
    "DescriptorSource",
    "N_FOREIGN",
    "Randomization",
    "example_phases",
    "make_source",
    "simulate_descriptors",
    "simulate_scan",
]
