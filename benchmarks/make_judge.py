"""Fit the judges of candidates and of phases, of any crystal, and compare forms of them.

    python benchmarks/judge_patterns.py tables --folder work
    python benchmarks/judge_patterns.py patterns --folder work
    python benchmarks/make_judge.py --folder work

A network over the set of a pattern's candidates, found by AutoKeras, beside conditional logits
(McFadden 1974), and without one after the other of the scores that it looks at; and such a network
over phases. Forms are compared by cross-validation over *crystals*: each is judged by weights that
no pattern of it took part in. What is shipped is fitted to all, `bundles/shipped`.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from pathlib import Path

import numpy as np
from judge_patterns import N_PIXELS
from report import _table, describe_run

from pyxem_nas.bundles import (
    CandidateScores,
    JudgeArchitecture,
    PhaseScores,
    SetJudge,
    get_set_judge,
    make_features,
)
from pyxem_nas.maps.statistics import expected_calibration_error
from pyxem_nas.training.judge_fit import fit_logit
from pyxem_nas.training.judge_search import fit_judge_network, search_judge
from pyxem_nas.training.search import SearchSettings

SHIPPED = Path(__file__).parents[1] / "pyxem_nas" / "bundles" / "shipped"
N_FOLDS = 5
N_STRANGERS = 3
RIGHT = 5.0  # degrees
EPOCHS = 40  # of what is shipped
COVERAGE = 0.9  # of the sets of plausible candidates
AS_GOOD = 0.005  # of log-likelihood
N_PARTS = 12  # of difficulty
NOISE_TIMES = 3  # how often each pattern without a crystal is shown to the judge of phases
SHARE_OF_NONE = 0.1  # of a user's patterns that are of none of his phases, as good as a guess
#: Conditional logits: their terms, all over the best candidate's; "none" is its constant.
FORMS = {
    "grid score alone (match fast)": ("matching", "none"),
    "tolerant alone": ("tolerant", "none"),
    "matching + tolerant": ("matching", "tolerant", "none"),
    "matching + tolerant + narrow": ("matching", "tolerant", "narrow", "none"),
}
#: Columns of `make_features` that hold a score of candidates.
COLUMNS = {
    "matching": (0, 1), "narrow": (2, 3), "tolerant": (4, 5), "number of spots": (6,),
    "number of peaks": (7,), "explained share": (8,),
}  # fmt: skip
#: Which of the pattern's own phase and three strangers are shown; the own is first.
SETS = (
    (1, 0, 0, 0), (0, 1, 0, 0), (1, 1, 0, 0), (0, 1, 1, 0),
    (1, 0, 1, 0), (0, 0, 1, 1), (1, 1, 1, 0), (0, 1, 1, 1),
)  # fmt: skip


def read_patterns(folder: Path) -> dict[str, np.ndarray]:
    """Return the columns of all patterns, with the number of their crystal."""
    parts = []
    for path in sorted(folder.glob("crystal_*.npz")):
        with np.load(path, allow_pickle=False) as file:
            columns = {name: file[name] for name in file.files if name != "strangers"}
        n = len(columns["own_grid"])
        parts.append({name: np.broadcast_to(v, (n,)) if v.ndim == 0 else v
                      for name, v in columns.items()})  # fmt: skip
        parts[-1]["crystal"] = np.full(n, int(path.stem.split("_")[1]))
    if not parts:
        raise FileNotFoundError(f"{folder} holds no patterns; run judge_patterns.py first")
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    found = columns["own_grid"].any(axis=1)
    return {name: values[found] for name, values in columns.items()}


def make_terms(scores: CandidateScores) -> dict[str, np.ndarray]:
    """Return what each weight is of, shape (n, n_candidates + 1); the last is "none of them"."""
    nothing = np.zeros((len(scores.matching), 1))
    terms = {"none": np.hstack([np.zeros_like(scores.matching), nothing + 1])}
    for name in ("matching", "tolerant", "narrow"):
        score = getattr(scores, name)
        best = score.max(axis=1, keepdims=True)
        terms[name] = np.hstack([score / np.maximum(best, 1e-9), nothing])
    return terms


def compare_logits(scores, right, valid, folds, crystals) -> list[list[str]]:
    """Return a row of the table for each form of the conditional logit."""
    terms, rows = make_terms(scores), []
    for form, names in FORMS.items():
        chosen = np.stack([terms[name] for name in names])
        start = np.full(len(names), 10.0)
        weights = fit_logit(chosen, right[:, :-1], valid, start)
        utility = np.empty(right.shape)
        for fold in range(N_FOLDS):
            learned, judged = folds != fold, folds == fold
            fitted = fit_logit(chosen[:, learned], right[learned, :-1], valid[learned], start)
            utility[judged] = np.tensordot(fitted, chosen[:, judged], 1)
        utility[:, :-1][~valid] = -1e9
        told = ", ".join(f"{name} {w:.2f}" for name, w in zip(names, weights, strict=True))
        rows.append(describe(f"logit: {form}", softmax(utility), right, crystals, told))
    return rows


def softmax(utility: np.ndarray) -> np.ndarray:
    """Return the probabilities of alternatives."""
    weight = np.exp(utility - utility.max(axis=1, keepdims=True))
    return weight / weight.sum(axis=1, keepdims=True)


def by_crystal(values: np.ndarray, crystals: np.ndarray) -> tuple[float, float]:
    """Return the mean over crystals and its standard error."""
    means = np.array([values[crystals == k].mean() for k in np.unique(crystals)])
    return float(means.mean()), float(means.std(ddof=1) / np.sqrt(len(means)))


def describe(form, probability, right, crystals, told) -> list[str]:
    """Return a row of the table."""
    answer = probability[:, :-1].argmax(axis=1)
    likelihood = np.log(np.maximum((probability * right).sum(axis=1), 1e-12))
    good = right[np.arange(len(right)), answer].astype(bool)
    sure = probability[np.arange(len(right)), answer]
    mean, spread = by_crystal(likelihood, crystals)
    accuracy, accuracy_spread = by_crystal(100.0 * good, crystals)
    cells = [form, f"{mean:.3f} +- {spread:.3f}", f"{accuracy:.1f} +- {accuracy_spread:.1f}"]
    row = [*cells, f"{expected_calibration_error(np.minimum(sure, 1), good):.3f}", told]
    print(*row, sep=" | ", flush=True)
    return row


def cross_validate(features, right, architecture, folds, epochs=15) -> np.ndarray:
    """Return the probabilities by networks, crystals left out."""
    probability = np.empty(right.shape)
    for fold in np.unique(folds):
        learned = folds != fold
        fitted = fit_judge_network(features[learned], right[learned], architecture, epochs=epochs)
        probability[~learned] = apply(fitted, features[~learned])
    return probability


def apply(fitted: SetJudge, features: np.ndarray) -> np.ndarray:
    """Return the probabilities that a judge gives to features, validity as the last of them."""
    utility, none = fitted.rate_features(features[..., :-1], features[..., -1] > 0)
    return softmax(np.concatenate([utility, none], axis=1).astype(np.float64))


def with_validity(features: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Return features with validity as the last of them."""
    return np.concatenate([features, valid[..., None].astype(np.float32)], axis=2)


