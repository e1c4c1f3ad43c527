"""From phases to a bundle: simulate, search, train, calibrate.

Owns `search_models` and the calibration of a bundle's judges, temperature and thresholds on
held-out simulations. Every finished step is kept in the working directory, so that a run that was
killed goes on where it was.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pyxem_nas.bundles import (
    Architecture,
    ModelBundle,
    PatternArchitecture,
    Thresholds,
    build_orientation_network,
    build_phase_network,
    dump_keras,
    load_keras,
    number_phases,
    phase_to_dict,
)
from pyxem_nas.diffraction import (
    Acquisition,
    DynamicalSpots,
    SpotLibrary,
    check_phase,
    draw_dynamical_spots,
    get_reflections,
    laue_operations,
    make_cells,
    make_foreign_phases,
    make_foreign_reflections,
)
from pyxem_nas.file_writing import replacing
from pyxem_nas.indexing import get_refinement_spec, select_candidates
from pyxem_nas.patterns import DescriptorSpec, PatternSpec
from pyxem_nas.scans import N_FOREIGN, DescriptorSource, Randomization
from pyxem_nas.training.judge_fit import (
    FittedJudges,
    KnownPatterns,
    fit_judges,
    fit_temperature,
    threshold_for_precision,
)
from pyxem_nas.training.network_training import (
    TrainingSettings,
    train_orientation_network,
    train_phase_network,
)
from pyxem_nas.training.phase_calibration import calibrate_phase_judge
from pyxem_nas.training.search import (
    SearchReport,
    SearchSettings,
    Tuner,
    hold_out_domain,
    is_search_worker,
    search_orientation_architecture,
    search_phase_architecture,
)

if TYPE_CHECKING:
    from orix.crystal_map import PhaseList

_logger = logging.getLogger(__name__)
_N_FOREIGN_PHASES = 24  # of them with atoms, for dynamical patterns
_N_VALIDATION = 3000
_LEAST_PHASE_SAMPLES = 150_000  # with 51,200 silver's phase network refused half of a real scan
_TRUE_PATTERNS_KEPT = 0.98
_PACKAGES = ("pyxem-nas", "keras", "tensorflow", "autokeras", "diffsims", "orix", "numpy")


@dataclass(frozen=True)
class _Workshop:
    """Working directory of one `search_models`, with what is done so far."""

    directory: Path
    report: Callable[[str], None]

    def check_settings(self, settings: dict[str, Any]) -> None:
        """Write the settings, or refuse a directory that was begun with others."""
        path = self.directory / "settings.json"
        plain = json.loads(json.dumps(settings))
        if path.exists():
            begun = json.loads(path.read_text())
            changed = sorted(k for k in plain if begun.get(k) != plain[k])
            if changed:
                raise ValueError(
                    f"{str(self.directory)!r} was begun with other settings ({changed!r} differ); "
                    "choose another directory or delete it"
                )
        else:
            self.write("settings.json", json.dumps(plain, indent=1).encode())

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all."""
        with replacing(self.directory / name) as temporary:
            temporary.write_bytes(content)

    def once(self, name: str, make: Callable[[], bytes]) -> bytes:
        """Return the content of a file, made first if it is not there."""
        path = self.directory / name
        if is_search_worker():  # the chief makes it
            while not path.exists():
                time.sleep(1)
        if not path.exists():
            self.write(name, make())
        return path.read_bytes()


