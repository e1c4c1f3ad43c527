"""From phases to a bundle: simulate, search, train, calibrate.

Owns `search_models` and what it is asked for, `BundleTask`. Every finished step is kept in the
working directory (`workshop`), so that a run that was killed goes on where it was. The networks are
made by `network_makers`, the judges by `bundle_calibration`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pyxem_nas.bundles import TRUNK, Architecture, ModelBundle, number_phases
from pyxem_nas.diffraction import Acquisition, make_cells
from pyxem_nas.patterns import DescriptorSpec
from pyxem_nas.scans import Randomization
from pyxem_nas.training.bundle_calibration import calibrate
from pyxem_nas.training.bundle_task import BundleTask
from pyxem_nas.training.network_makers import NetworkMakers
from pyxem_nas.training.search import SearchSettings, Tuner
from pyxem_nas.training.shared_makers import make_shared_networks
from pyxem_nas.training.training_source import make_training_source
from pyxem_nas.training.workshop import Workshop

if TYPE_CHECKING:
    from orix.crystal_map import PhaseList

_logger = logging.getLogger(__name__)
_PACKAGES = ("pyxem-nas", "keras", "tensorflow", "autokeras", "diffsims", "orix", "numpy")


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
    shared_trunk: bool = False,
    tuner: Tuner = "greedy",
    objective: Literal["alone", "with matching"] = "alone",
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
    shared_trunk
        Search and train one trunk with a head for the phases and one for the orientations of each:
        a pattern passes one network instead of two. `phase_architecture`, `search_phase` and
        `shared_architecture` do not count then.
    tuner
        AutoKeras' tuner.
    objective
        What is searched for: networks that are right "alone", as in the founding paper, or those
        that help exhaustive matching most, in whose company "hybrid" uses them; measured on
        simulations of another kind than they are trained on.
    min_patterns_per_second
        A search's slower networks are reported, trained for one step only and not taken.
    spec
        The descriptor.
    randomization
        Ranges of specimen and camera; None: the default with a precession of 0.2 degrees about the
        acquisition's.
    initial
        A bundle whose networks the training starts from, where shapes agree. The network of a
        phase that it knows by name goes on learning, at a third of the learning rate. With
        `shared_trunk`, of a bundle with a trunk, trunk and heads stay as they are, and only the
        heads of phases that it does not know are trained: minutes a phase.
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
    phases = number_phases([phase for _, phase in phase_list])
    task = BundleTask(
        phases=tuple(phase for _, phase in phases),
        acquisition=acquisition,
        spec=spec or DescriptorSpec(),
        randomization=randomization or _randomization_for(acquisition),
        n_samples=n_samples if isinstance(n_samples, int) else dict(n_samples),
        searches=SearchSettings(
            max_trials,
            epochs,
            tuner=tuner,
            seed=seed,
            min_patterns_per_second=min_patterns_per_second,
            objective=objective,
        ),
        seed=seed,
        n_dynamical=n_dynamical,
        phase_input=phase_input,
        rotate=rotate,
        architecture=architecture,
        phase_architecture=phase_architecture,
        search_phase=search_phase,
        shared_architecture=shared_architecture,
        shared_trunk=shared_trunk,
    )
    workshop = Workshop.open(directory or tempfile.mkdtemp(prefix="pyxem-nas-"), report)
    donors = {} if initial is None else _find_donors(initial, phases.names, shared_trunk)
    settings = task.to_dict() | ({"initial": _describe(initial, donors)} if donors else {})
    workshop.check_settings(settings)
    started = time.perf_counter()
    bundle, figures = _make_bundle(task, workshop, donors, name)
    seconds = round(time.perf_counter() - started)
    return dataclasses.replace(bundle, provenance=_describe_run(settings, figures, seconds))


def _make_bundle(
    task: BundleTask, workshop: Workshop, donors: Mapping[str, bytes], name: str
) -> tuple[ModelBundle, dict[str, Any]]:
    """Search, train and calibrate; return the bundle and what it reached."""
    source = make_training_source(
        workshop,
        task.phases,
        task.acquisition,
        task.spec,
        task.randomization,
        n_dynamical=task.n_dynamical,
        seed=task.seed,
    )
    cells = tuple(make_cells(phase) for phase in task.phases)
    makers = NetworkMakers(task, workshop, source, cells, donors)
    reports: list[dict[str, Any]] = []
    if task.shared_trunk:
        models = make_shared_networks(makers, reports)
    else:
        models = makers.make_orientation_networks(reports)
        models["phase"] = makers.make_phase_network(reports, models[f"orientation_{task.order[0]}"])
    workshop.report("calibrating on held-out simulations")
    bundle = ModelBundle(
        name,
        number_phases(list(task.phases)),
        task.acquisition,
        task.spec,
        models,
        dict(enumerate(cells)),
        precession_range=task.randomization.precession_angle,
        search_report=reports,
        pattern_spec=task.pattern_spec,
    )
    return calibrate(bundle, source, seed=task.seed, n_dynamical=min(1000, task.n_dynamical))


def _describe_run(
    settings: Mapping[str, Any], figures: Mapping[str, Any], seconds: int
) -> dict[str, Any]:
    """Return a bundle's provenance."""
    return {
        "settings": settings,
        "validation": figures,
        "versions": {package: version(package) for package in _PACKAGES},
        "date": date.today().isoformat(),
        "seconds_of_last_run": seconds,
    }


def _describe(initial: ModelBundle, donors: Mapping[str, bytes]) -> dict[str, Any]:
    """Return what tells the bundle that networks start from."""
    return {
        "name": initial.name,
        "settings": dict(initial.provenance.get("settings", {})),
        "networks": {n: hashlib.sha256(content).hexdigest() for n, content in donors.items()},
    }


def _find_donors(initial: ModelBundle, names: list[str], shared_trunk: bool) -> dict[str, bytes]:
    """Return a bundle's networks of phases of these names, by the names they get."""
    donors = {}
    if shared_trunk and initial.has_trunk:
        donors[TRUNK] = initial.models[TRUNK]
    else:
        initial = initial.with_whole_networks()
    for k, name in enumerate(names):
        if name in initial.phase_names:
            network = initial.models.get(f"orientation_{initial.phase_names.index(name)}")
            donors |= {f"orientation_{k}": network} if network else {}
    if initial.phase_names == names and "phase" in initial.models:
        donors["phase"] = initial.models["phase"]
    return donors


def _randomization_for(acquisition: Acquisition) -> Randomization:
    angle = acquisition.precession_angle
    return Randomization(precession_angle=(max(0.0, angle - 0.2), angle + 0.2))
