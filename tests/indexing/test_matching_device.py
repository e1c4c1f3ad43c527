"""Tests of `matching_device`: the same answers as the processor's, on Keras's device."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from pyxem_nas.diffraction import Acquisition, random_quaternions
from pyxem_nas.indexing import matching, matching_device
from pyxem_nas.indexing.match_library import get_match_library
from pyxem_nas.indexing.template_drawing import (
    MatchingSettings,
    draw_templates,
    order_harmonics,
)
from pyxem_nas.patterns import DescriptorSpec
from pyxem_nas.scans.specimens import example_phases, make_phase

ACQUISITION = Acquisition(200.0, 0.5)
SPEC = DescriptorSpec()
TOLERANCE = 1e-5  # of scores, which are below 1
CRYSTALS = {
    "cubic": (lambda: example_phases("steel")["NbC"], MatchingSettings(spacing=3.0)),
    "triclinic": (
        lambda: make_phase(
            "triclinic", 2, (4.1, 5.2, 6.3, 85, 97, 104),
            [("Ti", (0.1, 0.2, 0.3)), ("O", (0.6, 0.3, 0.8))],
        ),
        MatchingSettings(spacing=7.0, n_angles=112),
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=CRYSTALS)
def case(request):
    """Spectra of noisy patterns, the last one empty, and a library."""
    make, settings = CRYSTALS[request.param]
    phase, rng = make(), np.random.default_rng(3)
    library = get_match_library(phase, ACQUISITION, SPEC, settings, disk_cache=False)
    truth = random_quaternions(19, rng)
    patterns = draw_templates(phase, truth, ACQUISITION, SPEC, MatchingSettings())
    patterns += 0.05 * rng.random(patterns.shape, np.float32)
    patterns[-1] = 0
    return matching.transform(patterns, SPEC), library


def compare_by_device(spectra, library, n_best=12):
    return matching_device.match_on_device(spectra, library, n_best, matching.DISTINCT_COSINE)


def test_candidates_and_scores_are_those_of_the_processor(case):
    spectra, library = case
    ours, scores = matching.match_spectra(spectra, library)
    theirs, theirs_scores = compare_by_device(spectra, library)
    np.testing.assert_allclose(theirs_scores, scores, atol=TOLERANCE)
    assert (scores[:-1, 0] > 0.2).all() and not theirs[-1].any() and not theirs_scores[-1].any()
    # candidates whose scores differ by less than the tolerance may change places
    for i in range(len(spectra)):
        cosine = np.abs(theirs[i] @ ours[i].T).max(axis=0)
        gap = np.abs(np.subtract.outer(scores[i], scores[i])) + np.eye(len(scores[i]))
        alone = (gap.min(axis=0) > 2 * TOLERANCE) & (scores[i] > scores[i, -1] + 2 * TOLERANCE)
        assert (cosine[alone] > 1 - 1e-9).all()
        assert alone.sum() >= (3 if i < len(spectra) - 1 else 0)


def test_maxima_are_those_of_all_correlations(case):
    spectra, library = case
    ((_, highest),) = matching_device.find_maxima(spectra[:1], library)
    # half a step further: the angles that are looked at lie between those of whole steps
    half = np.exp(1j * np.pi / library.n_angles * order(library))
    turned = (spectra[0, :, 0] + 1j * spectra[0, :, 1]) * half[:, None]
    turned = np.stack([turned.real, turned.imag], axis=1)[None].astype(np.float32)
    everywhere = matching.score_everywhere(turned, library).max(axis=2)
    found = highest[0].view(np.float32).reshape(-1, 2, 4, highest.shape[-1]).max(axis=2)
    found = found.transpose(1, 0, 2).reshape(2, -1)[:, : library.n_templates]
    np.testing.assert_allclose(found, np.maximum(everywhere, 0), atol=TOLERANCE)


def order(library):
    return order_harmonics(library.n_harmonics)


def test_rows_do_not_depend_on_blocks(case):
    spectra, library = case
    blocks = matching_device.find_maxima(spectra, library, n_block=8)
    starts, parts = zip(*blocks, strict=True)
    assert starts == (0, 8, 16)
    ((_, whole),) = matching_device.find_maxima(spectra, library, n_block=32)
    values = [a.view(np.float32) for a in (np.concatenate(parts), whole)]
    np.testing.assert_allclose(*values, atol=TOLERANCE)


def test_blocks_fit_the_memory():
    library = get_match_library(
        CRYSTALS["triclinic"][0](), ACQUISITION, SPEC, MatchingSettings(), disk_cache=False
    )
    small = get_match_library(CRYSTALS["cubic"][0](), ACQUISITION, SPEC, disk_cache=False)
    n, few = matching_device.choose_block(small), matching_device.choose_block(library)
    assert 8 <= few < n <= 1024
    products = 4 * 4 * few * library.n_templates * library.n_harmonics
    assert products < 2**30


def test_a_gpu_is_used_where_there_is_one(case, monkeypatch, caplog):
    spectra, library = case
    expected = matching.match_spectra(spectra, library, n_best=4)
    calls = []

    def count(*arguments):
        calls.append(arguments)
        return expected

    monkeypatch.setattr(matching, "has_gpu", lambda: True)
    monkeypatch.setattr(matching, "_refusals", [])
    monkeypatch.setattr(matching_device, "match_on_device", count)
    assert matching.match_spectra(spectra, library, n_best=4) is expected
    assert len(calls) == 1

    def fail(*arguments):
        calls.append(arguments)
        raise MemoryError("the device is full")

    # one that does not work is no reason to stop
    monkeypatch.setattr(matching_device, "match_on_device", fail)
    with caplog.at_level(logging.WARNING):
        found, again = (matching.match_spectra(spectra, library, n_best=4) for _ in range(2))
    assert len(calls) == 2 and caplog.text.count("the device is full") == 1
    for scores in (found[1], again[1]):
        np.testing.assert_array_equal(scores, expected[1])
