"""How a network's word joins the judge of candidate sets."""

import dataclasses

import numpy as np
import pytest

from pyxem_nas import Acquisition, BundleError, ModelBundle, example_phases
from pyxem_nas.bundles import Judge
from pyxem_nas.indexing import RatedCandidates
from pyxem_nas.training.judge_fit import HybridPatterns, fit_hybrids, log_likelihood

N, K = 2400, 6


def draw(seed, lies):
    """Return patterns whose network is right; with `lies`, only where the camera reaches far."""
    rng = np.random.default_rng(seed)
    quaternions = rng.standard_normal((N, K, 4))
    right = np.zeros((N, K), bool)
    right[np.arange(N), rng.integers(0, K, N)] = rng.random(N) < 0.9
    score = np.clip(rng.normal(0.5, 0.08, (N, K)) + 0.06 * right, 0, 1)
    number = np.full((N, K), 20.0)
    rated = RatedCandidates(quaternions, score, score, score, number, score, number)
    reach = rng.choice([1.0, 1.8], N)
    meant = right.copy()
    if lies:
        short = reach < 1.4
        meant[short] = np.roll(right, 1, axis=1)[short]
    share = np.exp(rng.normal(0, 1, (N, K)) + 2.5 * meant)
    log_posterior = np.log(0.9 * share / share.sum(axis=1, keepdims=True))
    return HybridPatterns(rated, log_posterior, right, reach, np.arange(N) % 4)


def test_a_network_that_sums_cannot_tell_is_judged_by_a_network():
    judges, figures = fit_hybrids({0: draw(1, True)})
    assert figures["network_judge"]
    assert figures["gain"] > 1.96 * figures["gain_error"]
    fresh = draw(2, True)
    plain = fit_hybrids({0: draw(1, True).take(np.arange(600))})[0][0]
    assert plain.network_judge is None  # too few to tell
    ours = log_likelihood(fresh.judge(judges[0]), fresh.right).mean()
    assert ours > log_likelihood(fresh.judge(plain), fresh.right).mean() + 0.05
    right = fresh.right[np.arange(N), fresh.judge(judges[0]).argmax(axis=1)]
    assert fresh.judge(judges[0]).max(axis=1).mean() == pytest.approx(right.mean(), abs=0.04)


def test_likelihood_is_that_of_what_is_right():
    probability = np.array([[0.5, 0.2], [0.1, 0.3], [0.25, 0.25]])
    right = np.array([[True, False], [False, False], [True, True]])
    np.testing.assert_allclose(np.exp(log_likelihood(probability, right)), [0.5, 0.6, 0.5])


def test_a_network_judge_survives_saving_and_must_be_whole(tmp_path):
    seen = draw(3, True)
    judge = fit_hybrids({0: seen})[0][0]
    assert judge.network_judge is not None
    bundle = ModelBundle.from_phases(example_phases("silver"), Acquisition(200))
    bundle = dataclasses.replace(bundle, judges={0: {"hybrid": judge}})
    bundle.save(tmp_path / "a.nas")
    loaded = ModelBundle.load(tmp_path / "a.nas")
    assert loaded.hash == bundle.hash
    np.testing.assert_array_equal(seen.judge(loaded.judges[0]["hybrid"]), seen.judge(judge))
    wider = judge.network_judge.weights[0][:, :-1], *judge.network_judge.weights[1:]
    endless = judge.network_judge.weights[0] * np.inf, *judge.network_judge.weights[1:]
    for weights, told in ((wider, "has weights"), (endless, "finite")):
        broken = dataclasses.replace(judge.network_judge, weights=weights)
        damaged = Judge(none=0.0, set_utility=1.0, network_judge=broken)
        path = tmp_path / "b.nas"
        dataclasses.replace(bundle, judges={0: {"hybrid": damaged}}).save(path, overwrite=True)
        with pytest.raises(BundleError, match=told):
            ModelBundle.load(path)
