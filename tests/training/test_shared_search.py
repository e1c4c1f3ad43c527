"""A trunk for all networks: searched, trained, and kept when a phase is added."""

import functools

import numpy as np
import pytest
from conftest import build_tiny_trunk

from pyxem_nas import Acquisition, ModelBundle, example_phases, search_models
from pyxem_nas.bundles import TRUNK, Architecture
from pyxem_nas.bundles.bundle import number_phases
from pyxem_nas.diffraction import get_reflections, make_cells
from pyxem_nas.scans.source import DescriptorSource
from pyxem_nas.training import bundle_training, network_training, training_source

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def quick(monkeypatch):
    """Few foreign crystals, little calibration."""
    monkeypatch.setattr(training_source, "N_FOREIGN", 10)
    monkeypatch.setattr(training_source, "_N_FOREIGN_PHASES", 2)
    calibrate = functools.partial(bundle_training.calibrate, n=300)
    monkeypatch.setattr(bundle_training, "calibrate", calibrate)


def test_each_pattern_teaches_the_head_of_its_phase(steel):
    phases = [steel["ferrite"], steel["NbC"]]
    source = DescriptorSource(get_reflections(phases), 2, Acquisition(200))
    cells = {k: make_cells(phase) for k, phase in enumerate(phases)}
    _, classes, quaternions = source.simulate(60, np.random.default_rng(0))
    labels = network_training.shared_labels(cells, classes, quaternions)
    assert set(classes) == {0, 1, 2} and np.array_equal(labels["phase"], classes)
    for k in (0, 1):
        of_phase = labels[f"orientation_{k}"]
        assert (of_phase[classes != k] == -1).all()
        expected = network_training.cell_labels(cells[k], quaternions[classes == k])
        assert np.array_equal(of_phase[classes == k], expected)


def test_rows_without_a_label_do_not_count():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(8, 5)).astype(np.float32)
    labels = np.array([3, -1, -1, 0, -1, -1, 2, 4], np.int32)
    loss = network_training.partial_entropy_class()(2)
    share = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    known = labels >= 0
    by_hand = -np.log(share[known, labels[known]]).mean()
    assert float(loss(labels, logits)) == pytest.approx(by_hand, rel=1e-5)


def test_searched_trunk_is_kept_when_a_phase_is_added(quick, tmp_path, monkeypatch):
    from pyxem_nas.training import search_space

    monkeypatch.setattr(search_space.DescriptorTrunk, "build", build_tiny_trunk)
    acquisition, lines = Acquisition(200, 0.7), []
    options = {"n_samples": 512, "n_dynamical": 20, "seed": 2, "shared_trunk": True}
    bundle = search_models(
        example_phases("silver"), acquisition, report=lines.append,
        max_trials=1, epochs=1, directory=tmp_path / "first", **options,
    )  # fmt: skip
    assert set(bundle.models) == {TRUNK, "phase", "orientation_0"}
    assert bundle.search_report[0]["target"] == "shared trunk"
    assert sum("searching" in line for line in lines) == 1
    bundle.save(tmp_path / "ag.nas")
    bundle = ModelBundle.load(tmp_path / "ag.nas")

    both = number_phases([*bundle.phases, example_phases("steel")["NbC"]])
    more = search_models(
        both, acquisition, initial=bundle, max_trials=0, directory=tmp_path / "more", **options
    )
    assert set(more.models) == {TRUNK, "phase", "orientation_0", "orientation_1"}
    assert more.models[TRUNK] == bundle.models[TRUNK]
    assert more.models["orientation_0"] == bundle.models["orientation_0"]
    alone = search_models(
        number_phases([example_phases("steel")["NbC"]]), acquisition, initial=bundle,
        max_trials=0, directory=tmp_path / "alone", architecture=Architecture(width=99), **options,
    )  # fmt: skip
    assert ModelBundle.merge(bundle, alone).models[TRUNK] == bundle.models[TRUNK]
