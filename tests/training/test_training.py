import numpy as np
import pytest

from pyxem_nas.bundles.architectures import (
    Architecture,
    build_orientation_network,
    build_phase_network,
)
from pyxem_nas.diffraction import make_cells, random_quaternions
from pyxem_nas.diffraction.acquisition import Acquisition
from pyxem_nas.diffraction.foreign import make_foreign_reflections
from pyxem_nas.diffraction.reflections import get_reflections
from pyxem_nas.indexing.judging import judge_candidates
from pyxem_nas.indexing.refinement import RatedCandidates
from pyxem_nas.scans.source import DescriptorSource
from pyxem_nas.training.judge_fit import fit_judge
from pyxem_nas.training.network_training import (
    TrainingSettings,
    cell_labels,
    train_orientation_network,
)

SMALL = Architecture(width=8, n_blocks=1, azimuthal_stride=4)


@pytest.fixture(scope="module")
def source(steel):
    known = get_reflections(list(steel.values()))
    reflections = make_foreign_reflections(known, 10, np.random.default_rng(0))
    return DescriptorSource(reflections, 3, Acquisition(200))


@pytest.fixture(scope="module")
def cells(steel):
    return make_cells(steel["NbC"], spacing=12)


def build(cells):
    import keras

    keras.utils.set_random_seed(1)
    return build_orientation_network(SMALL, (40, 180), cells.n_inplane, cells.n_directions)


@pytest.mark.parametrize(("stride", "radial_mixing"), [(2, "channels"), (4, "2d")])
def test_network_is_equivariant_to_turning(stride, radial_mixing, cells):
    architecture = Architecture(
        width=16, n_blocks=2, azimuthal_stride=stride, radial_mixing=radial_mixing,
        squeeze_excitation=True, normalization="layer",
    )  # fmt: skip
    model = build_orientation_network(architecture, (40, 180), cells.n_inplane, cells.n_directions)
    x = np.random.default_rng(0).random((3, 40, 180), np.float32)
    logits = model.predict(x, verbose=0).reshape(3, 90, -1)
    turned = model.predict(np.roll(x, 4 * stride, axis=2), verbose=0).reshape(3, 90, -1)
    np.testing.assert_allclose(turned, np.roll(logits, 2 * stride, axis=1), atol=1e-4)
    assert logits.std() > 1e-3


def test_phase_network_is_invariant_to_turning():
    model = build_phase_network(SMALL, (40, 180), 4)
    x = np.random.default_rng(0).random((3, 40, 180), np.float32)
    np.testing.assert_allclose(
        model.predict(np.roll(x, 28, axis=2), verbose=0), model.predict(x, verbose=0), atol=1e-4
    )


def test_labels_are_those_of_the_simulated_orientations(source, cells):
    rng = np.random.default_rng(3)
    _, classes, quaternions = source.simulate(50, rng, phase_id=1)
    assert (classes == 1).all()
    labels = cell_labels(cells, quaternions)
    direction, inplane = cells.encode(quaternions)
    np.testing.assert_array_equal(labels % cells.n_directions, direction)
    np.testing.assert_array_equal(labels // cells.n_directions, np.round(inplane) % 90)


def test_all_classes_are_simulated(source):
    descriptors, classes, _ = source.simulate(400, np.random.default_rng(4))
    assert set(classes) == {0, 1, 2, 3}
    assert np.isfinite(descriptors).all()
    assert len(descriptors) == 400


def test_training_that_was_killed_goes_on_to_the_same_weights(source, cells, tmp_path):
    settings = TrainingSettings(n_samples=768, batch_size=64, samples_per_epoch=256, seed=3)
    whole = build(cells)
    lines = []
    train_orientation_network(whole, source, cells, 1, settings, report=lines.append)
    assert len(lines) == 3
    assert "samples/s" in lines[0]

    def kill(line):
        if line.startswith("epoch 2/"):
            raise KeyboardInterrupt

    killed = build(cells)
    with pytest.raises(KeyboardInterrupt):
        train_orientation_network(
            killed, source, cells, 1, settings, checkpoint=tmp_path, report=kill
        )
    resumed, lines = build(cells), []
    train_orientation_network(
        resumed, source, cells, 1, settings, checkpoint=tmp_path, report=lines.append
    )
    assert len(lines) == 2  # the first epoch is not repeated
    for mine, theirs in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_foreign_crystals_differ_from_the_known(source):
    reflections = source.reflections
    assert reflections.n_phases == 13
    known = get_reflections_lengths(reflections, 1)
    for k in range(3, 13):
        foreign = get_reflections_lengths(reflections, k)[:5]
        assert not np.all(np.abs(foreign[:, None] / known - 1).min(axis=1) < 0.02)


def get_reflections_lengths(reflections, k):
    rows = slice(*reflections.bounds[k : k + 2])
    return np.unique(np.linalg.norm(reflections.vectors[rows], axis=1).round(4))


def test_fitted_judge_gives_calibrated_probabilities():
    # candidates whose truth is drawn from a known conditional logit model
    rng = np.random.default_rng(5)
    n, k = 6000, 4
    shares = rng.dirichlet(np.ones(k + 1), n)
    log_posterior = np.log(shares[:, :k])
    correlation, tolerant = rng.uniform(0.2, 1, (2, n, k))
    best, most = (c.max(axis=1, keepdims=True) for c in (correlation, tolerant))
    utility = 0.7 * log_posterior + 9 * correlation / best + 6 * tolerant / most
    none = 11 + 1.2 * np.log(np.maximum(shares[:, k], 1e-3))
    utility = np.column_stack([utility, none])
    probability = np.exp(utility) / np.exp(utility).sum(axis=1, keepdims=True)
    answer = (probability.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    right = answer[:, None] == np.arange(k)
    quaternions = random_quaternions(n * k, rng).reshape(n, k, 4)
    rated = RatedCandidates(quaternions, correlation, tolerant)
    judge = fit_judge(rated, log_posterior, right)
    assert judge.log_posterior == pytest.approx(0.7, abs=0.1)
    assert judge.correlation == pytest.approx(9, abs=0.6)
    assert judge.tolerant == pytest.approx(6, abs=0.6)
    assert judge.none == pytest.approx(11, abs=0.8)
    assert judge.none_log_posterior == pytest.approx(1.2, abs=0.12)
    found = judge_candidates(rated, log_posterior, judge)
    np.testing.assert_allclose(found, probability[:, :k], atol=0.05)
