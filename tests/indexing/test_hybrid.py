"""The phase by physics, neighbours and second crystals, through the signal method."""

import dataclasses

import dask.array as da
import numpy as np
import pytest
from conftest import as_signal, draw_with_diffsims

from pyxem_nas import Acquisition, ModelBundle, evaluate, simulate_scan
from pyxem_nas.diffraction import disorientation_angles, laue_operations, random_quaternions
from pyxem_nas.diffraction.kinematical import simulate_spots
from pyxem_nas.diffraction.reflections import get_reflections
from pyxem_nas.indexing.predictor import Predictor
from pyxem_nas.maps.crystal_map import best_rotations

ACQUISITION = Acquisition(200, 0.5)


@pytest.fixture(scope="module")
def steel_bundle():
    return ModelBundle.load("steel")


@pytest.fixture(scope="module")
def without_phase_network(steel_bundle):
    models = {name: m for name, m in steel_bundle.models.items() if name != "phase"}
    return dataclasses.replace(steel_bundle, models=models, pattern_spec=None)


@pytest.fixture(scope="module")
def scan(steel_bundle):
    return simulate_scan(steel_bundle.phase_list, (6, 8), ACQUISITION, seed=5, n_grains=4)


def test_phase_is_decided_without_a_phase_network(scan, without_phase_network):
    signal, truth = scan
    xmap = signal.index_phase_orientation(without_phase_network, method="network", min_confidence=0)
    assert evaluate(xmap, truth).phase_accuracy > 0.85
    indexed = xmap.phase_id >= 0
    for name, highest in (("phase_probability", 1), ("phase_reliability", 100)):
        values = xmap.prop[name][indexed]
        assert np.isfinite(values).all()
        assert (values >= 0).all()
        assert (values <= highest).all()


@pytest.mark.parametrize("method", ["network", "hybrid"])
def test_each_pattern_is_shown_to_the_phase_network_once(method, scan, steel_bundle, monkeypatch):
    shown, run = [], Predictor.run

    def count(predictor, name, inputs):
        if name == "phase":
            shown.append(len(inputs))
        return run(predictor, name, inputs)

    monkeypatch.setattr(Predictor, "run", count)
    signal, _ = scan
    signal.index_phase_orientation(steel_bundle, method=method)
    assert sum(shown) == signal.axes_manager.navigation_size


def test_merged_bundle_tells_phases_of_two_bundles(steel_bundle):
    merged = ModelBundle.merge(steel_bundle, ModelBundle.load("silver"))
    rng = np.random.default_rng(2)
    for name in ("silver", "cementite"):
        k = merged.phase_names.index(name)
        phase = merged.phases[k]
        candidates = random_quaternions(100, rng)
        spots = simulate_spots(
            get_reflections([phase]), candidates, ACQUISITION, max_excitation_error=0.01
        )
        # a row of spots belongs to many phases
        rich = [np.sum(i > 0.02 * i.max(initial=0)) >= 10 for _, i, _ in spots]
        images = draw_with_diffsims(phase, candidates[rich][:20])
        xmap = as_signal(images).index_phase_orientation(
            merged, method="network", acquisition=ACQUISITION, min_confidence=0
        )
        assert (xmap.phase_id == k).mean() >= 0.8


def test_decision_regularization_and_overlaps_do_not_depend_on_chunks(scan, without_phase_network):
    signal, _ = scan
    options = {
        "method": "network", "show_progressbar": False, "regularize": True, "n_overlaps": 2,
        "n_best": 2,
    }  # fmt: skip
    eager = signal.index_phase_orientation(without_phase_network, **options)
    assert eager.prop["rotation_2"].shape == (48, 4)
    assert eager.rotations_per_point == 2
    lazy = signal.as_lazy()
    lazy.data = da.from_array(signal.data, chunks=(4, 3, 144, 144))
    xmap = lazy.index_phase_orientation(without_phase_network, **options)
    np.testing.assert_array_equal(xmap.phase_id, eager.phase_id)
    np.testing.assert_array_equal(xmap.rotations.data, eager.rotations.data)
    for name in eager.prop:
        np.testing.assert_array_equal(xmap.prop[name], eager.prop[name])


