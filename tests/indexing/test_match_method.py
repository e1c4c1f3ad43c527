"""Exhaustive matching through the signal method: phases alone, no bundle, no network."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from conftest import as_signal, draw_with_diffsims, shared_data

from pyxem_nas import Acquisition, ModelBundle, evaluate, example_phases, simulate_scan
from pyxem_nas.diffraction import disorientation_angles, laue_operations, random_quaternions
from pyxem_nas.indexing import Described, get_predictor, get_specs, make_plan, orient
from pyxem_nas.indexing.posterior import compute_posterior
from pyxem_nas.maps.crystal_map import best_rotations
from pyxem_nas.patterns import Detector, make_sampler

ACQUISITION = Acquisition(200, 0.5)
QUIET = {"min_confidence": 0, "show_progressbar": False}


@pytest.fixture(scope="module")
def phases():
    return example_phases("steel")


@pytest.fixture(scope="module")
def scan(phases):
    return simulate_scan(phases, (5, 7), ACQUISITION, seed=5, n_grains=18, vacuum_share=0.0)


@pytest.mark.parametrize("name", ["NbC", "cementite"])
@pytest.mark.parametrize("method", ["hybrid", "match"])
def test_phases_alone_give_the_orientation_of_diffsims_patterns(name, method, phases):
    one = type(phases)([phases[name]])
    truth = random_quaternions(12, np.random.default_rng(1))
    signal = as_signal(draw_with_diffsims(phases[name], truth))
    xmap = signal.index_phase_orientation(one, method=method, acquisition=ACQUISITION, **QUIET)
    angles = disorientation_angles(
        best_rotations(xmap).data.reshape(-1, 4), truth, laue_operations(phases[name])
    )
    assert (angles < 2).mean() >= 0.75, angles
    assert (xmap.prop["indexed_by"] == 3).all()
    assert np.all((xmap.prop["correlation"] > 0) & (xmap.prop["correlation"] <= 1))


def test_phases_are_told_apart_without_networks(scan, phases):
    signal, truth = scan
    xmap = signal.index_phase_orientation(phases, acquisition=ACQUISITION, **QUIET)
    assert evaluate(xmap, truth).phase_accuracy > 0.75
    assert np.isfinite(xmap.prop["phase_probability"]).all()


@pytest.mark.parametrize("names", [["ferrite"], ["ferrite", "NbC", "cementite"]])
def test_what_is_no_crystal_is_not_indexed(names, phases):
    rng = np.random.default_rng(8)
    rows, columns = np.indices((144, 144)) - 71.5
    radius = np.hypot(rows, columns)
    halo = np.exp(-radius / 15) + 0.2 * np.exp(-(((radius - 18) / 3) ** 2))
    noise = rng.poisson(rng.uniform(0.2, 20, (40, 1, 1)) * halo)
    truth = random_quaternions(20, rng)
    true = np.concatenate([draw_with_diffsims(phases[name], truth) for name in names])
    given = type(phases)([phases[name] for name in names])
    for images, least, most in ((noise.astype(np.uint16), 0.0, 0.05), (true, 0.9, 1.0)):
        xmap = as_signal(images).index_phase_orientation(
            given, acquisition=ACQUISITION, show_progressbar=False
        )
        assert least <= xmap.is_indexed.mean() <= most


def test_cif_files_need_no_bundle():
    paths = [shared_data(f"cif/{name}.cif") for name in ("Fe-Iron-alpha", "NbC")]
    bundle = ModelBundle.from_phases(example_phases("steel"), ACQUISITION)
    signal, _ = simulate_scan(bundle.phase_list, (2, 3), ACQUISITION, seed=2)
    for given in (paths, [str(path) for path in paths], str(paths[0])):
        xmap = signal.index_phase_orientation(given, acquisition=ACQUISITION, **QUIET)
        assert set(xmap.phases.names) <= {"Fe-Iron-alpha", "NbC", "not_indexed"}
    signal.metadata.Acquisition_instrument.TEM.beam_energy = 0  # nobody filled it in
    with pytest.raises(ValueError, match="beam energy.*Acquisition"):
        signal.index_phase_orientation(paths, **QUIET)
    with pytest.raises(TypeError, match="paths of CIF files; got int"):
        signal.index_phase_orientation(3)


@pytest.mark.parametrize("refine", [True, False])
def test_maps_do_not_depend_on_chunks(scan, phases, refine):
    signal, _ = scan
    options = {
        "acquisition": ACQUISITION, "refine": refine, "regularize": True, "n_best": 2,
        "n_overlaps": 2 if refine else 1, **QUIET,
    }  # fmt: skip
    eager = signal.index_phase_orientation(phases, **options)
    lazy = signal.as_lazy()
    lazy.data = da.from_array(signal.data, chunks=(2, 3, 144, 144))
    xmap = lazy.index_phase_orientation(phases, **options)
    np.testing.assert_array_equal(xmap.phase_id, eager.phase_id)
    np.testing.assert_allclose(xmap.rotations.data, eager.rotations.data, atol=1e-6)
    for name in eager.prop:
        np.testing.assert_allclose(xmap.prop[name], eager.prop[name], atol=1e-5)


def test_network_and_matching_are_judged_together(scan):
    bundle = ModelBundle.load("steel")
    signal, truth = scan
    xmap = signal.index_phase_orientation(bundle, acquisition=ACQUISITION, **QUIET)
    assert set(np.unique(xmap.prop["indexed_by"])) <= {0, 3}
    assert evaluate(xmap, truth).phase_accuracy > 0.75
    # the last resort is asked where it is wanted
    xmap = signal.inav[:2, :2].index_phase_orientation(
        bundle, acquisition=ACQUISITION, template_threshold=1.1, **QUIET
    )
    assert set(np.unique(xmap.prop["indexed_by"])) <= {0, 1, 3}


def test_candidates_of_network_that_matching_has_are_refined_once():
    bundle = ModelBundle.load("steel")
    k = bundle.phase_names.index("NbC")
    truth = random_quaternions(4, np.random.default_rng(3))
    images = draw_with_diffsims(bundle.phases[k], truth)
    sampler = make_sampler(Detector((144, 144), (0.0246, 0.0246)), *get_specs(bundle))
    from pyxem_nas.indexing import branches
    from pyxem_nas.patterns import compute_descriptors

    descriptors, polar, *_ = compute_descriptors(images, np.tile([70.3, 72.9], (4, 1)), sampler)
    described = Described(descriptors, polar, bundle.spec)
    plan = make_plan(bundle, sampler, acquisition=ACQUISITION)
    predictor = get_predictor(bundle)
    matched = branches._find_by_matching(predictor, k, described, plan)
    joined = branches._join_network(predictor, k, described, plan, matched)
    symmetry = predictor.symmetry[k]
    for row in joined.quaternions:
        found = row[row.any(axis=1)]
        for i in range(1, len(found)):
            several = np.broadcast_to(found[i], found[:i].shape)
            assert disorientation_angles(several, found[:i], symmetry).min() > 5.9
    # the network's word on candidates of matching: near the truth it is high
    answers = orient(predictor, k, described, plan)
    angles = disorientation_angles(answers["quaternions"][:, 0], truth, symmetry)
    for i in np.flatnonzero(angles < 2):
        near = disorientation_angles(
            joined.quaternions[i], np.broadcast_to(truth[i], joined.quaternions[i].shape), symmetry
        ) < 4  # fmt: skip
        near &= joined.quaternions[i].any(axis=1)
        assert joined.log_posterior[i][near].max() > -4


def test_posterior_of_a_phase_without_network(phases):
    one = type(phases)([phases["cementite"]])
    bundle = ModelBundle.from_phases(one, ACQUISITION)
    truth = random_quaternions(2, np.random.default_rng(4))
    image = draw_with_diffsims(phases["cementite"], truth)[0]
    posterior = compute_posterior(as_signal(image), bundle)
    assert posterior.cell_probability.sum() == pytest.approx(1, abs=1e-6)
    symmetry = laue_operations(phases["cementite"])
    inplane, direction = np.unravel_index(
        posterior.cell_probability.argmax(), posterior.cell_probability.shape
    )
    cell = posterior.cells.decode(np.array([direction]), np.array([inplane]))
    # the likeliest cell is the answer's, also where it is a mirror image's
    assert disorientation_angles(cell, posterior.candidates[:1], symmetry)[0] < 4
    assert disorientation_angles(posterior.candidates[:1], truth[:1], symmetry)[0] < 2


def test_interrupted_run_goes_on(scan, phases, tmp_path, monkeypatch):
    from pyxem_nas import signals

    monkeypatch.setattr(signals, "_PATTERNS_PER_BLOCK", 7)
    signal, _ = scan
    options = {"acquisition": ACQUISITION, "store": tmp_path / "store", **QUIET}
    whole = signal.index_phase_orientation(phases, **options)
    blocks = sorted((tmp_path / "store").glob("*.npy"))
    assert len(blocks) == 5
    blocks[2].unlink()
    again = signal.index_phase_orientation(phases, **options)
    np.testing.assert_array_equal(again.rotations.data, whole.rotations.data)