def search_models(
    phase_list: PhaseList,
    acquisition: Acquisition,
    *,
    max_trials: int = 12,
    epochs: int = 4,
    n_samples: int | Mapping[str, int] = 600_000,
    directory: Path | str | None = None,
    seed: int = 0,
    name: str = "custom",
    n_dynamical: int = 6000,
    phase_input: Literal["descriptor", "pattern"] = "descriptor",
    rotate: bool = True,
    architecture: Architecture | None = None,
    phase_architecture: Architecture | None = None,
    search_phase: str | None = None,
    shared_architecture: bool = True,
    tuner: Tuner = "greedy",
    min_patterns_per_second: float = 0.0,
    spec: DescriptorSpec | None = None,
    randomization: Randomization | None = None,
    initial: ModelBundle | None = None,
    report: Callable[[str], None] = _logger.info,
) -> ModelBundle:
    """Make a bundle for phases: search architectures, train on simulated patterns, calibrate.

    Parameters
    ----------
    phase_list
        Phases with structures. They are numbered 0 to n - 1 in their order.
    acquisition
        Microscope.
    max_trials
        Trials of each architecture search; 0 takes `architecture` without a search.
    epochs
        Passes over the search's descriptors per trial.
    n_samples
        Simulated descriptors that each orientation network is trained on, or a mapping from phase
        names to such numbers; the phase network gets a third of the largest, or all of it
        up to 150,000. Its search, an easier
        one, has half the epochs of half the descriptors.
    directory
        Working directory. What is in it is not done again. None: a new temporary folder.
    seed
        Of everything.
    name
        Name of the bundle.
    n_dynamical
        Orientations of each phase for which Bloch waves are computed, for half of the patterns in
        training and for calibration (about 300 a second for a small cell, 30 for cementite, on two
        cores); 0 trains and calibrates on kinematical and two-beam patterns alone.
    phase_input
        What the phase network sees: the polar descriptor, on which it is invariant to rotations by
        construction, or the Cartesian "pattern", as in the founding paper.
    rotate
        Turn Cartesian patterns by random angles in search and training (the paper's augmentation).
    architecture
        Of the orientation networks, where nothing is searched. None: `default_architecture`.
    phase_architecture
        Of the phase network on descriptors, likewise. None: `default_phase_architecture`.
    search_phase
        Name of the phase that is searched and trained first; the other networks start from its
        weights. None: the first.
    shared_architecture
        Search on that phase and take the architecture for the others too, instead of one search per
        phase.
    tuner
        AutoKeras' tuner.
    min_patterns_per_second
        A search's slower networks are reported, trained for one step only and not taken.
    spec
        The descriptor.
    randomization
        Ranges of specimen and camera; None: the default with a precession of 0.2 degrees about the
        acquisition's.
    initial
        A bundle whose networks the training starts from, where shapes agree. The network of a
        phase that it knows by name goes on learning, at a third of the learning rate.
    report
        Called with lines of progress; by default they are logged.

    Returns
    -------
    bundle
        Networks, calibration, search report and provenance.

    Raises
    ------
    ValueError
        If a phase is no checked crystal (see `read_phases`), or `directory` was begun with other
        settings, of which the crystals' atoms are a part.
    """
    names = [phase.name for _, phase in phase_list]
    if isinstance(n_samples, Mapping) and set(n_samples) != set(names):
        raise ValueError(f"n_samples must name the phases {names!r}, got {sorted(n_samples)!r}")
    if search_phase is not None and search_phase not in names:
        raise ValueError(f"search_phase must be one of {names!r}, got {search_phase!r}")
    if phase_input not in ("descriptor", "pattern"):
        raise ValueError(f'phase_input must be "descriptor" or "pattern", got {phase_input!r}')
    spec = spec or DescriptorSpec()
    randomization = randomization or _randomization_for(acquisition)
    phase_list = number_phases([phase for _, phase in phase_list])
    phases = [phase for _, phase in phase_list]
    for phase in phases:
        check_phase(phase)
    directory = Path(directory or tempfile.mkdtemp(prefix="pyxem-nas-"))
    directory.mkdir(parents=True, exist_ok=True)
    workshop = _Workshop(directory, report)
    settings = {
        # atoms and group too: a corrected CIF file is another crystal
        "phases": [phase_to_dict(p) | {"color": None} for p in phases],
        "acquisition": acquisition.to_dict(),
        "max_trials": max_trials,
        "epochs": epochs,
        "n_samples": n_samples if isinstance(n_samples, int) else dict(n_samples),
        "seed": seed,
        "tuner": tuner,
        "min_patterns_per_second": min_patterns_per_second,
        "search_phase": search_phase,
        "phase_input": phase_input,
        "rotate": rotate,
        "architecture": None if architecture is None else architecture.to_dict(),
        "phase_architecture": None if phase_architecture is None else phase_architecture.to_dict(),
        "shared_architecture": shared_architecture,
        "spec": spec.to_dict(),
        "randomization": randomization.to_dict(),
        "n_dynamical": n_dynamical,
    }
    donors = {} if initial is None else _find_donors(initial, names)
    if donors:
        settings["initial"] = {
            "name": initial.name,
            "settings": dict(initial.provenance.get("settings", {})),
            "networks": {n: hashlib.sha256(content).hexdigest() for n, content in donors.items()},
        }
    workshop.check_settings(settings)
    started = time.perf_counter()
    source = _make_source(workshop, phases, acquisition, spec, randomization, n_dynamical, seed)
    cells = [make_cells(phase) for phase in phases]
    searches = SearchSettings(
        max_trials,
        epochs,
        tuner=tuner,
        seed=seed,
        min_patterns_per_second=min_patterns_per_second,
    )
    n_wanted = [n_samples if isinstance(n_samples, int) else n_samples[p.name] for p in phases]
    training = [
        TrainingSettings(n_samples=n, samples_per_epoch=min(25_600, n), seed=seed) for n in n_wanted
    ]

    models: dict[str, bytes] = {}
    reports: list[dict[str, Any]] = []
    found = architecture or default_architecture()
    order = list(range(len(phases)))
    if search_phase is not None:
        order.sort(key=lambda k: phases[k].name != search_phase)
    first = f"orientation_{order[0]}"
    longest = max(training, key=lambda settings: settings.n_samples)
    training = [_go_on(t) if f"orientation_{k}" in donors else t for k, t in enumerate(training)]
    for k in order:
        if max_trials and (k == order[0] or not shared_architecture):
            found = _search_once(
                workshop,
                f"search_{k}.json",
                lambda k=k: search_orientation_architecture(
                    source, cells[k], k, searches, directory, name=phases[k].name, report=report
                ),
                reports,
            ).architecture
        models[f"orientation_{k}"] = workshop.once(
            f"orientation_{k}.keras",
            lambda k=k, found=found: _train_orientation(
                workshop,
                source,
                cells[k],
                k,
                found,
                training[k],
                donors.get(f"orientation_{k}", models.get(first)),
            ),
        )
    pattern_spec = PatternSpec(blur=spec.blur) if phase_input == "pattern" else None
    phase_source = dataclasses.replace(source, spec=pattern_spec or spec)
    phase_architecture = phase_architecture or default_phase_architecture()
    if pattern_spec is not None:
        phase_architecture = PatternArchitecture(rotate=rotate)
    if max_trials:
        easier = dataclasses.replace(
            searches, epochs=max(1, epochs // 2), n_train=searches.n_train // 2
        )
        result = _search_once(
            workshop,
            "search_phase.json",
            lambda: search_phase_architecture(
                phase_source, easier, directory, rotate=rotate, report=report
            ),
            reports,
        )
        phase_architecture = (
            result.architecture if pattern_spec is None else result.get_pattern_architecture(rotate)
        )
    models["phase"] = workshop.once(
        "phase.keras",
        lambda: _train_phase(
            workshop, phase_source, phase_architecture,
            _go_on(longest) if "phase" in donors else longest,
            donors.get("phase", models[first]),
        ),
    )  # fmt: skip
    report("calibrating on held-out simulations")
    bundle = ModelBundle(
        name,
        phase_list,
        acquisition,
        spec,
        models,
        dict(enumerate(cells)),
        precession_range=randomization.precession_angle,
        search_report=reports,
        pattern_spec=pattern_spec,
    )
    bundle, figures = calibrate(bundle, source, seed=seed, n_dynamical=min(1000, n_dynamical))
    provenance = {
        "settings": settings,
        "validation": figures,
        "versions": {package: version(package) for package in _PACKAGES},
        "date": date.today().isoformat(),
        "seconds_of_last_run": round(time.perf_counter() - started),
    }
    return dataclasses.replace(bundle, provenance=provenance)


def _make_source(
    workshop, phases, acquisition, spec, randomization, n_dynamical, seed
) -> DescriptorSource:
    """Return the simulator of training: known phases, foreign crystals, dynamical spots of both."""
    rng = np.random.default_rng((seed, 11))
    known = get_reflections(phases)
    foreign = make_foreign_phases(known, _N_FOREIGN_PHASES, rng) if n_dynamical else []
    reflections = make_foreign_reflections(get_reflections([*phases, *foreign]), N_FOREIGN, rng)
    library = None
    if n_dynamical:
        wanted = [n_dynamical] * len(phases) + [max(1, n_dynamical // 20)] * len(foreign)
        parts = []
        for k, (phase, n) in enumerate(zip([*phases, *foreign], wanted, strict=True)):
            content = workshop.once(
                f"dynamical_{k}.npz",
                lambda k=k, phase=phase, n=n: _draw_spots(
                    phase, n, acquisition, randomization, (seed, 13, k), workshop.report
                ).to_bytes(),
            )
            parts.append(DynamicalSpots.from_bytes(content))
        library = SpotLibrary(parts)
    return DescriptorSource(
        reflections, len(phases), acquisition, spec, randomization, library=library
    )


def _draw_spots(phase, n, acquisition, randomization, seed, report) -> DynamicalSpots:
    report(f"computing Bloch waves of {phase.name}: {n} orientations")
    return draw_dynamical_spots(
        phase,
        n,
        acquisition,
        np.random.default_rng(seed),
        thickness=randomization.thickness,
        precession_angle=randomization.precession_angle,
    )


def default_architecture() -> Architecture:
    """Return the orientation networks' architecture, for training without a search.

    What our own search found, at half its width: a third of the arithmetic, which pays for more
    training and for indexing (`benchmarks/results/search_study.md`).
    """
    return Architecture(width=64)


def default_phase_architecture() -> Architecture:
    """Return the phase network's architecture that our own search found."""
    return Architecture(width=64, normalization="batch", squeeze_excitation=True)


def _find_donors(initial: ModelBundle, names: list[str]) -> dict[str, bytes]:
    """Return a bundle's networks of phases of these names, by the names they get."""
    donors = {}
    for k, name in enumerate(names):
        if name in initial.phase_names:
            network = initial.models.get(f"orientation_{initial.phase_names.index(name)}")
            donors |= {f"orientation_{k}": network} if network else {}
    if initial.phase_names == names and "phase" in initial.models:
        donors["phase"] = initial.models["phase"]
    return donors


def _go_on(settings: TrainingSettings) -> TrainingSettings:
    """Return settings for a network that has learnt the task already."""
    return dataclasses.replace(settings, learning_rate=settings.learning_rate / 3)


def _randomization_for(acquisition: Acquisition) -> Randomization:
    angle = acquisition.precession_angle
    return Randomization(precession_angle=(max(0.0, angle - 0.2), angle + 0.2))


def _search_once(workshop, name, search: Callable[[], SearchReport], reports) -> SearchReport:
    """Run a search unless its report is there; add it to the reports."""
    if is_search_worker() and not (workshop.directory / name).exists():
        search()  # the chief's report follows
    content = workshop.once(name, lambda: json.dumps(search().to_dict()).encode())
    fields = json.loads(content)
    reports.append(fields)
    settings = SearchSettings(**fields["settings"])
    return SearchReport(fields["target"], fields["trials"], settings, fields["seconds"])


def _train_orientation(workshop, source, cells, k, architecture, training, donor) -> bytes:
    import keras

    keras.utils.set_random_seed(training.seed + k)
    model = build_orientation_network(
        architecture, source.spec.shape, cells.n_inplane, cells.n_directions
    )
    workshop.report(
        f"training the orientation network of phase {k}: {model.count_params()} weights"
    )
    _start_from(model, donor, workshop.report)
    checkpoint = workshop.directory / f"checkpoint_{k}"
    train_orientation_network(
        model, source, cells, k, training, checkpoint=checkpoint, report=workshop.report
    )
    return dump_keras(model)


def _train_phase(workshop, source, architecture, training, donor) -> bytes:
    import keras

    keras.utils.set_random_seed(training.seed + 1000)
    model = build_phase_network(architecture, source.spec.shape, source.n_known + 1)
    workshop.report(f"training the phase network: {model.count_params()} weights")
    _start_from(model, donor, workshop.report)
    n_samples = max(training.n_samples // 3, min(_LEAST_PHASE_SAMPLES, training.n_samples))
    train_phase_network(
        model,
        source,
        dataclasses.replace(training, n_samples=n_samples),
        checkpoint=workshop.directory / "checkpoint_phase",
        report=workshop.report,
    )
    return dump_keras(model)


def _start_from(model, donor: bytes | None, report) -> None:
    """Copy the weights of another network, layer by layer while the shapes agree."""
    if donor is None:
        return
    n_copied = 0
    weighted = [
        [layer for layer in network.layers if layer.weights]
        for network in (model, load_keras(donor))
    ]
    for mine, theirs in zip(*weighted, strict=False):
        if [w.shape for w in mine.weights] != [w.shape for w in theirs.weights]:
            break
        mine.set_weights(theirs.get_weights())
        n_copied += 1
    report(f"  {n_copied} layers start from a trained network")


def calibrate(
    bundle: ModelBundle,
    source: DescriptorSource,
    *,
    seed: int = 0,
    n: int = _N_VALIDATION,
    n_dynamical: int = 1000,
) -> tuple[ModelBundle, dict[str, Any]]:
    """Fit judges, temperature and thresholds of a bundle on held-out simulations.

    Parameters
    ----------
    bundle
        With its networks.
    source
        Simulator of the training; the patterns are drawn with other seeds.
    seed
        Of the simulations.
    n
        Patterns per phase.
    n_dynamical
        Orientations per phase whose Bloch waves are computed: all patterns of known phases are
        dynamical then. 0: they are drawn from the half of the randomisation that searches judge on.

    Returns
    -------
    bundle
        Calibrated.
    figures
        What was reached on the held-out simulations, for the provenance.
    """
    simulator = _held_out_simulator(bundle, source, seed, n_dynamical)
    judges, figures, confidences, unsure = {}, {}, [], []
    for k, phase in enumerate(bundle.phases):
        fitted = _calibrate_phase(bundle, simulator, k, seed, n)
        judges[k] = fitted.judges
        figures[phase.name] = fitted.figures
        unsure.append(threshold_for_precision(fitted.probability, fitted.right))
        confidences.append(fitted.probability)
    temperature, accuracy, phase_confidence = _calibrate_phase_network(bundle, simulator, seed, n)
    figures["phase_accuracy"] = accuracy
    known = np.concatenate(phase_confidence)
    confidence = np.quantile(np.concatenate(confidences), 1 - _TRUE_PATTERNS_KEPT)
    # a network of a few steps of training may know no pattern at all
    certainty = np.quantile(known, 1 - _TRUE_PATTERNS_KEPT) if len(known) else 0.0
    thresholds = Thresholds(
        float(max(unsure)), float(confidence * certainty), phase_confidence=float(certainty)
    )
    calibrated = dataclasses.replace(
        bundle, judges=judges, thresholds=thresholds, phase_temperature=temperature
    )
    phase_judge, figures["phase_by_physics"] = calibrate_phase_judge(
        calibrated, simulator, seed=seed, n=n
    )
    return dataclasses.replace(calibrated, phase_judge=phase_judge), figures


def _held_out_simulator(bundle, source, seed, n_dynamical) -> DescriptorSource:
    """Return a simulator of patterns that no network was trained on, at one precession angle."""
    angle = float(np.mean(source.randomization.precession_angle))
    randomization = dataclasses.replace(source.randomization, precession_angle=(angle, angle))
    if not n_dynamical:
        _, held_out = hold_out_domain(randomization)
        return dataclasses.replace(source, randomization=held_out, library=None)
    drawn = [
        _draw_spots(
            phase, n_dynamical, source.acquisition, randomization, (seed, 17, k), _logger.info
        )
        for k, phase in enumerate(bundle.phases)
    ]
    # the foreign crystals' dynamical patterns are those of the training: there are no others
    others = source.library.phases[len(drawn) :] if source.library else []
    randomization = dataclasses.replace(randomization, dynamical_share=(1.0, 1.0))
    return dataclasses.replace(
        source, randomization=randomization, library=SpotLibrary([*drawn, *others])
    )


def _calibrate_phase(bundle, simulator, k, seed, n) -> FittedJudges:
    """Fit the judges of a phase to simulations."""
    specs = (bundle.spec, get_refinement_spec(bundle.spec))
    stacks = [
        dataclasses.replace(simulator, spec=spec).simulate(
            n, np.random.default_rng((seed, 501, k)), phase_id=k
        )
        for spec in specs  # the same seed: the same patterns, described twice
    ]
    descriptors, _, truth = stacks[0]
    logits = load_keras(bundle.models[f"orientation_{k}"]).predict(
        descriptors, batch_size=256, verbose=0
    )
    found = select_candidates(logits, None, bundle.cells[k])
    return fit_judges(
        KnownPatterns(descriptors, stacks[1][0], truth, *found),
        simulator.reflections,
        k,
        laue_operations(bundle.phases[k]),
        spec=bundle.spec,
        wavelength=simulator.acquisition.wavelength,
        precession_angle=simulator.randomization.precession_angle[0],
    )


def _calibrate_phase_network(bundle, simulator, seed, n):
    """Return temperature, accuracy per class and the confidence of true patterns' right class."""
    simulator = dataclasses.replace(simulator, spec=bundle.pattern_spec or bundle.spec)
    descriptors, classes, _ = simulator.simulate(
        n * (simulator.n_known + 1), np.random.default_rng((seed, 601))
    )
    model = load_keras(bundle.models["phase"])
    logits = model.predict(descriptors, batch_size=256, verbose=0)
    temperature, probability = fit_temperature(logits, classes)
    answer = probability.argmax(axis=1)
    names = [*bundle.phase_names, "none of these"]
    accuracy = {
        name: float((answer == classes)[classes == k].mean()) for k, name in enumerate(names)
    }
    confidence = [
        probability.max(axis=1)[(classes == k) & (answer == k)] for k in range(len(names) - 1)
    ]
    return temperature, accuracy, confidence
