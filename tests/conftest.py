"""Shared phases and patterns. The truth of patterns comes from diffsims, not from the package."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# two processes that compile into one cache of numba spoil it for each other: to each its own
if "PYTEST_XDIST_WORKER" in os.environ:
    _CACHE = Path(__file__).parents[1] / ".pytest_cache" / "numba"
    os.environ["NUMBA_CACHE_DIR"] = str(_CACHE / os.environ["PYTEST_XDIST_WORKER"])

import numpy as np
import pytest

SHARED = Path(__file__).parents[2] / "shared" / "data"


def shared_data(name: str) -> Path:
    """Return a file of the shared data, or skip the test, saying so."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"needs ../shared/data/{name}")
    return path


@pytest.fixture(scope="session")
def steel():
    """Phases ferrite, NbC, cementite by name."""
    from pyxem_nas import example_phases

    return {phase.name: phase for _, phase in example_phases("steel")}


@pytest.fixture(scope="session")
def titanium():
    """Hexagonal titanium."""
    from diffpy.structure import Atom, Lattice, Structure
    from orix.crystal_map import Phase

    atoms = [Atom("Ti", [1 / 3, 2 / 3, 1 / 4]), Atom("Ti", [2 / 3, 1 / 3, 3 / 4])]
    lattice = Lattice(2.95, 2.95, 4.686, 90, 90, 120)
    return Phase("Ti", space_group=194, structure=Structure(atoms=atoms, lattice=lattice))


def draw_with_diffsims(phase, quaternions, *, scale=0.0246, shape=(144, 144), center=(70.3, 72.9)):
    """Return images (n, ny, nx), row 0 at the top, of diffsims' spots drawn as Gaussian peaks."""
    from diffsims.generators.simulation_generator import SimulationGenerator
    from orix.quaternion import Rotation

    generator = SimulationGenerator(200, precession_angle=0.5)
    simulation = generator.calculate_diffraction2d(
        phase,
        Rotation(quaternions),
        reciprocal_radius=1.7,
        max_excitation_error=0.01,
        with_direct_beam=True,
    )
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    images = np.zeros((len(quaternions), *shape), np.float32)
    coordinates = simulation.coordinates if len(quaternions) > 1 else [simulation.coordinates]
    for image, vectors in zip(images, coordinates, strict=True):
        intensity = np.asarray(vectors.intensity, float)
        xyz = vectors.data.reshape(-1, 3)
        diffracted = np.hypot(xyz[:, 0], xyz[:, 1]) > 0.05
        intensity = intensity / intensity[diffracted].max()
        intensity[~diffracted] = 3
        for (x, y, _), value in zip(xyz, intensity, strict=True):
            column, row = center[0] + x / scale, center[1] - y / scale
            image += 2000 * value * np.exp(-0.5 * ((columns - column) ** 2 + (rows - row) ** 2) / 2)
    return images


def as_signal(images, *, scale=0.0246, units="$A^{-1}$", center=(70.3, 72.9), lazy=False):
    """Return a calibrated ElectronDiffraction2D of images (..., ny, nx)."""
    from pyxem.signals import ElectronDiffraction2D

    signal = ElectronDiffraction2D(images)
    for axis, position in zip(signal.axes_manager.signal_axes, center, strict=True):
        axis.scale, axis.units, axis.offset = scale, units, -position * scale
    return signal.as_lazy() if lazy else signal


def disorientation(xmap, truth, phase):
    """Return the angles in degrees between a map's best orientations and quaternions."""
    from pyxem_nas.diffraction import disorientation_angles, laue_operations
    from pyxem_nas.maps.crystal_map import best_rotations

    found = best_rotations(xmap).data.reshape(-1, 4)
    return disorientation_angles(found, truth, laue_operations(phase))


def build_tiny_trunk(self, hp, inputs=None):
    """Stand for `DescriptorTrunk.build`: networks whose trials take seconds."""
    import tree

    from pyxem_nas.bundles import architectures as networks

    width = hp.Choice("width", [4, 8], default=4)
    architecture = networks.Architecture(width=width, n_blocks=1)
    return networks.build_trunk(tree.flatten(inputs)[0], architecture)


def perturb(quaternions, degrees, rng):
    """Return quaternions (n, 4) turned by random angles of about `degrees`."""
    from pyxem_nas.diffraction import multiply_quaternions

    small = np.concatenate(
        [
            np.ones((len(quaternions), 1)),
            np.deg2rad(degrees) / 2 * rng.normal(size=(len(quaternions), 3)),
        ],
        axis=1,
    )
    return multiply_quaternions(quaternions, small / np.linalg.norm(small, axis=1, keepdims=True))


CHROMIUM_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-sync", "--disable-component-update",
)  # fmt: skip


@pytest.fixture(scope="session")
def browser():
    """The system's Chromium; skipped, saying so, where there is none (CI asks for it)."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if found is None:
        if os.environ.get("PYXEM_NAS_NEEDS_BROWSER"):
            pytest.fail("no chromium on this machine, and PYXEM_NAS_NEEDS_BROWSER is set")
        pytest.skip("needs the system's chromium (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(CHROMIUM_FLAGS))
        yield browser
        browser.close()
