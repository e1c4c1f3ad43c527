"""What of a bundle is ready for use in this process: networks, reflections, symmetry.

Owns `Predictor` and the networks' answers, logits and candidates. Loaded once per process and kept
by the bundle's hash; what is made of the answers belongs to `branches`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from pyxem_nas.bundles import TRUNK, BundleError, ModelBundle
from pyxem_nas.diffraction import Reflections, get_reflections, laue_operations
from pyxem_nas.indexing.candidates import (
    log_posterior_at,
    select_candidates,
    select_with_norms,
    sum_exponentials,
)
from pyxem_nas.indexing.match_library import make_fingerprint
from pyxem_nas.indexing.runtime import Network, Precision, Sample, choose_precision, load_network

KERNEL_LOCK = threading.RLock()  # TensorFlow and numba use all cores by themselves
_N_PREDICTORS = 4  # kept in a process
_predictors: dict[tuple[str, str], Predictor] = {}


def get_predictor(bundle: ModelBundle, precision: Precision = "auto") -> Predictor:
    """Return the loaded networks and reflections of a bundle, one per process and precision."""
    key = bundle.hash, choose_precision(precision)
    with KERNEL_LOCK:
        predictor = _predictors.get(key)
        if predictor is None:
            if len(_predictors) >= _N_PREDICTORS:
                _predictors.pop(next(iter(_predictors)))
            predictor = _predictors[key] = Predictor(bundle, key[1])
        return predictor


class Predictor:
    """Networks and reflections of a bundle, ready for use in this process.

    Parameters
    ----------
    bundle
        The bundle.
    precision
        Of the networks' arithmetic.
    """

    def __init__(self, bundle: ModelBundle, precision: Precision = "auto") -> None:
        self.bundle = bundle
        self.precision = choose_precision(precision)
        self.reflections: Reflections = get_reflections(bundle.phases)
        self.symmetry = [laue_operations(p) for p in bundle.phases]
        self._networks: dict[str, Network] = {}
        self._fingerprints: dict[int, bytes] = {}

    def get_fingerprint(self, phase_id: int) -> bytes:
        """Return a phase's `match_library.make_fingerprint`, which takes milliseconds to make."""
        if phase_id not in self._fingerprints:
            phase = self.bundle.phases[phase_id]
            self._fingerprints[phase_id] = make_fingerprint(phase, self.bundle.spec)
        return self._fingerprints[phase_id]

    @property
    def trunk(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """From descriptors to the features that the networks take; None where they share none."""
        return self.extract_features if self.bundle.has_trunk else None

    def extract_features(self, descriptors: np.ndarray) -> np.ndarray:
        """Return the shared trunk's features, shape (n, n_positions, width), float32."""
        network = self._get_network(TRUNK)
        features = np.empty((len(descriptors), *network.output_shape), np.float32)
        start = 0
        for part in network.predict_all(descriptors):
            features[start : start + len(part)] = part
            start += len(part)
        return features

    def run(self, name: str, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return a network's logits (n, n_out) and the log of the sum of their exponentials.

        `inputs` are descriptors, or features where the networks share a trunk.
        """
        network, inputs = self._prepare(name, inputs)
        logits = np.concatenate(list(network.predict_all(inputs)))
        logits = logits.astype(np.float32, copy=False) * np.float32(network.scale)
        return logits, sum_exponentials(logits)

    def find_candidates(
        self, phase_id: int, descriptors: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return candidates and their log-posterior, as `select_candidates` does.

        The logits, up to a third of a megabyte a pattern, are looked at batch by batch.
        """
        network, descriptors = self._prepare(f"orientation_{phase_id}", descriptors)
        cells = self.bundle.cells[phase_id]
        parts = [
            select_candidates(logits, None, cells, scale=network.scale)
            for logits in network.predict_all(descriptors)
        ]
        quaternions, log_posterior = zip(*parts, strict=True)
        return np.concatenate(quaternions), np.concatenate(log_posterior)

    def find_and_weigh(
        self, phase_id: int, descriptors: np.ndarray, known: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what `find_candidates` does and the log-posterior (n, m) of others (n, m, 4)."""
        network, descriptors = self._prepare(f"orientation_{phase_id}", descriptors)
        cells = self.bundle.cells[phase_id]
        parts, start = [], 0
        for logits in network.predict_all(descriptors):
            rows = slice(start, start + len(logits))
            quaternions, log_posterior, norms = select_with_norms(
                logits, None, cells, scale=network.scale
            )
            weighed = log_posterior_at(logits, norms, cells, known[rows], scale=network.scale)
            parts.append((quaternions, log_posterior, weighed))
            start += len(logits)
        return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))

    def classify(
        self, log_probability: np.ndarray | None, n: int, *, reject: bool
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return phase id and its probability of n patterns; None where physics decides.

        `log_probability` is `log_phase_probability`'s. With `reject`, n_phases stands for "none of
        these".
        """
        if log_probability is not None:
            probability = np.exp(log_probability)
            # without rejection "none of these" is no answer
            allowed = probability if reject else probability[:, :-1]
            return allowed.argmax(axis=1), allowed.max(axis=1)
        if len(self.bundle.phases) == 1:
            return np.zeros(n, int), np.full(n, np.nan)
        return None, None

    def log_phase_probability(self, inputs: np.ndarray) -> np.ndarray | None:
        """Return the logarithm of the phase network's probabilities, (n, n_phases + 1).

        None of a bundle without a phase network.
        """
        if "phase" not in self.bundle.models:
            return None
        logits, _ = self.run("phase", inputs)
        scaled = logits.astype(np.float64) / (self.bundle.phase_temperature or 1.0)
        return scaled - np.logaddexp.reduce(scaled, axis=1, keepdims=True)

    def _prepare(self, name: str, inputs: np.ndarray) -> tuple[Network, np.ndarray]:
        """Return a network and its inputs: features for descriptors where it is a head."""
        network = self._get_network(name)
        if self.bundle.is_head(name) and inputs.shape[1:] != network.input_shape:
            inputs = self.extract_features(inputs)
        return network, inputs

    def _get_network(self, name: str) -> Network:
        """Return a network, loaded at its first use."""
        if name not in self._networks:
            content = self.bundle.models[name]
            network = load_network(content, self.precision, Sample(self.bundle, name))
            self._check_shapes(network, name)
            self._networks[name] = network
        return self._networks[name]

    def _check_shapes(self, network: Network, name: str) -> None:
        """Raise BundleError where a network is not one for what the bundle says of it."""
        bundle = self.bundle
        expected = ((bundle.pattern_spec or bundle.spec).shape, (len(bundle.phases) + 1,))
        if name.startswith("orientation_"):
            cells = bundle.cells[int(name.removeprefix("orientation_"))]
            expected = (bundle.spec.shape, (cells.n_cells,))
        if name == TRUNK:
            expected = (bundle.spec.shape, network.output_shape)
        elif bundle.is_head(name):
            expected = (self._get_network(TRUNK).output_shape, expected[1])
        found = network.input_shape, network.output_shape
        if found != expected:
            raise BundleError(
                f"network {name!r} of bundle {bundle.name!r} takes and gives {found!r}, its phases "
                f"and descriptor need {expected!r}; make the bundle anew"
            )
