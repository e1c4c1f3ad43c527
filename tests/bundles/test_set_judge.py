import numpy as np
import pytest

from pyxem_nas.bundles.set_judge import (
    CandidateScores,
    JudgeArchitecture,
    PhaseScores,
    SetJudge,
    build_judge_network,
    get_set_judge,
    make_features,
    read_weights,
)

KINDS = {"judge": CandidateScores, "phase_judge": PhaseScores}


def draw(kind, seed=3):
    """Return scores (20, 9) and which of them are there."""
    rng = np.random.default_rng(seed)
    valid = rng.random((20, 9)) < 0.8
    valid[0] = False
    columns = [rng.uniform(0.1, 0.9, (20, 9)) for _ in kind._fields]
    for name in ("spots", "peaks"):
        columns[kind._fields.index(name)] *= 50
    return kind(*(np.where(valid, column, 0) for column in columns)), valid


def change(scores, function):
    return type(scores)(*(function(column) for column in scores))


@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize("pooling", ["none", "mean and maximum", "attention"])
@pytest.mark.parametrize("kind", KINDS.values())
def test_numpy_and_keras_give_the_same_utilities(depth, pooling, kind, tmp_path):
    import keras

    scores, valid = draw(kind)
    architecture = JudgeArchitecture(8, depth, pooling)
    features = np.concatenate(
        [make_features(scores, valid), valid[..., None].astype(np.float32)], axis=2
    )
    inputs = keras.Input(features.shape[1:])
    model = keras.Model(inputs, build_judge_network(inputs, architecture))
    expected = model.predict(features, verbose=0)
    plausible = np.array([[0.0, 0.6], [0.9, 0.4]])
    made = SetJudge(architecture, read_weights(model), {"seed": 1}, plausible)
    made.save(tmp_path / "judge.npz")
    judge = SetJudge.load(tmp_path / "judge.npz")
    assert judge.provenance == {"seed": 1}
    np.testing.assert_array_equal(judge.plausible, plausible)
    utility, none = judge.rate(scores, valid)
    np.testing.assert_allclose(utility[valid], expected[:, :-1][valid], atol=1e-5)
    np.testing.assert_allclose(none, expected[:, -1:], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_order_does_not_matter(kind):
    scores, valid = draw(KINDS[kind])
    order = np.random.default_rng(4).permutation(9)
    utility, none = get_set_judge(kind).rate(scores, valid)
    turned, still = get_set_judge(kind).rate(change(scores, lambda c: c[:, order]), valid[:, order])
    np.testing.assert_allclose(turned, utility[:, order], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(still, none, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_is_judged_alike_in_any_company(kind):
    scores, valid = draw(KINDS[kind])
    whole = get_set_judge(kind).rate(scores, valid)
    for n in (1, 7):
        part = get_set_judge(kind).rate(change(scores, lambda c, n=n: c[:n]), valid[:n])
        for ours, theirs in zip(part, whole, strict=True):
            np.testing.assert_array_equal(ours, theirs[:n])


@pytest.mark.parametrize("kind", KINDS)
def test_absent_ones_change_nothing(kind):
    scores, valid = draw(KINDS[kind])
    wider = change(scores, lambda c: np.pad(c, ((0, 0), (0, 3))))
    utility, none = get_set_judge(kind).rate(scores, valid)
    more, still = get_set_judge(kind).rate(wider, np.pad(valid, ((0, 0), (0, 3))))
    np.testing.assert_allclose(more[:, :9], utility, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(still, none, rtol=1e-5, atol=1e-4)
    assert (more[:, 9:] < -1e8).all()


@pytest.mark.parametrize("kind", KINDS)
def test_shipped_judges_prefer_the_one_that_stands_out(kind):
    score = np.full((1, 6), 0.35)
    score[0, 2] = 0.75
    number = np.full((1, 6), 20.0)
    columns = dict.fromkeys(KINDS[kind]._fields, score)
    columns |= {"spots": number, "peaks": number}
    if kind == "phase_judge":
        columns |= {"missing": 0.75 - score, "reflections": np.full((1, 6), 5.0)}
    utility, none = get_set_judge(kind).rate(KINDS[kind](**columns), np.ones((1, 6), bool))
    probability = np.exp(utility - np.logaddexp.reduce(np.append(utility, none)))
    assert probability.argmax() == 2
    assert probability[0, 2] > 0.9


def test_candidates_are_plausible_until_those_before_hold_the_share():
    judge = SetJudge(JudgeArchitecture(), (), plausible=np.array([[0.0, 0.8], [0.7, 0.1]]))
    mass = np.array(
        [
            [0.85, 0.05, 0.02, 0.0],  # sure: one will do
            [0.40, 0.20, 0.10, 0.0],  # 0.4 / 0.7 are not enough, 0.6 / 0.7 are
            [0.20, 0.19, 0.18, 0.17],  # the fourth has 0.77 before it
            [0.30, 0.00, 0.00, 0.0],  # there is no other
            [0.00, 0.00, 0.00, 0.0],  # there is none
        ]
    )
    np.testing.assert_array_equal(judge.count_plausible(mass), [1, 2, 3, 1, 0])


def test_of_simulated_patterns_nine_in_ten_have_the_right_one_among_the_plausible():
    # probabilities that are right: what the shares were found for in each part of difficulty
    rng = np.random.default_rng(5)
    judge = get_set_judge()
    mass = -np.sort(-rng.dirichlet(np.full(6, 0.3), 40_000), axis=1)
    right = (rng.random((len(mass), 1)) > mass.cumsum(axis=1)).sum(axis=1)
    covered = right < judge.count_plausible(mass)
    assert covered.mean() > 0.87
