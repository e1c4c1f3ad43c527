"""What a network adds to matching, against arithmetic by hand, and as a search's objective."""

import numpy as np
import pytest
from conftest import build_tiny_trunk

from pyxem_nas import Acquisition, ModelBundle, example_phases
from pyxem_nas.diffraction import get_reflections, make_cells, random_quaternions
from pyxem_nas.scans.source import DescriptorSource
from pyxem_nas.training.added_value import AddedValue, draw_added_value
from pyxem_nas.training.search import SearchSettings, search_orientation_architecture


@pytest.fixture(scope="module")
def phases():
    return example_phases("silver")


@pytest.fixture(scope="module")
def cells(phases):
    return make_cells(phases[0], spacing=15)


@pytest.fixture(scope="module")
def source(phases):
    return DescriptorSource(get_reflections([phases[0]]), 1, Acquisition(200))


def test_network_that_knows_the_truth_adds_what_was_missing(cells):
    rng = np.random.default_rng(0)
    candidates = random_quaternions(40, rng).reshape(20, 2, 4)
    share = np.tile([0.45, 0.45, 0.1], (20, 1))
    right = np.tile([False, True, False], (20, 1))
    value = AddedValue(np.empty(0), candidates, np.log(share), right, cells)
    assert value.measure_matching() == pytest.approx(-np.log(0.45))
    flat = np.zeros((20, cells.n_cells), np.float32)
    assert value.measure(flat) <= value.measure_matching()  # the weight may be 0
    direction, inplane = cells.encode(candidates[:, 1])
    truth = np.round(inplane).astype(int) % cells.n_inplane * cells.n_directions + direction
    knowing = flat.copy()
    knowing[np.arange(20), truth] = 15
    # the other candidate is out of the question, none of them is not
    assert value.measure(knowing) == pytest.approx(-np.log(0.45 / 0.55), abs=1e-3)
    direction, inplane = cells.encode(candidates[:, 0])
    wrong = np.round(inplane).astype(int) % cells.n_inplane * cells.n_directions + direction
    misled = flat.copy()
    misled[np.arange(20), wrong] = 15
    assert value.measure(misled) == pytest.approx(value.measure_matching(), abs=1e-6)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_trials_are_ordered_by_what_they_add(phases, cells, source, tmp_path, monkeypatch):
    from pyxem_nas.training import search_space

    monkeypatch.setattr(search_space.DescriptorTrunk, "build", build_tiny_trunk)
    bundle = ModelBundle.from_phases(phases, source.acquisition)
    added = draw_added_value(bundle, source, 0, cells, n=32, seed=1)
    np.testing.assert_allclose(np.exp(added.log_share).sum(axis=1), 1, atol=1e-6)
    assert added.right.any(axis=1).all()
    settings = SearchSettings(
        max_trials=2, epochs=1, n_train=64, n_validation=64, seed=1, objective="with matching"
    )
    report = search_orientation_architecture(source, cells, 0, settings, tmp_path, added=added)
    reached = [trial["with_matching"] for trial in report.trials]
    assert len(reached) == 2 and reached == sorted(reached)
    assert all(0 < value <= added.measure_matching() + 1e-6 for value in reached)
    assert all(trial["validation_loss"] > 1 for trial in report.trials)
