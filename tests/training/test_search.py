import dataclasses
import functools
import hashlib
import json

import numpy as np
import pytest
from conftest import build_tiny_trunk

from pyxem_nas import Acquisition, ModelBundle, example_phases, search_models
from pyxem_nas.bundles.architectures import Architecture, PatternArchitecture
from pyxem_nas.diffraction import make_cells
from pyxem_nas.diffraction.reflections import get_reflections
from pyxem_nas.patterns.spec import PatternSpec
from pyxem_nas.scans.source import DescriptorSource
from pyxem_nas.training.network_training import TrainingSettings
from pyxem_nas.training.search import (
    SearchReport,
    SearchSettings,
    hold_out_domain,
    search_orientation_architecture,
    search_phase_architecture,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def source():
    phases = [phase for _, phase in example_phases("silver")]
    return DescriptorSource(get_reflections(phases), 1, Acquisition(200))


def test_search_reports_every_trial_and_resumes(source, tmp_path, monkeypatch):
    from pyxem_nas.training import search_space

    monkeypatch.setattr(search_space.DescriptorTrunk, "build", build_tiny_trunk)
    phase = next(phase for _, phase in example_phases("silver"))
    cells = make_cells(phase, spacing=15)
    one = SearchSettings(max_trials=1, epochs=1, n_train=64, n_validation=64, seed=1)
    first = search_orientation_architecture(source, cells, 0, one, tmp_path, name="Ag")
    assert len(first.trials) == 1
    more = dataclasses.replace(one, max_trials=2)
    report = search_orientation_architecture(source, cells, 0, more, tmp_path, name="Ag")
    assert len(report.trials) == 2
    kept = next(t for t in report.trials if t["trial"] == first.trials[0]["trial"])
    assert kept["validation_loss"] == first.trials[0]["validation_loss"]  # not run again
    losses = [trial["validation_loss"] for trial in report.trials]
    assert losses == sorted(losses)
    for trial in report.trials:
        assert trial["n_parameters"] > 0
        assert trial["patterns_per_second"] > 0
    assert isinstance(report.architecture, Architecture)
    json.dumps(report.to_dict())


def test_euler_angles_and_cartesian_patterns_are_searched(source, tmp_path):
    phase = next(phase for _, phase in example_phases("silver"))
    cells = make_cells(phase, spacing=15)
    settings = SearchSettings(max_trials=1, epochs=1, n_train=64, n_validation=64, seed=1)
    euler = search_orientation_architecture(
        source, cells, 0, settings, tmp_path, name="Ag", target="euler"
    )
    assert euler.target == "Euler angles of Ag"
    assert np.isfinite(euler.trials[0]["validation_loss"])
    cartesian = dataclasses.replace(source, spec=PatternSpec(size=32))
    pattern = search_phase_architecture(cartesian, settings, tmp_path, rotate=False)
    architecture = pattern.get_pattern_architecture(rotate=False)
    assert architecture == PatternArchitecture(rotate=False)  # the first trial is the default


def test_trials_are_judged_on_another_simulator(source):
    train, judge = hold_out_domain(source.randomization)
    assert train.draw(200, np.random.default_rng(0))["two_beam"].max() == 0
    assert judge.draw(200, np.random.default_rng(0))["two_beam"].min() == 1


def test_bundle_from_phases_without_a_search(tmp_path, monkeypatch):
    from pyxem_nas.training import bundle_training, network_makers, training_source

    monkeypatch.setattr(training_source, "N_FOREIGN", 10)
    monkeypatch.setattr(training_source, "_N_FOREIGN_PHASES", 2)
    calibrate = functools.partial(bundle_training.calibrate, n=300)
    monkeypatch.setattr(bundle_training, "calibrate", calibrate)
    tiny = Architecture(width=16, n_blocks=1)
    options = {
        "max_trials": 0, "n_samples": 512, "n_dynamical": 40, "seed": 2,
        "directory": tmp_path / "work", "architecture": tiny, "phase_architecture": tiny,
    }  # fmt: skip
    lines = []
    acquisition = Acquisition(200, 0.7)
    bundle = search_models(example_phases("silver"), acquisition, report=lines.append, **options)
    assert set(bundle.models) == {"orientation_0", "phase"}
    assert bundle.precession_range == pytest.approx((0.5, 0.9))
    assert bundle.provenance["settings"]["seed"] == 2
    assert any("epoch 1/1" in line for line in lines)
    bundle.save(tmp_path / "ag.nas")
    assert ModelBundle.load(tmp_path / "ag.nas").judges[0]["refined"].none is not None

    again = []
    search_models(example_phases("silver"), acquisition, report=again.append, **options)
    assert not any("epoch" in line for line in again)  # nothing is trained twice
    with pytest.raises(ValueError, match="other settings"):
        search_models(example_phases("silver"), acquisition, **{**options, "seed": 3})
    corrected = example_phases("silver")  # the same name and lattice, another crystal
    for atom in corrected[0].structure:
        atom.occupancy = 0.9
    with pytest.raises(ValueError, match=r"other settings \(\['phases'\] differ\)"):
        search_models(corrected, acquisition, **options)

    other = {**options, "seed": 3, "directory": tmp_path / "more", "initial": bundle}
    rates, lines = [], []
    train = network_makers.train_orientation_network
    monkeypatch.setattr(
        network_makers,
        "train_orientation_network",
        lambda *args, **kwargs: rates.append(args[4].learning_rate) or train(*args, **kwargs),
    )
    more = search_models(example_phases("silver"), acquisition, report=lines.append, **other)
    assert sum("layers start from a trained network" in line for line in lines) == 2
    assert rates == [TrainingSettings().learning_rate / 3]
    assert more.models["orientation_0"] != bundle.models["orientation_0"]
    networks = more.provenance["settings"]["initial"]["networks"]
    assert networks == {
        name: hashlib.sha256(content).hexdigest() for name, content in bundle.models.items()
    }


def test_slow_networks_are_not_chosen():
    trials = [
        {"hyperparameters": {"trunk/width": 128}, "patterns_per_second": 1000.0},
        {"hyperparameters": {"trunk/width": 64}, "patterns_per_second": 3000.0},
    ]

    def report(bound):
        return SearchReport("x", trials, SearchSettings(min_patterns_per_second=bound), 1.0)

    assert report(0.0).architecture.width == 128
    assert report(2000.0).architecture.width == 64
    with pytest.raises(ValueError, match="no trial reached 5000 patterns/s .the fastest 3000"):
        _ = report(5000.0).architecture


@pytest.mark.parametrize(("bound", "n_steps"), [(1e12, 1), (1e-3, 24)])
def test_slow_network_is_given_up_after_a_step(bound, n_steps):
    import keras

    from pyxem_nas.training.search_space import StopSlow

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.ones((64, 4), np.float32)
    model.fit(x, x[:, :1], batch_size=8, epochs=3, verbose=0, callbacks=[StopSlow(bound, x)])
    assert int(model.optimizer.iterations) == n_steps


def test_project_file_of_a_search_is_replaced_as_a_whole(tmp_path, monkeypatch):
    from keras_tuner.src.engine import stateful

    from pyxem_nas.training import search

    class State(stateful.Stateful):
        def get_state(self):
            return {"trials": 3}

    path = tmp_path / "oracle.json"
    with search._whole_files():
        State().save(str(path))
    assert json.loads(path.read_text()) == {"trials": 3}

    def die_while_writing(name, _):
        with open(name, "w") as file:
            file.write('{"tri')
        raise KeyboardInterrupt

    monkeypatch.setattr(stateful.utils, "save_json", die_while_writing)
    with pytest.raises(KeyboardInterrupt), search._whole_files():
        State().save(str(path))
    assert json.loads(path.read_text()) == {"trials": 3}