def fit_plausible(probability: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return `SetJudge.plausible` for probabilities of patterns that did not take part in a fit.

    Of patterns that have the right one among their candidates: no set holds it of the others, and
    where these are one in ten, all candidates would be plausible.
    """
    present = right[:, :-1].any(axis=1)
    probability, right = probability[present], right[present]
    order = np.argsort(-probability[:, :-1], axis=1)
    mass = np.take_along_axis(probability[:, :-1], order, axis=1)
    hit = np.take_along_axis(right[:, :-1], order, axis=1).astype(bool)
    mass /= mass.sum(axis=1, keepdims=True)
    before = np.cumsum(mass, axis=1) - mass
    needed = before[np.arange(len(hit)), hit.argmax(axis=1)]
    edges = np.quantile(mass[:, 0], np.linspace(0, 1, N_PARTS + 1))[:-1]
    edges[0] = 0
    part = np.searchsorted(edges, mass[:, 0], side="right") - 1
    wanted = []
    for k in range(N_PARTS):
        mine = np.sort(needed[part == k])
        rank = min(math.ceil(COVERAGE * (len(mine) + 1)), len(mine)) - 1
        # where the first alone will not do, never less than the share that is promised: one pattern
        # has two likely candidates, the next as difficult many
        wanted.append(np.nextafter(max(mine[rank], COVERAGE) if mine[rank] else 0.0, 2))
    return np.stack([edges, wanted])


def ablate(features, right, architecture, folds, crystals) -> list[list[str]]:
    """Return a row for each score that the network does not see."""
    rows = []
    for name, columns in COLUMNS.items():
        kept = np.delete(features, columns, axis=2)
        probability = cross_validate(kept, right, architecture, folds)
        rows.append(describe(f"without {name}", probability, right, crystals, ""))
    return rows


def extend(features, columns, architecture, right, folds, crystals) -> list[list[str]]:
    """Return a row for each number of the pattern that the network sees beside the scores."""
    reach = 0.5 * (N_PIXELS - 1) * columns["scale"]
    numbers = {
        "precession": columns["precession"] - 0.5,
        "reach of the detector": 2 * (np.minimum(reach, 1.8) - 1.4),
        "number of reflections": 0.5 * columns["own_n_reflections"] - 3,
    }
    rows = []
    for name, chosen in [*((name, [name]) for name in numbers), ("all three", list(numbers))]:
        more = np.stack([numbers[key] for key in chosen], axis=-1).astype(np.float32)
        more = np.broadcast_to(more[:, None], (*features.shape[:2], len(chosen)))
        more = more * features[..., -1:]  # validity
        seen = np.concatenate([more, features], axis=2)
        probability = cross_validate(seen, right, architecture, folds)
        rows.append(describe(f"with {name}", probability, right, crystals, ""))
    return rows


def get_phase_scores(columns: dict[str, np.ndarray], names: tuple[str, ...]) -> PhaseScores:
    """Return the scores of phases, "own" and strangers, in patterns, shapes (n, n_names)."""
    parts = []
    for name in names:
        grid, tolerant = columns[f"{name}_grid"], columns[f"{name}_tolerant"]
        likely = sum(v / np.maximum(v.max(axis=1, keepdims=True), 1e-9) for v in (grid, tolerant))
        rows, best = np.arange(len(grid)), likely.argmax(axis=1)  # as `judge_patterns` chose
        scores = ("grid", "narrow", "tolerant", "explained", "spots", "peaks")
        parts.append(
            PhaseScores(
                *columns[f"{name}_phase_scores"].T,
                *(columns[f"{name}_{score}"][rows, best] for score in scores),
                columns[f"{name}_n_reflections"],
            )
        )
    return PhaseScores(*(np.stack(columns, axis=1) for columns in zip(*parts, strict=True)))


def read_noise(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features, what is right (none) and crystals, of patterns that are of no crystal."""
    parts = []
    for path in sorted(folder.glob("noise_*.npz")):
        with np.load(path, allow_pickle=False) as file:
            columns = {f"own_{name}": file[name] for name in file.files}
        columns["crystal"] = np.full(len(columns["own_grid"]), int(path.stem.split("_")[1]))
        parts.append(columns)
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    found = get_phase_scores(columns, ("own",))
    rng, features = np.random.default_rng(0), []
    for n in (1, 2, 3):  # what several crystals find in noise, each in its own
        picks = [
            np.arange(len(found.matching)),
            *(rng.permutation(len(found.matching)) for _ in "ab"),
        ]
        shown = np.zeros((len(picks[0]), N_STRANGERS + 1), bool)
        shown[:, :n] = np.stack([columns["own_grid"][rows].any(axis=1) for rows in picks[:n]], 1)
        nothing = np.zeros((len(picks[0]), N_STRANGERS + 1 - n))
        scores = PhaseScores(
            *(np.hstack([*(column[rows] for rows in picks[:n]), nothing]) for column in found)
        )
        features.append(with_validity(make_features(scores, shown), shown))
    right = np.zeros((sum(map(len, features)), N_STRANGERS + 2), np.float32)
    right[:, -1] = 1
    return np.concatenate(features), right, np.tile(columns["crystal"], len(features))


def make_phase_sets(scores: PhaseScores) -> tuple[np.ndarray, np.ndarray]:
    """Return features and which phase is right, one of `SETS` after the other, all patterns."""
    features, right = [], []
    for shown in np.array(SETS, bool):
        valid = np.broadcast_to(shown, scores.matching.shape)
        features.append(with_validity(make_features(scores, valid), valid))
        answer = np.zeros((len(valid), N_STRANGERS + 2), np.float32)
        answer[:, 0 if shown[0] else -1] = 1
        right.append(answer)
    return np.concatenate(features), np.concatenate(right)


def fit_phases(columns, architecture, folder) -> list[list[str]]:
    """Fit and ship the judge of phases; return the rows of its table."""
    names = ("own", *(f"other{i}" for i in range(N_STRANGERS)))
    features, right = make_phase_sets(get_phase_scores(columns, names))
    noise, none, of_noise = read_noise(folder)
    n_sets = len(right)
    features = np.concatenate([features, *[noise] * NOISE_TIMES])
    right = np.concatenate([right, *[none] * NOISE_TIMES])
    crystals = np.tile(columns["crystal"], len(SETS))
    crystals = np.concatenate([crystals, *[of_noise] * NOISE_TIMES])
    is_noise = np.arange(len(right)) >= n_sets
    rows = []
    for name, chosen in (("plain", JudgeArchitecture(8, 0, "none")), ("shipped", architecture)):
        probability = cross_validate(features, right, chosen, crystals % 2, epochs=8)
        for known in ("yes", "no", "no crystal"):
            for n in (1, 2, 3):
                there = is_noise == (known == "no crystal")
                there &= features[..., -1].sum(axis=1) == n
                there &= (right[:, -1] == 0) == (known == "yes")
                answer = probability[there].argmax(axis=1)
                good = right[there][np.arange(there.sum()), answer].astype(bool)
                likelihood = np.log((probability[there] * right[there]).sum(axis=1) + 1e-12)
                mean, spread = by_crystal(100.0 * good, crystals[there])
                cells = [name, str(n), known, f"{mean:.1f} +- {spread:.1f}"]
                error = expected_calibration_error(probability[there].max(axis=1), good)
                rows.append([*cells, f"{likelihood.mean():.3f}", f"{error:.3f}"])
                print(*rows[-1], sep=" | ", flush=True)
    fitted = fit_judge_network(features, right, architecture, epochs=EPOCHS // 2)
    weights = list(fitted.weights)
    # one set in two was of none
    weights[-1] = weights[-1] + np.float32(math.log(SHARE_OF_NONE / (1 - SHARE_OF_NONE)))
    about = {"patterns": len(right), "share_of_none": SHARE_OF_NONE, "seed": 0}
    dataclasses.replace(fitted, weights=tuple(weights), provenance=about).save(
        SHIPPED / "phase_judge.npz"
    )
    return rows


def renew_sets(features, columns, right, folds, crystals) -> None:
    """Fit the sets of the plausible of the judge shipped, as it is, anew; print what more adds."""
    judge = get_set_judge()
    probability = cross_validate(features, right, judge.architecture, folds, EPOCHS)
    describe("network, as searched", probability, right, crystals, "")
    plausible = fit_plausible(probability, right)
    print(plausible.round(3))
    dataclasses.replace(judge, plausible=plausible).save(SHIPPED / "judge.npz")
    shorter = cross_validate(features, right, judge.architecture, folds)
    describe("the same, 15 epochs as the next", shorter, right, crystals, "")
    extend(features, columns, judge.architecture, right, folds, crystals)


def main() -> None:
    """Compare the forms, search a network, fit it to all crystals and ship it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("bundle_training/judge"))
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=6, help="of a trial, at most")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument(
        "--sets", action="store_true",
        help="only the sets of the plausible of the judge shipped, and what more numbers would add",
    )  # fmt: skip
    options = parser.parse_args()
    columns = read_patterns(options.folder)
    crystals = columns["crystal"]
    valid = columns["own_grid"] > 0
    right = (columns["own_angle"] < RIGHT) & valid
    right = np.column_stack([right, ~right.any(axis=1)])
    folds = np.random.default_rng(0).permutation(crystals.max() + 1)[crystals] % N_FOLDS
    names = ("narrow", "tolerant", "grid", "spots", "explained", "peaks")
    scores = CandidateScores(*(columns[f"own_{name}"] for name in names))
    features = with_validity(make_features(scores, valid), valid)
    if options.sets:
        renew_sets(features, columns, right, folds, crystals)
        return
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
    # of those that are as good, the smallest
    least = report.trials[0]["validation_loss"] + AS_GOOD
    alike = [trial for trial in report.trials if trial["validation_loss"] <= least]
    chosen = min(alike, key=lambda trial: trial["n_parameters"])
    best = {name: chosen["hyperparameters"][f"trunk/{name}"] for name in names}
    architecture = JudgeArchitecture(**best)
    fitted = fit_judge_network(features, right, architecture, epochs=EPOCHS)
    about = {"patterns": len(right), "crystals": len(np.unique(crystals)), "epochs": EPOCHS}
    fitted = dataclasses.replace(fitted, provenance=about | {"seed": 0})
    probability = cross_validate(features, right, architecture, folds, EPOCHS)
    plausible = fit_plausible(probability, right)
    dataclasses.replace(fitted, plausible=plausible).save(SHIPPED / "judge.npz")
    phases = fit_phases(columns, architecture, options.folder)
    rows = compare_logits(scores, right, valid, folds, crystals)
    rows.append(describe("network, as searched", probability, right, crystals, str(best)))
    shorter = cross_validate(features, right, architecture, folds)
    rows.append(describe("the same, 15 epochs as the next", shorter, right, crystals, ""))
    rows += ablate(features, right, architecture, folds, crystals)
    rows += extend(features, columns, architecture, right, folds, crystals)
    write(options, rows, trials, phases, right, crystals)


def write(options, rows, trials, phases, right, crystals) -> None:
    """Write the report."""
    run = describe_run(options)
    among = 100 * (~right[:, -1]).mean()
    head = ["form", "log-likelihood", "right / %", "ECE", "weights, of all crystals"]
    text = (
        f"# The judges, for any crystal\n\n{run['date']}, commit {run['commit']}.\n\n"
        f"    {run['command']}\n\n{len(right)} simulated patterns of {len(np.unique(crystals))} "
        f"crystals, none of them ferrite, NbC, cementite or silver; the truth is among the "
        f"candidates of exhaustive matching in {among:.1f} %. Means over crystals and their "
        "standard errors, each crystal judged by weights fitted to others; the network "
        f"{EPOCHS} epochs, those below it 15.\n\n"
        + _table(head, rows)
        + "\nThe search: trials by their log-likelihood on the crystals of one fold, after "
        f"{options.epochs} epochs at most; of those within {AS_GOOD} the smallest is taken.\n\n"
        + _table(["trial", "width", "depth", "pooling", "log-likelihood", "weights"], trials)
        + "\nThe judge of phases: patterns with one to three phases to choose from, their own among"
        " them or not, or of no crystal; half are of none. What is shipped takes one in ten so.\n\n"
        + _table(["form", "phases", "own among them", "right / %", "log-likelihood", "ECE"], phases)
    )
    (options.output / "make_judge.md").write_text(text)


if __name__ == "__main__":
    main()
