"""Fit the weights by which candidates of any crystal are judged, and compare forms of the judge.

    python benchmarks/judge_patterns.py tables --folder work
    python benchmarks/judge_patterns.py patterns --folder work
    python benchmarks/make_judge.py --folder work

A conditional logit over the candidates of a pattern and "none of them" (McFadden 1974), one set of
weights for all crystals. Forms are compared by cross-validation over *crystals*: each is judged by
weights that no pattern of it took part in. Beside the logit stands a network over the set of
candidates, found by AutoKeras: it is what is shipped, `bundles/shipped/judge.npz`.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
from report import _table, describe_run
from scipy.optimize import minimize

from pyxem_nas.bundles import JudgeArchitecture, SetJudge, make_features
from pyxem_nas.maps.statistics import expected_calibration_error
from pyxem_nas.training.judge_search import fit_judge_network, search_judge
from pyxem_nas.training.search import SearchSettings

JUDGE = Path(__file__).parents[1] / "pyxem_nas" / "bundles" / "shipped" / "judge.npz"
N_FOLDS = 5
RIGHT = 5.0  # degrees
PRIOR = 1e3  # variance of weights whose terms are at most 1
#: Forms of the judge: their terms. "matching" is the score at the grid, "correlation" and
#: "tolerant" those of the refined candidate, all over the best candidate's; with "none", its
#: constant, what else it depends on.
FORMS = {
    "grid score alone (match fast)": ("matching", "none"),
    "tolerant alone": ("tolerant", "none"),
    "matching + tolerant": ("matching", "tolerant", "none"),
    "matching + tolerant + narrow (match)": ("matching", "tolerant", "correlation", "none"),
    "and none by best scores": (
        "matching", "tolerant", "correlation", "none", "none: best grid", "none: best tolerant"
    ),
    "and none by pattern, precession, crystal": (
        "matching", "tolerant", "correlation", "none", "none: best grid", "none: best tolerant",
        "none: peaks", "none: reach", "none: precession", "none: reflections",
    ),
}  # fmt: skip


def read_patterns(folder: Path) -> dict[str, np.ndarray]:
    """Return the columns of all patterns, with the number of their crystal."""
    parts = []
    for path in sorted(folder.glob("crystal_*.npz")):
        with np.load(path, allow_pickle=False) as file:
            columns = {name: file[name] for name in file.files}
        n = len(columns["n_peaks"])
        parts.append({name: np.broadcast_to(v, (n,)) if v.ndim == 0 else v
                      for name, v in columns.items()})  # fmt: skip
        parts[-1]["crystal"] = np.full(n, int(path.stem.split("_")[1]))
    if not parts:
        raise FileNotFoundError(f"{folder} holds no patterns; run judge_patterns.py first")
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    found = columns["own_grid"].any(axis=1)
    return {name: values[found] for name, values in columns.items()}


def make_terms(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return what each weight is of, shape (n, n_candidates + 1); the last is "none of them"."""
    scores = {
        "matching": columns["own_grid"],
        "correlation": columns["own_narrow"],
        "tolerant": columns["own_tolerant"],
    }
    nothing = np.zeros((len(columns["n_peaks"]), 1))
    terms = {}
    for name, score in scores.items():
        best = score.max(axis=1, keepdims=True)
        terms[name] = np.hstack([score / np.maximum(best, 1e-9), nothing])
    context = {
        "none": np.ones(len(nothing)),
        "none: best grid": scores["matching"].max(axis=1),
        "none: best tolerant": scores["tolerant"].max(axis=1),
        "none: peaks": np.log1p(columns["n_peaks"]),
        "none: reach": columns["last_ring"] / 72,
        "none: precession": columns["precession"],
        "none: reflections": columns["own_n_reflections"],
    }
    for name, values in context.items():
        terms[name] = np.hstack([np.zeros_like(scores["matching"]), values[:, None]])
    return terms


