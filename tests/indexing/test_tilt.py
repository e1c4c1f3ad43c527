import dataclasses

import numpy as np
import pytest
from conftest import perturb

from pyxem_nas import Acquisition, Randomization
from pyxem_nas.diffraction import (
    SpotLibrary,
    disorientation_angles,
    draw_dynamical_spots,
    get_reflections,
    laue_operations,
    rotate_vectors,
)
from pyxem_nas.indexing.refinement import REFINEMENT_SPEC, refine_candidates
from pyxem_nas.indexing.tilt import WEIGHTS, correct_tilts, describe_tilts
from pyxem_nas.scans.source import DescriptorSource

ANGLE = 0.7  # degrees of precession
OPTICS = {"wavelength": Acquisition(200).wavelength, "precession_angle": ANGLE}
N = 80


@pytest.fixture(scope="module")
def refined(steel):
    """Return Bloch-wave patterns of NbC, their reflections, refined orientations, the truth."""
    phase, rng = steel["NbC"], np.random.default_rng(6)
    acquisition = Acquisition(200, ANGLE)
    spots = draw_dynamical_spots(
        phase, N, acquisition, rng, thickness=(100.0, 900.0), precession_angle=(ANGLE, ANGLE)
    )
    ranges = Randomization(
        precession_angle=(ANGLE, ANGLE), dynamical_share=(1, 1), dose=(3e4, 3e4),
        scale=(0.028, 0.028), beam_stop=(0, 0), overlap_share=(0, 0),
    )  # fmt: skip
    reflections = get_reflections([phase])
    source = DescriptorSource(
        reflections, 1, acquisition, REFINEMENT_SPEC, ranges, SpotLibrary([spots])
    )
    polar, _, truth = source.simulate(N, rng, phase_id=0)
    start = perturb(truth, 0.6, rng)[:, None]
    found = refine_candidates(polar, start, reflections, 0, **OPTICS).quaternions
    return polar, reflections, found, truth


def test_orientations_come_nearer_to_the_truth(refined, steel):
    polar, reflections, found, truth = refined
    corrected = correct_tilts(polar, found, reflections, 0, **OPTICS)
    group = laue_operations(steel["NbC"])
    before = disorientation_angles(found[:, 0], truth, group)
    after = disorientation_angles(corrected[:, 0], truth, group)
    assert np.median(after) < 0.85 * np.median(before)
    assert np.mean(after < before) > 0.6


def test_a_correction_is_a_tilt_that_the_spots_vote_for(refined):
    polar, reflections, found, _ = refined
    corrected = correct_tilts(polar, found, reflections, 0, **OPTICS)[:, 0]
    seen = describe_tilts(polar, found[:, 0], reflections, 0, **OPTICS)
    with np.load(WEIGHTS) as file:
        w0, b0, w1, b1, w2, b2, w3, b3, log_prior = (file[name] for name in file.files)
    beam = np.array([0.0, 0.0, 1.0])
    for i in range(N):
        shown = seen.changes[i].any(axis=1)
        x, changes = seen.features[i][shown].astype(float), seen.changes[i][shown].astype(float)
        hidden = np.maximum(np.maximum(x @ w0 + b0, 0) @ w1 + b1, 0)
        around = np.tile(hidden.mean(axis=0), (len(x), 1))
        hidden = np.maximum(np.hstack([hidden, around]) @ w2 + b2, 0)
        vote, log_weight = (np.hstack([hidden, x]) @ w3 + b3).T
        root = np.exp(np.clip(log_weight, -6, 6) / 2)
        prior = np.exp(log_prior[0] / 2) * np.eye(2)
        matrix = np.vstack([root[:, None] * changes, prior])
        tilt = np.linalg.lstsq(matrix, np.append(root * vote, [0, 0]), rcond=None)[0]
        # the beam's direction in the crystal turns by as much
        turned = [rotate_vectors(q[i][None], beam)[0] for q in (found[:, 0], corrected)]
        angle = np.arccos(np.clip(turned[0] @ turned[1], -1, 1))
        assert angle == pytest.approx(0.01 * np.hypot(*tilt), abs=2e-5)


def test_a_pattern_is_corrected_alike_in_any_company(refined):
    polar, reflections, found, _ = refined
    both = np.concatenate([found, found[::-1]], axis=1)
    whole = correct_tilts(polar, both, reflections, 0, **OPTICS)
    rows = np.array([5, 2, 5])
    part = correct_tilts(polar, both[rows], reflections, 0, **OPTICS, rows=rows)
    np.testing.assert_array_equal(part, whole[rows])
    for n in (1, 3, 7):
        parts = [
            correct_tilts(polar[k : k + n].copy(), both[k : k + n], reflections, 0, **OPTICS)
            for k in range(0, N, n)
        ]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_what_is_not_there_stays(refined):
    polar, reflections, found, _ = refined
    found = np.concatenate([found, np.zeros_like(found)], axis=1)
    polar = polar.copy()
    polar[1] = 0
    corrected = correct_tilts(polar, found, reflections, 0, **OPTICS)
    assert not corrected[:, 1].any()
    np.testing.assert_array_equal(corrected[1], found[1])
    beyond = dataclasses.replace(reflections, vectors=reflections.vectors * 100)
    still = correct_tilts(polar, found, beyond, 0, **OPTICS)
    np.testing.assert_allclose(still, found, atol=1e-12)
