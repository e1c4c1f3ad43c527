"""Calibrated decisions: judges of answers and of phases, thresholds.

Owns what a bundle knows of the trust that answers deserve, as numbers and the formulas that they
stand in. They are fitted by `training` and used by `indexing.block`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyxem_nas.bundles.set_judge import MEAN_REACH, SetJudge


@dataclass(frozen=True)
class Thresholds:
    """Calibrated decisions of a bundle.

    Parameters
    ----------
    template
        Positions whose probability of a right orientation is below go to template matching.
    confidence
        Positions whose final probability (phase and orientation) is below are not indexed.
    phase
        Positions whose phase probability by the phase network is below are tried with every
        phase, and the physical scores join the network's word.
    phase_confidence
        Positions whose final phase probability is below are not indexed: patterns of an unknown
        phase can have an orientation of a known one that fits well.
    """

    template: float = 0.0
    confidence: float = 0.0
    phase: float = 0.8
    phase_confidence: float = 0.0

    def leave_out(
        self, phase_probability: np.ndarray, orientation_probability: np.ndarray
    ) -> np.ndarray:
        """Return True where a position is not indexed; what is not known (NaN) counts as sure."""
        phase = np.nan_to_num(phase_probability, nan=1.0)
        confidence = phase * np.nan_to_num(orientation_probability, nan=1.0)
        return (confidence < self.confidence) | (phase < self.phase_confidence)


@dataclass(frozen=True)
class Judge:
    """Weights by which candidates of one phase are judged, fitted on validation data.

    The utility of candidate j is ``log_posterior * log p_j + correlation * c_j / c + tolerant * t_j
    / t + matching * m_j / m``, with c, t and m the highest among the pattern's candidates; that of
    "the truth is none of them" is ``none + none_log_posterior * log(1 - sum_j p_j)``. The softmax
    over all is the probability of each (a conditional logit model; McFadden 1974). Noise lowers all
    correlations of a pattern, and their differences, alike: so they are compared with the best.

    Parameters
    ----------
    log_posterior
        Weight of the network's log-posterior.
    correlation
        Weight of the correlation of the refined candidate.
    none
        Utility of "none of them"; None where the bundle is not calibrated.
    tolerant
        Weight of the tolerant correlation (`refinement.refine_candidates`).
    none_log_posterior
        Weight of the logarithm of the posterior that the network gives to other orientations than
        the candidates.
    relative
        Whether correlations are compared with the best. Bundles of the first schema were
        calibrated for the correlation as it is.
    matching
        Weight of the score of exhaustive matching at the candidate's point of the grid
        (`indexing.matching`): local refinement flatters wrong candidates, the grid does not.
    set_utility
        Weight of the utilities, of the candidates and of "none of them", that the judge shipped
        with the package gives to their scores (`set_judge.SetJudge`); where they come from
        matching.
    per_reach
        Change of `log_posterior` for each 1/angstrom that the detector reaches beyond
        `MEAN_REACH`: the more spots it shows, the less a network knows that they do not tell.
    network_judge
        Judge of candidate sets that sees what the network says beside the scores
        (`set_judge.make_network_features`): `set_utility` weighs its utilities then, and
        `log_posterior` and `none_log_posterior` are 0. None: the judge shipped with the package,
        which sees scores alone.
    """

    log_posterior: float = 1.0
    correlation: float = 20.0
    none: float | None = None
    tolerant: float = 0.0
    none_log_posterior: float = 0.0
    relative: bool = True
    matching: float = 0.0
    set_utility: float = 0.0
    per_reach: float = 0.0
    network_judge: SetJudge | None = None

    def weigh_posterior(self, reach: float | np.ndarray) -> float | np.ndarray:
        """Return the weight of the log-posterior for detectors that reach so far, 1/angstrom."""
        return np.maximum(self.log_posterior + self.per_reach * (reach - MEAN_REACH), 0.0)


#: Judges of all phases, where a bundle has none of its own: "refined" and "fast" of a network,
#: "template" of pyxem's matcher, "match" of exhaustive matching, "hybrid" of it and a network.
#: Those of matching were fitted to simulated patterns of 95 crystals of all systems, none of them
#: one that benchmarks judge by (``benchmarks/make_judge.py``).
DEFAULT_JUDGES = {
    "refined": Judge(),
    "fast": Judge(1.0, 0.0),
    "template": Judge(0.0, 20.0),
    "match": Judge(0.0, 0.0, none=0.0, set_utility=1.0),
    "match fast": Judge(0.0, 0.0, none=21.84, matching=24.33),
    "hybrid": Judge(0.3, 0.0, none=0.0, set_utility=0.8),
    "hybrid fast": Judge(0.35, 0.0, none=8.89, matching=12.38),
}


@dataclass(frozen=True)
class PhaseJudge:
    """Weights by which phases are compared, one common set for all phases.

    The utility of a phase is the weighted sum of its scores (`indexing.score_phase`) and of what
    the judge that comes with the package says of it; that of "none of these" is `none` and what
    that judge says. The softmax over all is the probability of each (a conditional logit model;
    McFadden 1974).

    Parameters
    ----------
    correlation, explained, missing
        Weights of the scores: 0 in bundles that are made now, whose judge sees them.
    none
        Constant of "none of these".
    network
        Weight of the logarithm of the phase network's probability, where there is a network.
    set_utility
        Weight of the utilities by the judge of phases (`set_judge.SetJudge`).
    """

    correlation: float = 8.0
    explained: float = 5.5
    missing: float = -1.75
    none: float = 5.0
    network: float = 0.8
    set_utility: float = 0.0


#: Judge of the phases of a bundle that has none of its own. The judge of phases was fitted to
#: simulated patterns (``benchmarks/make_judge.py``); one pattern in ten is taken to be of none.
DEFAULT_PHASE_JUDGE = PhaseJudge(0.0, 0.0, 0.0, none=0.0, network=0.8, set_utility=1.0)