def fit(terms: np.ndarray, right: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Return the weights of greatest likelihood of terms (n_weights, n, n_alternatives)."""
    size = np.abs(terms).max(axis=(1, 2))
    terms = terms / size[:, None, None]
    n = len(right)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        utility = np.where(valid, np.tensordot(weights, terms, 1), -1e9)
        total = np.logaddexp.reduce(utility, axis=1, keepdims=True)
        hit = np.logaddexp.reduce(np.where(right, utility, -1e9), axis=1, keepdims=True)
        pull = np.exp(utility - total) - right * np.exp(np.where(right, utility, -1e9) - hit)
        prior = np.square(weights).sum() / (2 * PRIOR)
        slope = np.tensordot(terms, pull, 2) + weights / PRIOR
        return ((total - hit).sum() + prior) / n, slope / n

    return minimize(loss, np.zeros(len(terms)), jac=True, method="L-BFGS-B").x / size


def judge(terms: np.ndarray, weights: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Return the probability of each alternative."""
    utility = np.where(valid, np.tensordot(weights, terms, 1), -1e9)
    return np.exp(utility - np.logaddexp.reduce(utility, axis=1, keepdims=True))


def cross_validate(terms, right, valid, folds) -> tuple[np.ndarray, np.ndarray, float]:
    """Return log-likelihoods, right answers and the calibration error, crystals left out."""
    probability = np.empty(right.shape)
    for fold in range(N_FOLDS):
        learned, judged = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        weights = fit(terms[:, learned], right[learned], valid[learned])
        probability[judged] = judge(terms[:, judged], weights, valid[judged])
    rows = np.arange(len(right))
    answer = probability[:, :-1].argmax(axis=1)
    likelihood = np.log(np.maximum((probability * right).sum(axis=1), 1e-12))
    good = right[rows, answer]
    error = expected_calibration_error(np.minimum(probability[rows, answer], 1), good)
    return likelihood, good, error


def by_crystal(values: np.ndarray, crystals: np.ndarray) -> tuple[float, float]:
    """Return the mean over crystals and its standard error."""
    means = np.array([values[crystals == k].mean() for k in np.unique(crystals)])
    return float(means.mean()), float(means.std(ddof=1) / np.sqrt(len(means)))


def compare_logits(columns, right, valid, folds) -> list[list[str]]:
    """Return a row of the table for each form of the conditional logit."""
    terms, rows = make_terms(columns), []
    for form, names in FORMS.items():
        chosen = np.stack([terms[name] for name in names])
        weights = fit(chosen, right, valid).round(2)
        told = ", ".join(f"{name} {w:g}" for name, w in zip(names, weights, strict=True))
        result = cross_validate(chosen, right, valid, folds)
        rows.append(describe(f"logit: {form}", result, columns["crystal"], told))
    return rows


def describe(form: str, result: tuple, crystals: np.ndarray, told: str) -> list[str]:
    """Return a row of the table."""
    likelihood, good, error = result
    mean, spread = by_crystal(likelihood, crystals)
    accuracy, accuracy_spread = by_crystal(100.0 * good, crystals)
    cells = [form, f"{mean:.3f} +- {spread:.3f}", f"{accuracy:.1f} +- {accuracy_spread:.1f}"]
    row = [*cells, f"{error:.3f}", told]
    print(*row, sep=" | ", flush=True)
    return row


def cross_validate_network(features, right, architecture, folds) -> tuple:
    """Return the same as `cross_validate` of a network."""
    probability = np.empty(right.shape)
    for fold in range(N_FOLDS):
        fitted = fit_judge_network(features[folds != fold], right[folds != fold], architecture)
        probability[folds == fold] = apply(fitted, features[folds == fold])
    rows = np.arange(len(right))
    answer = probability[:, :-1].argmax(axis=1)
    likelihood = np.log(np.maximum((probability * right).sum(axis=1), 1e-12))
    good = right[rows, answer]
    return likelihood, good, expected_calibration_error(probability[rows, answer], good)


def apply(fitted: SetJudge, features: np.ndarray) -> np.ndarray:
    """Return the probabilities that a judge gives to features of `make_features`."""
    utility, none = fitted.rate_features(features[..., :-1], features[..., -1] > 0)
    utility = np.concatenate([utility, none], axis=1).astype(np.float64)
    utility -= utility.max(axis=1, keepdims=True)
    return np.exp(utility) / np.exp(utility).sum(axis=1, keepdims=True)


def main() -> None:
    """Compare the forms, search a network, fit it to all crystals and ship it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("bundle_training/judge"))
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=6, help="of a trial, at most")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    columns = read_patterns(options.folder)
    crystals = columns["crystal"]
    candidates = columns["own_grid"] > 0
    right = (columns["own_angle"] < RIGHT) & candidates
    right = np.column_stack([right, ~right.any(axis=1)])
    valid = np.column_stack([candidates, np.ones(len(right), bool)])
    folds = np.random.default_rng(0).permutation(crystals.max() + 1)[crystals] % N_FOLDS
    rows = compare_logits(columns, right, valid, folds)
    scores = [columns[f"own_{name}"] for name in ("narrow", "tolerant", "grid")]
    features = np.concatenate(
        [make_features(*scores, candidates), candidates[..., None].astype(np.float32)], axis=2
    )
    settings = SearchSettings(options.trials, options.epochs, seed=0)
    report = search_judge(
        features, right, folds == 0, settings, options.folder / "search", report=print
    )
    names = ("width", "depth", "pooling")
    trials = [
        [str(trial["trial"]), *(str(trial["hyperparameters"][f"trunk/{name}"]) for name in names),
         f"{-trial['validation_loss']:.3f}", str(trial["n_parameters"])]
        for trial in report.trials
    ]  # fmt: skip
    best = {name: report.trials[0]["hyperparameters"][f"trunk/{name}"] for name in names}
    architecture = JudgeArchitecture(**best)
    result = cross_validate_network(features, right, architecture, folds)
    rows.append(describe("network, as searched", result, crystals, str(best)))
    fitted = fit_judge_network(features, right, architecture)
    about = {"patterns": len(right), "crystals": len(np.unique(crystals)), "epochs": 15, "seed": 0}
    dataclasses.replace(fitted, provenance=about).save(JUDGE)
    write(options, rows, trials, right, crystals)


def write(options, rows, trials, right, crystals) -> None:
    """Write the report."""
    run = describe_run(options)
    among = 100 * (~right[:, -1]).mean()
    head = ["form", "log-likelihood", "right / %", "ECE", "weights, of all crystals"]
    text = (
        f"# The judge of candidates, for any crystal\n\n{run['date']}, commit {run['commit']}.\n\n"
        f"    {run['command']}\n\n{len(right)} simulated patterns of {len(np.unique(crystals))} "
        f"crystals, none of them ferrite, NbC, cementite or silver; the truth is among the "
        f"candidates of exhaustive matching in {among:.1f} %. Means over crystals and their "
        "standard errors, each crystal judged by weights fitted to others.\n\n"
        + _table(head, rows)
        + "\nThe search: trials by their log-likelihood on the crystals of one fold, after "
        f"{options.epochs} epochs at most.\n\n"
        + _table(["trial", "width", "depth", "pooling", "log-likelihood", "weights"], trials)
    )
    (options.output / "make_judge.md").write_text(text)


if __name__ == "__main__":
    main()
