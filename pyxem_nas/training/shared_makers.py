"""The networks of a bundle with one trunk: searched and trained together, once in a directory.

Owns how a trunk and its heads come to be, and how a new phase gets a head on a trunk that is kept.
Networks with trunks of their own are `network_makers`'.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pyxem_nas.bundles import (
    TRUNK,
    build_orientation_head_network,
    build_phase_head_network,
    build_shared_networks,
    dump_keras,
    load_keras,
)
from pyxem_nas.training.network_makers import (
    NetworkMakers,
    default_architecture,
    search_once,
    start_from,
)
from pyxem_nas.training.network_training import train_shared_networks
from pyxem_nas.training.search import SearchReport, search_shared_architecture

if TYPE_CHECKING:
    import keras

_HEAD_BLOCKS = 2  # of a head on a trunk that was trained for other phases


def make_shared_networks(makers: NetworkMakers, reports: list[dict[str, Any]]) -> dict[str, bytes]:
    """Return trunk and heads by name; reports of searches are added to `reports`.

    Where the donors hold a trunk it stays as it is, with the heads of the phases that it knows, and
    only the others are trained. Where they hold a network with a trunk of its own the new one
    starts from that.
    """
    content = makers.workshop.once("shared.zip", lambda: _pack(_make(makers, reports)))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        models = {name: archive.read(name) for name in archive.namelist()}
    if makers.task.pattern_spec is not None:
        models["phase"] = makers.make_phase_network(reports, models[TRUNK])
    return models


def _pack(models: Mapping[str, bytes]) -> bytes:
    """Return networks as one file, so that all are there or none."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in models.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _make(makers: NetworkMakers, reports: list[dict[str, Any]]) -> dict[str, bytes]:
    import keras

    kept = dict(makers.donors) if TRUNK in makers.donors else {}
    settings = makers.task.get_shared_training()
    keras.utils.set_random_seed(settings.seed)
    networks = _add_heads(makers, kept) if kept else _build(makers, reports)
    cells = {k: c for k, c in enumerate(makers.cells) if f"orientation_{k}" in networks}
    n_weights = sum(network.count_params() for network in networks.values())
    names = ", ".join(name for name in networks if name not in kept)
    makers.workshop.report(f"training {names}: {n_weights} weights")
    if len(networks) > 1:
        train_shared_networks(
            networks,
            makers.source,
            cells,
            settings,
            checkpoint=makers.workshop.directory / "checkpoint_shared",
            report=makers.workshop.report,
        )
    return {name: dump_keras(network) for name, network in networks.items()} | kept


def _build(makers: NetworkMakers, reports: list[dict[str, Any]]) -> dict[str, keras.Model]:
    """Return a new trunk with its heads, of the architecture that a search finds or is stated."""
    task, cells = makers.task, dict(enumerate(makers.cells))
    architecture = task.architecture or default_architecture()
    if task.searches.max_trials:

        def search() -> SearchReport:
            return search_shared_architecture(
                makers.source,
                cells,
                task.searches,
                makers.workshop.directory,
                added=makers.draw_added_values(cells) or None,
                report=makers.workshop.report,
            )

        architecture = search_once(
            makers.workshop, "search_shared.json", search, reports
        ).architecture
    n_classes = 0 if task.pattern_spec is not None else len(cells) + 1
    networks = build_shared_networks(architecture, makers.source.spec.shape, cells, n_classes)
    start_from(networks[TRUNK], next(iter(makers.donors.values()), None), makers.workshop.report)
    return networks


def _add_heads(makers: NetworkMakers, kept: Mapping[str, bytes]) -> dict[str, keras.Model]:
    """Return a trunk that no longer learns, and the heads that it lacks."""
    trunk = load_keras(kept[TRUNK])
    trunk.trainable = False
    shape, task = trunk.output_shape[1:], makers.task
    networks = {TRUNK: trunk}
    for k, cells in enumerate(makers.cells):
        name = f"orientation_{k}"
        if name not in kept:
            networks[name] = build_orientation_head_network(
                shape, cells, name, n_blocks=_HEAD_BLOCKS
            )
    if "phase" not in kept and task.pattern_spec is None:
        networks["phase"] = build_phase_head_network(shape, len(makers.cells) + 1)
    return networks