def test_neighbours_change_only_what_they_say(scan, steel_bundle):
    signal, _ = scan
    options = {"method": "network", "show_progressbar": False, "n_best": 2}
    mask = np.zeros((6, 8), bool)
    mask[2, 3] = True
    plain = signal.index_phase_orientation(steel_bundle, navigation_mask=mask, **options)
    xmap = signal.index_phase_orientation(
        steel_bundle, navigation_mask=mask, regularize=True, **options
    )
    kept = xmap.prop["regularized"] == 0
    assert kept.any()
    np.testing.assert_array_equal(xmap.phase_id[kept], plain.phase_id[kept])
    np.testing.assert_array_equal(xmap.rotations.data[kept][:, 0], plain.rotations.data[kept][:, 0])
    np.testing.assert_array_equal(xmap.is_in_data, ~mask.ravel())
    probability = xmap.prop["orientation_probability"][xmap.phase_id >= 0]
    assert ((probability >= 0) & (probability <= 1)).all()


@pytest.mark.parametrize("shape", [(12,), ()])
def test_lines_and_single_patterns_are_regularized(shape, scan, steel_bundle):
    signal, _ = scan
    part = signal.inav[:, 2] if shape else signal.inav[3, 2]
    options = {"method": "network", "show_progressbar": False, "min_confidence": 0}
    xmap = part.index_phase_orientation(steel_bundle, regularize=True, **options)
    plain = part.index_phase_orientation(steel_bundle, **options)
    assert xmap.size == plain.size
    if not shape:
        np.testing.assert_allclose(xmap.rotations.data, plain.rotations.data)


def test_second_crystal_is_found(steel_bundle):
    rng = np.random.default_rng(8)
    names = ("NbC", "cementite")
    truth = [random_quaternions(16, rng) for _ in names]
    phases = [steel_bundle.phases[steel_bundle.phase_names.index(name)] for name in names]
    images = [draw_with_diffsims(p, q) for p, q in zip(phases, truth, strict=True)]
    xmap = as_signal(images[0] + 0.6 * images[1]).index_phase_orientation(
        steel_bundle, method="network", acquisition=ACQUISITION, n_overlaps=2, min_confidence=0
    )
    found = {}
    answers = (
        (xmap.phase_id, best_rotations(xmap).data.reshape(-1, 4)),
        (xmap.prop["phase_id_2"], xmap.prop["rotation_2"]),
    )
    for name, phase, true in zip(names, phases, truth, strict=True):
        k = steel_bundle.phase_names.index(name)
        found[name] = np.zeros(16, bool)
        for phase_id, quaternions in answers:
            angle = disorientation_angles(quaternions, true, laue_operations(phase))
            found[name] |= (np.asarray(phase_id) == k) & (angle < 5)
    both = found["NbC"] & found["cementite"]
    assert both.mean() >= 0.5
    assert np.median(xmap.prop["probability_2"][both]) > 0.5


def test_second_crystal_survives_saving(tmp_path, scan, steel_bundle):
    from orix.io import load

    from pyxem_nas import save_map

    signal, _ = scan
    xmap = signal.index_phase_orientation(
        steel_bundle, method="network", n_overlaps=2, min_confidence=0
    )
    for suffix in ("h5", "ang", "ctf"):
        save_map(tmp_path / f"map.{suffix}", xmap)
    loaded = load(tmp_path / "map.h5")
    np.testing.assert_allclose(loaded.prop["rotation_2"], xmap.prop["rotation_2"])


def test_number_of_overlaps_is_checked(scan, steel_bundle):
    with pytest.raises(ValueError, match="1 or 2 crystals"):
        scan[0].index_phase_orientation(steel_bundle, n_overlaps=3)
