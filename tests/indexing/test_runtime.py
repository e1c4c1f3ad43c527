"""What runs a network: eight bits give what single precision gives, and nothing is trusted."""

import time

import numpy as np
import pytest

from pyxem_nas import Acquisition, ModelBundle, example_phases
from pyxem_nas.bundles.architectures import Architecture, build_phase_network
from pyxem_nas.bundles.bundle import shipped_bundles
from pyxem_nas.bundles.network_files import dump_keras
from pyxem_nas.indexing import runtime
from pyxem_nas.indexing.runtime import BATCH, Sample, choose_precision, get_copy_name, load_network


@pytest.fixture(scope="module")
def bundle():
    """A phase network of every kind of layer that a search may choose."""
    import keras

    keras.utils.set_random_seed(5)
    architecture = Architecture(
        width=8, n_blocks=2, normalization="batch", squeeze_excitation=True, radial_mixing="2d"
    )
    bundle = ModelBundle.from_phases(example_phases("silver"), Acquisition(200, 0.5))
    network = dump_keras(build_phase_network(architecture, (40, 180), 2))
    return ModelBundle("tiny", bundle.phase_list, bundle.acquisition, models={"phase": network})


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setattr(runtime.platformdirs, "user_cache_path", lambda name: tmp_path)
    monkeypatch.setattr(runtime, "_networks", {})
    return tmp_path / "int8"


def test_eight_bits_give_the_logits_of_single_precision(bundle, cache):
    sample = Sample(bundle, "phase")
    inputs = sample.draw()[:BATCH]
    exact = load_network(bundle.models["phase"], "float32", sample)
    short = load_network(bundle.models["phase"], "int8", sample)
    assert short.input_shape == exact.input_shape == (40, 180)
    assert short.output_shape == exact.output_shape == (2,)
    logits = exact.predict(inputs)
    steps = short.predict(inputs)
    assert steps.dtype == np.int8
    error = short.scale * steps.astype(float) - logits
    error -= error.mean()  # the zero of the steps means nothing
    assert 0 < np.abs(error).max() < 0.1 * np.ptp(logits)


@pytest.mark.parametrize("n_workers", [1, 3])
@pytest.mark.parametrize("n", [1, BATCH, 5 * BATCH + 7])
def test_batches_side_by_side_come_in_their_order(n, n_workers):
    shapes = []

    def predict(batch):
        shapes.append(batch.shape)
        time.sleep(0.02 if batch[0, 0] == 0 else 0)  # the first is the last to be done
        return 2 * batch

    network = runtime.Network((1,), 1, predict, n_workers=n_workers)
    inputs = np.arange(n, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(np.concatenate(list(network.predict_all(inputs))), 2 * inputs)
    assert set(shapes) == {(BATCH, 1)}


def test_a_copy_is_made_once_and_again_when_it_is_damaged(bundle, cache, monkeypatch, caplog):
    made = []
    monkeypatch.setattr(runtime, "quantize", lambda content, inputs: made.append(1) or b"copy")
    sample = Sample(bundle, "phase")
    content = bundle.models["phase"]
    for _ in range(2):
        assert runtime._get_copy(content, sample) == b"copy"
    assert len(made) == 1
    path = cache / get_copy_name(content, sample)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert runtime._get_copy(content, sample) == b"copy"
    assert len(made) == 2
    assert "is damaged" in caplog.text


def test_a_network_that_has_no_copy_runs_in_single_precision(bundle, cache, monkeypatch, caplog):
    def refuse(content, inputs):
        raise ValueError("no such operation")

    monkeypatch.setattr(runtime, "quantize", refuse)
    sample = Sample(bundle, "phase")
    network = load_network(bundle.models["phase"], "int8", sample)
    assert "no such operation" in caplog.text
    assert network.predict(sample.draw()[:BATCH]).shape == (BATCH, 2)


def test_a_part_of_a_bundle_has_the_copies_of_the_whole():
    steel = ModelBundle.load("steel")
    part = steel.select_phases([steel.phase_names[1]])
    content = steel.models["orientation_1"]
    assert part.models["orientation_0"] == content
    whole = Sample(steel, "orientation_1")
    assert get_copy_name(content, whole) == get_copy_name(content, Sample(part, "orientation_0"))
    np.testing.assert_array_equal(whole.draw(), Sample(part, "orientation_0").draw())


@pytest.mark.parametrize("name", shipped_bundles())
def test_shipped_bundles_have_their_copies(name):
    bundle = ModelBundle.load(name)
    for model, content in bundle.models.items():
        assert (runtime._SHIPPED / get_copy_name(content, Sample(bundle, model))).is_file()


def test_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="must be 'auto', 'float32' or 'int8'"):
        choose_precision("int4")
