import numpy as np
import pytest

from pyxem_nas.bundles.set_judge import (
    JudgeArchitecture,
    SetJudge,
    build_judge_network,
    get_set_judge,
    make_features,
    read_weights,
)


@pytest.fixture
def scores():
    """Return three scores (20, 9) and which of them are of candidates."""
    rng = np.random.default_rng(3)
    valid = rng.random((20, 9)) < 0.8
    valid[0] = False
    return [np.where(valid, rng.uniform(0.1, 0.9, (20, 9)), 0) for _ in range(3)], valid


@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize("pooling", ["none", "mean and maximum", "attention"])
def test_numpy_and_keras_give_the_same_utilities(depth, pooling, scores, tmp_path):
    import keras

    columns, valid = scores
    architecture = JudgeArchitecture(8, depth, pooling)
    inputs = keras.Input((9, 7))
    model = keras.Model(inputs, build_judge_network(inputs, architecture))
    features = np.concatenate(
        [make_features(*columns, valid), valid[..., None].astype(np.float32)], axis=2
    )
    expected = model.predict(features, verbose=0)
    SetJudge(architecture, read_weights(model), {"seed": 1}).save(tmp_path / "judge.npz")
    judge = SetJudge.load(tmp_path / "judge.npz")
    assert judge.provenance == {"seed": 1}
    utility, none = judge.rate(*columns, valid)
    np.testing.assert_allclose(utility[valid], expected[:, :-1][valid], atol=1e-5)
    np.testing.assert_allclose(none, expected[:, -1:], atol=1e-5)


def test_order_of_candidates_does_not_matter(scores):
    columns, valid = scores
    order = np.random.default_rng(4).permutation(9)
    utility, none = get_set_judge().rate(*columns, valid)
    turned, still = get_set_judge().rate(*(c[:, order] for c in columns), valid[:, order])
    np.testing.assert_allclose(turned, utility[:, order], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(still, none, rtol=1e-5, atol=1e-4)


def test_absent_candidates_change_nothing(scores):
    columns, valid = scores
    wider = [np.pad(c, ((0, 0), (0, 3))) for c in columns]
    utility, none = get_set_judge().rate(*columns, valid)
    more, still = get_set_judge().rate(*wider, np.pad(valid, ((0, 0), (0, 3))))
    np.testing.assert_allclose(more[:, :9], utility, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(still, none, rtol=1e-5, atol=1e-4)
    assert (more[:, 9:] < -1e8).all()


def test_shipped_judge_prefers_the_candidate_that_stands_out():
    scores = np.full((1, 6), 0.45)
    scores[0, 2] = 0.75
    utility, none = get_set_judge().rate(scores, scores, scores, np.ones((1, 6), bool))
    probability = np.exp(utility - np.logaddexp.reduce(np.append(utility, none)))
    assert probability.argmax() == 2
    assert probability[0, 2] > 0.9
