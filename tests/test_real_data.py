"""Real scans from ../shared/data; skipped, saying so, where they are not there."""

import hyperspy.api as hs
import numpy as np
import pytest
from conftest import shared_data
from orix.crystal_map import Phase

from pyxem_nas import Acquisition, ModelBundle
from pyxem_nas.bundles.bundle import number_phases
from pyxem_nas.diffraction import disorientation_angles, laue_operations


def load_silver(lazy):
    path = shared_data("silver/silver_52x16.blo")
    signal = hs.load(path, lazy=lazy, signal_type="electron_diffraction")
    for axis in signal.axes_manager.signal_axes:
        axis.scale, axis.units, axis.offset = 0.026728, "$A^{-1}$", 0
    return signal, np.load(shared_data("silver/grain_labels.npy")).ravel()


@pytest.fixture(scope="module")
def bundles():
    phase = Phase.from_cif(str(shared_data("cif/Ag-Silver.cif")))
    acquisition = Acquisition(200, 1.0)
    return {
        "network": ModelBundle.load("silver"),
        "template": ModelBundle.from_phases(number_phases([phase]), acquisition),
    }


@pytest.mark.filterwarnings("ignore:no beam centre")
@pytest.mark.parametrize("branch", ["network", "template"])
@pytest.mark.parametrize("lazy", [False, True])
def test_two_silver_grains_are_twins(branch, lazy, bundles):
    if branch == "template" and lazy:
        pytest.skip("once is enough for the slow branch")
    signal, labels = load_silver(lazy)
    xmap = signal.index_phase_orientation(
        bundles[branch],
        method=branch,
        acquisition=Acquisition(200, 1.0),
        center="auto",
        show_progressbar=False,
    )
    np.testing.assert_array_equal(xmap.phase_id == -1, labels == -1)
    group = laue_operations(xmap.phases[0])
    medians = []
    for grain in np.unique(labels[labels >= 0]):
        rotations = xmap.rotations.data[labels == grain]
        angles = np.stack(
            [
                disorientation_angles(rotations, np.tile(r, (len(rotations), 1)), group)
                for r in rotations[:25]
            ]
        )
        centre = rotations[np.median(angles, axis=1).argmin()]
        spread = disorientation_angles(rotations, np.tile(centre, (len(rotations), 1)), group)
        assert np.mean(spread < 3) == 1  # every position of a grain has one orientation
        medians.append(centre)
    between = disorientation_angles(medians[0][None], medians[1][None], group)[0]
    assert between == pytest.approx(60, abs=1.5)


@pytest.mark.filterwarnings("ignore:no beam centre")
def test_scan_of_unknown_phase_is_indexed_with_low_confidence():
    path = shared_data("nanomegas_2x3.blo")
    signal = hs.load(path, signal_type="electron_diffraction")
    for axis in signal.axes_manager.signal_axes:
        axis.scale, axis.units, axis.offset = 0.0123, "$A^{-1}$", 0
    xmap = signal.index_phase_orientation("steel", method="network", show_progressbar=False)
    assert xmap.shape == (2, 3) or xmap.shape == (3, 2)
    confidence = xmap.prop["phase_probability"] * xmap.prop["orientation_probability"]
    assert (confidence[xmap.phase_id >= 0] < 0.9).all()
