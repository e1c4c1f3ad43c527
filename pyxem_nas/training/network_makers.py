"""The networks of a bundle: each searched, or as stated, then trained; once in a directory.

Owns which network starts from which, and what the shipped architectures are. The search itself
belongs to `search`, the training loop to `network_training`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pyxem_nas.bundles import (
    Architecture,
    ModelBundle,
    PatternArchitecture,
    build_orientation_network,
    build_phase_network,
    dump_keras,
    load_keras,
    number_phases,
)
from pyxem_nas.diffraction import OrientationCells
from pyxem_nas.scans import DescriptorSource
from pyxem_nas.training.added_value import AddedValue, draw_added_value
from pyxem_nas.training.bundle_task import BundleTask
from pyxem_nas.training.network_training import (
    TrainingSettings,
    train_orientation_network,
    train_phase_network,
)
from pyxem_nas.training.search import (
    SearchReport,
    SearchSettings,
    hold_out_domain,
    is_search_worker,
    search_orientation_architecture,
    search_phase_architecture,
)
from pyxem_nas.training.workshop import Workshop

_LEAST_PHASE_SAMPLES = 150_000  # with 51,200 silver's phase network refused half of a real scan


@dataclass(frozen=True)
class NetworkMakers:
    """What it takes to make the networks of a task.

    Parameters
    ----------
    task
        What is asked for.
    workshop
        Where finished networks and reports are kept.
    source
        Simulator of the training.
    cells
        Of each phase.
    donors
        Networks to go on from, by the names that they get.
    """

    task: BundleTask
    workshop: Workshop
    source: DescriptorSource
    cells: tuple[OrientationCells, ...]
    donors: Mapping[str, bytes]

    def make_orientation_networks(self, reports: list[dict[str, Any]]) -> dict[str, bytes]:
        """Return a network for each phase, by name; reports of searches are added to `reports`.

        The others start from the weights of the first.
        """
        task = self.task
        models: dict[str, bytes] = {}
        found = task.architecture or default_architecture()
        first = task.order[0]
        for k in task.order:
            name = f"orientation_{k}"
            if task.searches.max_trials and (k == first or not task.shared_architecture):
                found = self._search_orientation(k, reports).architecture
            donor = self.donors.get(name, models.get(f"orientation_{first}"))
            models[name] = self.workshop.once(
                f"{name}.keras",
                lambda k=k, found=found, donor=donor: self._train_orientation(k, found, donor),
            )
        return models

    def make_phase_network(self, reports: list[dict[str, Any]], first: bytes) -> bytes:
        """Return the phase network; it starts from `first` where it has no donor of its own."""
        task = self.task
        source = dataclasses.replace(self.source, spec=task.pattern_spec or task.spec)
        architecture = task.phase_architecture or default_phase_architecture()
        if task.pattern_spec is not None:
            architecture = PatternArchitecture(rotate=task.rotate)
        if task.searches.max_trials:
            result = self._search_phase(source, reports)
            architecture = (
                result.architecture
                if task.pattern_spec is None
                else result.get_pattern_architecture(task.rotate)
            )
        donor = self.donors.get("phase", first)
        return self.workshop.once(
            "phase.keras", lambda: self._train_phase(source, architecture, donor)
        )

    def _search_orientation(self, k: int, reports: list[dict[str, Any]]) -> SearchReport:
        def search() -> SearchReport:
            return search_orientation_architecture(
                self.source,
                self.cells[k],
                k,
                self.task.searches,
                self.workshop.directory,
                name=self.task.phases[k].name,
                added=self.draw_added_values([k]).get(f"orientation_{k}"),
                report=self.workshop.report,
            )

        return search_once(self.workshop, f"search_{k}.json", search, reports)

    def draw_added_values(self, phase_ids: Iterable[int]) -> dict[str, AddedValue]:
        """Return what the objective of a search is measured on, by network; none if it is alone."""
        task = self.task
        if task.searches.objective == "alone":
            return {}
        bundle = ModelBundle.from_phases(number_phases(list(task.phases)), task.acquisition)
        _, randomization = hold_out_domain(self.source.randomization)
        held_out = dataclasses.replace(self.source, randomization=randomization)
        return {
            f"orientation_{k}": draw_added_value(
                bundle, held_out, k, self.cells[k], seed=task.searches.seed
            )
            for k in phase_ids
        }

    def _search_phase(
        self, source: DescriptorSource, reports: list[dict[str, Any]]
    ) -> SearchReport:
        searches = self.task.searches
        easier = dataclasses.replace(
            searches, epochs=max(1, searches.epochs // 2), n_train=searches.n_train // 2
        )

        def search() -> SearchReport:
            return search_phase_architecture(
                source,
                easier,
                self.workshop.directory,
                rotate=self.task.rotate,
                report=self.workshop.report,
            )

        return search_once(self.workshop, "search_phase.json", search, reports)

    def _train_orientation(self, k: int, architecture: Architecture, donor: bytes | None) -> bytes:
        import keras

        training, cells = self.task.get_training(k), self.cells[k]
        if f"orientation_{k}" in self.donors:
            training = _go_on(training)
        keras.utils.set_random_seed(training.seed + k)
        model = build_orientation_network(
            architecture, self.source.spec.shape, cells.n_inplane, cells.n_directions
        )
        report = self.workshop.report
        report(f"training the orientation network of phase {k}: {model.count_params()} weights")
        start_from(model, donor, report)
        checkpoint = self.workshop.directory / f"checkpoint_{k}"
        train_orientation_network(
            model, self.source, cells, k, training, checkpoint=checkpoint, report=report
        )
        return dump_keras(model)

    def _train_phase(
        self,
        source: DescriptorSource,
        architecture: Architecture | PatternArchitecture,
        donor: bytes,
    ) -> bytes:
        import keras

        every = [self.task.get_training(k) for k in range(len(self.cells))]
        training = max(every, key=lambda settings: settings.n_samples)
        if "phase" in self.donors:
            training = _go_on(training)
        keras.utils.set_random_seed(training.seed + 1000)
        model = build_phase_network(architecture, source.spec.shape, source.n_known + 1)
        self.workshop.report(f"training the phase network: {model.count_params()} weights")
        start_from(model, donor, self.workshop.report)
        n_samples = max(training.n_samples // 3, min(_LEAST_PHASE_SAMPLES, training.n_samples))
        train_phase_network(
            model,
            source,
            dataclasses.replace(training, n_samples=n_samples),
            checkpoint=self.workshop.directory / "checkpoint_phase",
            report=self.workshop.report,
        )
        return dump_keras(model)


def default_architecture() -> Architecture:
    """Return the orientation networks' architecture, for training without a search.

    What our own search found, at half its width: a third of the arithmetic, which pays for more
    training and for indexing (`benchmarks/results/search_study.md`).
    """
    return Architecture(width=64)


def default_phase_architecture() -> Architecture:
    """Return the phase network's architecture that our own search found."""
    return Architecture(width=64, normalization="batch", squeeze_excitation=True)


def _go_on(settings: TrainingSettings) -> TrainingSettings:
    """Return settings for a network that has learnt the task already."""
    return dataclasses.replace(settings, learning_rate=settings.learning_rate / 3)


def search_once(workshop, name, search: Callable[[], SearchReport], reports) -> SearchReport:
    """Run a search unless its report is there; add it to the reports."""
    if is_search_worker() and not (workshop.directory / name).exists():
        search()  # the chief's report follows
    content = workshop.once(name, lambda: json.dumps(search().to_dict()).encode())
    fields = json.loads(content)
    reports.append(fields)
    settings = SearchSettings(**fields["settings"])
    return SearchReport(fields["target"], fields["trials"], settings, fields["seconds"])


def start_from(model, donor: bytes | None, report) -> None:
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
