"""Crystals as the field writes them, indexed in patterns that nothing of the hosts has made."""

import json

import numpy as np
import pytest
from conftest import SHARED, as_signal

from pyxem_nas import Acquisition, ModelBundle, read_phases
from pyxem_nas.diffraction import disorientation_angles, matrices_to_quaternions, turned_about_beam

CRYSTALS = SHARED / "crystals"
SCALE, N_PIXELS = 0.026, 144


def _patterns(reference, k, n):
    """Draw the first n patterns of a crystal as Gaussian peaks, y up."""
    stop = np.cumsum(reference[f"n{k}"])
    spots = np.split(reference[f"s{k}"], stop[:-1])[:n]
    row, column = np.indices((N_PIXELS, N_PIXELS))
    x, y = (column - N_PIXELS / 2 + 0.5) * SCALE, -(row - N_PIXELS / 2 + 0.5) * SCALE
    images = np.zeros((n, N_PIXELS, N_PIXELS))
    for image, pattern in zip(images, spots, strict=True):
        for sx, sy, intensity in pattern:
            image += intensity * np.exp(-((x - sx) ** 2 + (y - sy) ** 2) / (2 * 0.025**2))
    return np.sqrt(images / images.max(axis=(1, 2), keepdims=True)).astype(np.float32)


@pytest.mark.skipif(not CRYSTALS.exists(), reason="the shared crystals are not here")
@pytest.mark.parametrize("name", ["monoclinic C2/c, tenorite", "quartz P3221"])
def test_crystal_with_axes_of_its_own_is_indexed_through_a_file(name, tmp_path):
    with np.load(CRYSTALS / "reference.npz") as reference:
        meta = json.loads(str(reference["meta"]))
        k = next(k for k, m in enumerate(meta) if m["name"] == name)
        images, true = _patterns(reference, k, 24), reference[f"q{k}"][:24]
        operations = matrices_to_quaternions(reference[f"laue{k}"])
    made = ModelBundle.from_phases(read_phases(CRYSTALS / meta[k]["file"]), Acquisition(200, 0.7))
    made.save(tmp_path / "one.nas")
    signal = as_signal(images, scale=SCALE, center=(71.5, 71.5))
    xmap = signal.index_phase_orientation(
        ModelBundle.load(tmp_path / "one.nas"), method="match", min_confidence=0,
        show_progressbar=False,
    )  # fmt: skip
    found = xmap.rotations.data.reshape(24, -1, 4)[:, 0]
    angles = np.minimum(
        disorientation_angles(found, true, operations),
        disorientation_angles(turned_about_beam(found), true, operations),
    )
    assert (angles < 5).mean() > 0.9
