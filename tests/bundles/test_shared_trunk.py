"""One trunk for all networks: the same answers as from whole networks, whatever is done with it."""

import dataclasses

import numpy as np
import pytest

from pyxem_nas import ModelBundle
from pyxem_nas.bundles import (
    TRUNK,
    Architecture,
    BundleError,
    build_shared_networks,
    dump_keras,
    load_whole,
)
from pyxem_nas.diffraction import make_cells
from pyxem_nas.indexing.described import Described
from pyxem_nas.indexing.predictor import Predictor


@pytest.fixture(scope="module")
def bundle(steel):
    """Ferrite and NbC with a trunk and three heads, not trained."""
    import keras

    keras.utils.set_random_seed(0)
    known = ModelBundle.load("steel").select_phases(["ferrite", "NbC"])
    cells = {k: make_cells(phase) for k, phase in enumerate(known.phases)}
    networks = build_shared_networks(Architecture(width=16), known.spec.shape, cells, 3)
    models = {name: dump_keras(network) for name, network in networks.items()}
    return dataclasses.replace(known, name="shared", models=models, cells=cells, judges={})


@pytest.fixture(scope="module")
def descriptors(bundle):
    rng = np.random.default_rng(1)
    return rng.random((130, *bundle.spec.shape)).astype(np.float32)


def predict(bundle, name, descriptors):
    return Predictor(bundle, "float32").run(name, descriptors)[0]


def test_heads_see_the_trunk_and_whole_networks_answer_the_same(bundle, descriptors):
    whole = bundle.with_whole_networks()
    assert set(whole.models) == set(bundle.models) - {TRUNK} and not whole.has_trunk
    for name in whole.models:
        expected = load_whole(bundle, name).predict(descriptors, verbose=0)
        np.testing.assert_allclose(predict(bundle, name, descriptors), expected, atol=1e-4)
        np.testing.assert_allclose(predict(whole, name, descriptors), expected, atol=1e-4)


def test_a_stack_passes_the_trunk_once(bundle, descriptors, monkeypatch):
    predictor, n = Predictor(bundle, "float32"), []
    extract = predictor.extract_features
    monkeypatch.setattr(predictor, "extract_features", lambda d: n.append(len(d)) or extract(d))
    described = Described(descriptors, descriptors, bundle.spec, trunk=predictor.trunk)
    alone, _ = predictor.run("orientation_1", described.take(np.array([3, 129])).descriptors)
    n.clear()
    predictor.log_phase_probability(described.phase_input)
    few = described.take(np.array([3, 129]))
    logits, _ = predictor.run("orientation_1", few.network_input)
    predictor.find_candidates(0, few.network_input)
    assert n == [130]
    np.testing.assert_allclose(logits, alone, atol=1e-5)


def test_eight_bits_give_nearly_the_same(bundle, descriptors, monkeypatch, tmp_path):
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_: tmp_path)
    for name in ("phase", "orientation_0"):
        exact = predict(bundle, name, descriptors)
        short, _ = Predictor(bundle, "int8").run(name, descriptors)
        assert np.corrcoef(exact.ravel(), short.ravel())[0, 1] > 0.98


def test_a_file_a_selection_and_a_merger_keep_the_trunk(bundle, descriptors, tmp_path):
    bundle.save(tmp_path / "shared.nas")
    loaded = ModelBundle.load(tmp_path / "shared.nas")
    assert loaded.has_trunk and loaded.models == bundle.models
    nbc, ferrite = (bundle.select_phases([name]) for name in ("NbC", "ferrite"))
    assert set(nbc.models) == {TRUNK, "orientation_0"}
    merged = ModelBundle.merge(nbc, ferrite)
    assert set(merged.models) == {TRUNK, "orientation_0", "orientation_1"}
    np.testing.assert_array_equal(
        predict(merged, "orientation_0", descriptors), predict(bundle, "orientation_1", descriptors)
    )


def test_a_merger_of_two_trunks_has_whole_networks(bundle, descriptors):
    silver = ModelBundle.load("silver").select_phases(["silver"])
    silver = dataclasses.replace(silver, models={"orientation_0": silver.models["orientation_0"]})
    merged = ModelBundle.merge(bundle, silver)
    assert set(merged.models) == {"orientation_0", "orientation_1", "orientation_2"}
    np.testing.assert_allclose(
        predict(merged, "orientation_0", descriptors),
        predict(bundle, "orientation_0", descriptors),
        atol=1e-4,
    )


def test_a_head_of_another_trunk_is_refused(bundle, descriptors):
    networks = build_shared_networks(Architecture(width=24), bundle.spec.shape, bundle.cells, 3)
    models = {**bundle.models, "orientation_0": dump_keras(networks["orientation_0"])}
    foreign = dataclasses.replace(bundle, models=models)
    with pytest.raises(BundleError, match="make the bundle anew"):
        predict(foreign, "orientation_0", descriptors)
