"""Fine-tuning: grains, frames, turning, and a tiny network that learns a camera."""

import dataclasses
import functools

import numpy as np
import pytest
from conftest import as_signal, draw_with_diffsims, shared_data
from orix.crystal_map import Phase

from pyxem_nas import Acquisition, ModelBundle, save_map
from pyxem_nas.bundles.architectures import (
    Architecture,
    build_orientation_network,
    build_phase_network,
)
from pyxem_nas.bundles.bundle import number_phases
from pyxem_nas.bundles.judges import Judge, Thresholds
from pyxem_nas.bundles.network_files import dump_keras
from pyxem_nas.diffraction import (
    disorientation_angles,
    laue_operations,
    make_cells,
    multiply_quaternions,
    random_quaternions,
)
from pyxem_nas.diffraction.reflections import get_reflections
from pyxem_nas.maps.crystal_map import make_crystal_map
from pyxem_nas.maps.files import read_map
from pyxem_nas.maps.grains import balance_grains, segment_grains, split_grains
from pyxem_nas.scans import source as scan_source
from pyxem_nas.scans.source import DescriptorSource
from pyxem_nas.training import fine_tuning, lessons, network_tuning
from pyxem_nas.training.camera_fit import fit_camera
from pyxem_nas.training.fine_tuning import fine_tune
from pyxem_nas.training.measured import (
    MapFrame,
    MeasuredPatterns,
    find_frame,
    match_phases,
    read_reliability,
)
from pyxem_nas.training.network_training import cell_labels
from pyxem_nas.training.network_tuning import TuningTask, get_row_weights, turn_descriptors

CENTER, SCALE = (70.3, 72.9), 0.0246
TINY = Architecture(width=12, n_blocks=1)
ACQUISITION = Acquisition(200, 0.5)


def about_beam(angle):
    """Return the rotation that turns a pattern counter-clockwise by an angle in degrees."""
    half = -np.deg2rad(angle) / 2
    return np.array([np.cos(half), 0, 0, np.sin(half)])


# ------------------------------------------------------------------------- grains


def test_grains_end_at_phases_and_at_large_angles(steel):
    turned = [np.cos(np.deg2rad(5)), 0, 0, np.sin(np.deg2rad(5))]  # by 10 degrees
    quaternions = np.tile([1.0, 0, 0, 0], (3, 4, 1))
    quaternions[:, 2:] = turned
    quaternions[1, 1] = [np.cos(np.pi / 4), 0, 0, np.sin(np.pi / 4)]  # the same to a cubic crystal
    phase_id = np.zeros((3, 4), int)
    phase_id[2, :2], phase_id[0, 3] = 1, -1
    groups = [laue_operations(steel["ferrite"]), laue_operations(steel["NbC"])]
    grains = segment_grains(phase_id.ravel(), quaternions.reshape(-1, 4), (3, 4), groups)
    expected = [[0, 0, 1, -1], [0, 0, 1, 1], [2, 2, 1, 1]]
    np.testing.assert_array_equal(grains.reshape(3, 4), expected)


def test_no_grain_nor_orientation_is_on_both_sides_of_the_split(steel):
    rng = np.random.default_rng(0)
    group = laue_operations(steel["NbC"])
    of_grain = random_quaternions(16, rng)
    of_grain[8:] = of_grain[:8]  # grains apart in the scan, of one orientation
    grains = np.repeat(np.arange(16), 5)
    training, validation = split_grains(
        np.zeros(80, int), grains, of_grain[grains], [group], rng, share=0.25
    )
    assert len(np.unique(grains[validation])) == 4
    assert not set(grains[training] % 8) & set(grains[validation] % 8)
    assert len(training) > 0


def test_few_grains_all_train(steel):
    group = laue_operations(steel["NbC"])
    quaternions = np.tile([1.0, 0, 0, 0], (9, 1))
    training, validation = split_grains(
        np.zeros(9, int), np.arange(9) // 3, quaternions, [group], np.random.default_rng(0)
    )
    assert len(training) == 9
    assert len(validation) == 0


def test_draws_give_small_phases_and_grains_their_share():
    phase_id = np.repeat([0, 1], [900, 100])
    grains = np.concatenate([np.repeat([0, 1], [890, 10]), np.full(100, 2)])
    rows = balance_grains(phase_id, grains, 160, np.random.default_rng(1))
    np.testing.assert_array_equal(np.bincount(phase_id[rows]), [80, 80])
    np.testing.assert_array_equal(np.bincount(grains[rows]), [70, 10, 80])


def test_large_grains_do_not_drown_small_ones():
    grains = np.repeat([0, 1, 2], [400, 4, 4])
    empty = np.empty((408, 0))
    measured = MeasuredPatterns(
        empty, empty, None, np.repeat([0, 0, 1], [400, 4, 4]), empty, grains
    )
    weights = get_row_weights(measured)
    of_grain = np.bincount(grains, weights)
    np.testing.assert_allclose(of_grain, [0.5 * 20 / 22, 0.5 * 2 / 22, 0.5])


# ------------------------------------------------------------------------- maps and frames


@pytest.fixture(scope="module")
def nbc(steel):
    """Bundle of one phase without networks, and its reflections."""
    bundle = ModelBundle.from_phases(number_phases([steel["NbC"]]), ACQUISITION)
    return bundle, get_reflections(bundle.phases)


@pytest.fixture(scope="module")
def grain_scan(steel):
    """Patterns (6, 8) of twelve grains of NbC from diffsims, and their orientations."""
    rng = np.random.default_rng(2)
    of_grain = random_quaternions(12, rng)
    grains = np.repeat(np.arange(12).reshape(3, 4), 2, axis=0).repeat(2, axis=1).ravel()
    images = draw_with_diffsims(steel["NbC"], of_grain, scale=SCALE, center=CENTER)[grains]
    images = rng.poisson(np.clip(images, 0, 500)).astype(np.uint16)
    return as_signal(images.reshape(6, 8, 144, 144)), of_grain[grains]


def map_of(quaternions, phase, shape=(6, 8), **properties):
    columns = {"phase_id": np.zeros(len(quaternions), int), "rotations": quaternions[:, None]}
    return make_crystal_map(
        columns | properties, number_phases([phase]), shape=shape, step=(1.0,) * len(shape)
    )


def describe(bundle, signal, quaternions):
    scan = lessons.open_scan(bundle, signal, None, None)
    rows = np.arange(len(quaternions))
    labels = lessons._Labels(np.zeros(len(rows), int), quaternions, rows // 4)
    return lessons._describe(scan, rows, labels, bundle, fine=True)


@pytest.mark.parametrize("frame", [MapFrame(False, 0), MapFrame(False, 90), MapFrame(True, 33)])
def test_frame_of_a_map_is_found_in_the_patterns(frame, nbc, grain_scan):
    bundle, reflections = nbc
    signal, truth = grain_scan
    inverse = frame.quaternion * [1, -1, -1, -1]
    measured = describe(bundle, signal, multiply_quaternions(truth, inverse))
    found, score, runner_up = find_frame(measured, bundle, reflections, ACQUISITION)
    assert found.flipped == frame.flipped
    assert abs((found.angle - frame.angle + 180) % 360 - 180) <= 1
    assert runner_up < 0.97 * score


@pytest.mark.parametrize("suffix", ["ang", "ctf", "h5"])
def test_written_maps_come_back_in_the_frame_of_the_patterns(
    suffix, nbc, grain_scan, steel, tmp_path
):
    bundle, reflections = nbc
    signal, truth = grain_scan
    save_map(tmp_path / f"map.{suffix}", map_of(truth, steel["NbC"]))
    xmap = read_map(tmp_path / f"map.{suffix}")
    assert (match_phases(xmap, bundle) == 0).all()
    measured = describe(bundle, signal, xmap.rotations.data.reshape(-1, 4))
    found, _, _ = find_frame(measured, bundle, reflections, ACQUISITION)
    assert not found.flipped
    assert min(found.angle, 360 - found.angle) <= 0.5


def test_map_of_astar_is_read(nbc):
    xmap = read_map(shared_data("export/astar_acom.ang"))
    reliability, confidence = read_reliability(xmap)
    assert xmap.shape == (15, 15)
    assert reliability.min() == -100
    assert reliability.max() == pytest.approx(100 * xmap.prop["rel"].max())
    assert 20 < np.median(reliability) < 40
    assert np.isnan(confidence).all()
    bundle, _ = nbc
    with pytest.raises(ValueError, match="phase_names="):
        match_phases(xmap, bundle)
    names = {xmap.phases[1].name: "NbC"}
    assert (match_phases(xmap, bundle, names) == 0).all()


def test_phase_is_found_by_its_lattice(nbc, steel):
    bundle, _ = nbc
    structure = steel["NbC"].structure
    xmap = map_of(np.tile([1.0, 0, 0, 0], (4, 1)), Phase("carbide", 225, structure=structure), (4,))
    assert (match_phases(xmap, bundle) == 0).all()


# ------------------------------------------------------------------------- turning


def test_turned_descriptors_and_targets_belong_together(steel, nbc):
    bundle, _ = nbc
    truth = random_quaternions(5, np.random.default_rng(8))
    steps = np.array([0, 7, 45, 90, 133])
    turned_truth = np.stack(
        [multiply_quaternions(q, about_beam(2 * n)) for q, n in zip(truth, steps, strict=True)]
    )
    images = [
        draw_with_diffsims(steel["NbC"], q, scale=SCALE, center=CENTER)
        for q in (truth, turned_truth)
    ]
    plain, expected = (describe(bundle, as_signal(stack), truth).descriptors for stack in images)
    turned = turn_descriptors(plain, steps)
    overlap = (turned * expected).mean(axis=(1, 2))
    assert (overlap > 0.95).all()  # both have unit root mean square
    assert ((plain * expected).mean(axis=(1, 2))[1:] < 0.9).any()

    cells = make_cells(steel["NbC"], spacing=10)
    direction, inplane = cells.encode(truth)
    rolled = np.round(inplane + steps * cells.n_inplane / 180).astype(int) % cells.n_inplane
    np.testing.assert_array_equal(
        rolled * cells.n_directions + direction, cell_labels(cells, turned_truth)
    )


# ------------------------------------------------------------------------- a tiny bundle


@pytest.fixture(scope="module")
def tiny(steel):
    """Untrained tiny bundle of ferrite and NbC."""
    import keras

    keras.utils.set_random_seed(0)
    phase_list = number_phases([steel["ferrite"], steel["NbC"]])
    cells = {k: make_cells(phase, spacing=20, n_inplane=45) for k, phase in phase_list}
    models = {"phase": dump_keras(build_phase_network(TINY, (40, 180), 3))}
    for k, c in cells.items():
        network = build_orientation_network(TINY, (40, 180), c.n_inplane, c.n_directions)
        models[f"orientation_{k}"] = dump_keras(network)
    return ModelBundle("tiny", phase_list, ACQUISITION, models=models, cells=cells)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(network_tuning, "_N_SIMULATED", 256)
    monkeypatch.setattr(network_tuning, "_N_DECIDING", 256)
    monkeypatch.setattr(scan_source, "N_FOREIGN", 3)
    monkeypatch.setattr(network_tuning, "_MAX_FORGOTTEN", 1.0)
    recalibrate = fine_tuning.recalibrate
    monkeypatch.setattr(
        fine_tuning, "recalibrate", lambda *a, **options: recalibrate(*a, **options, n=120)
    )


SETTINGS = {"epochs": 2, "samples_per_epoch": 1024, "learning_rate": 5e-3, "min_positions": 20}


class OneWeight:
    """A network of one weight, that forgets as it learns."""

    def get_weights(self):
        return self.weights

    def set_weights(self, weights):
        self.weights = weights


@pytest.mark.parametrize(("forgotten", "share"), [(0.0, 1.0), (0.012, 0.4), (0.5, 0.0)])
def test_network_that_forgets_goes_part_of_the_way(monkeypatch, forgotten, share):
    def validate(model, task, sets):
        way = float(model.get_weights()[0][0])
        known = {"loss": 1.0, "right": 0.8 - forgotten * way}
        figures = {"camera": {"loss": 2 - way, "right": 0.5}, "known": known}
        return {name: figures[name] for name in sets}

    monkeypatch.setattr(network_tuning, "_validate", validate)
    model, ends = OneWeight(), [[np.zeros(1, np.float32)], [np.ones(1, np.float32)]]
    model.set_weights(ends[0])
    sets = {"camera": (), "known": ()}
    before = validate(model, None, sets)
    found, figures = network_tuning._go_part_of_the_way(model, None, sets, *ends, before)
    assert found == share
    assert model.get_weights()[0][0] == np.float32(share)
    assert figures["camera"]["loss"] == pytest.approx(2 - share)


def test_known_simulations_carry_what_the_network_said_before():
    class Teacher:
        def predict_on_batch(self, inputs):
            return np.log([[0.7, 0.2, 0.1]]).repeat(len(inputs), 0)

    labels = np.arange(256) % 3
    targets = network_tuning._make_targets(labels, np.zeros((256, 1)), Teacher())
    n_known = round(network_tuning.MIXTURE["known"] * 256)
    np.testing.assert_array_equal(targets[:-n_known], np.eye(3)[labels[:-n_known]])
    np.testing.assert_allclose(targets[-n_known:], [[0.7, 0.2, 0.1]] * n_known, rtol=1e-6)


def test_tuned_bundle_says_what_was_done_and_the_old_one_stays(
    tiny, quick, grain_scan, steel, tmp_path
):
    signal, truth = grain_scan
    reliability = np.full(48, 40.0)
    reliability[:8] = 5
    xmap = map_of(truth, steel["NbC"], reliability=reliability)
    hash_before = tiny.hash
    lines = []
    tuned = fine_tune(tiny, signal, xmap, seed=4, report=lines.append, **SETTINGS)
    assert tiny.hash == hash_before
    assert tuned.name == "tiny-tuned"

    record = tuned.provenance["fine_tuning"][-1]
    assert record["from_bundle"] == {"name": "tiny", "hash": hash_before}
    counts = record["positions"]["NbC"]
    assert counts["training_patterns"] + counts["validation_patterns"] <= 40
    assert counts["validation_grains"] >= 2
    assert record["positions"]["ferrite"]["training_patterns"] == 0
    # ferrite is not in the scan: its network stays, byte for byte
    assert tuned.models["orientation_0"] == tiny.models["orientation_0"]
    assert tuned.models["orientation_1"] != tiny.models["orientation_1"]
    assert record["networks"]["ferrite"] == {"kept": "too few positions"}
    figures = record["networks"]["NbC"]
    assert figures["best_epoch"] > 0
    assert figures["after"]["camera"]["loss"] < figures["before"]["camera"]["loss"]
    phases = record["networks"]["phases"]
    assert phases["after"]["camera"]["loss"] < phases["before"]["camera"]["loss"] - 0.1
    assert tuned.phase_temperature > 0
    assert {"fast", "refined", "template"} == set(tuned.judges[1])
    assert all(judge.none is not None for judge in tuned.judges[1].values())
    assert any("NbC, epoch 1/2" in line for line in lines)

    tuned.save(tmp_path / "tuned.nas")
    loaded = ModelBundle.load(tmp_path / "tuned.nas")
    assert loaded.hash == tuned.hash


def test_self_training_needs_a_calibrated_bundle(tiny, quick, grain_scan):
    signal, _ = grain_scan
    with pytest.raises(ValueError, match="not calibrated"):
        fine_tune(tiny, signal, **SETTINGS)


def test_self_training_learns_from_its_own_answers(tiny, quick, grain_scan, monkeypatch, steel):
    signal, truth = grain_scan
    rows = {"phase_probability": np.full(48, 0.99), "orientation_probability": np.full(48, 0.99)}
    rows["orientation_probability"][:16] = 0.3
    monkeypatch.setattr(
        lessons, "_index_for_training", lambda *a: map_of(truth, steel["NbC"], **rows)
    )
    # without judges it would refuse: they are what its confidence comes from
    calibrated = dataclasses.replace(
        tiny, judges={1: {"refined": Judge(1.0, 5.0, 0.0)}}, thresholds=Thresholds(0.5, 0.1)
    )
    tuned = fine_tune(calibrated, signal, **(SETTINGS | {"epochs": 1, "samples_per_epoch": 256}))
    record = tuned.provenance["fine_tuning"][-1]
    assert record["labelled_by"] == "self-training"
    counts = record["positions"]["NbC"]
    assert 0 < counts["training_patterns"] + counts["validation_patterns"] <= 32


def test_map_in_another_frame_is_refused(tiny, quick, grain_scan, steel):
    signal, truth = grain_scan
    other = multiply_quaternions(truth, MapFrame(True, 90).quaternion * [1, -1, -1, -1])
    with pytest.raises(ValueError, match=r"do not fit the patterns.*flipped=True, angle=(89|90)"):
        fine_tune(tiny, signal, map_of(other, steel["NbC"]), **SETTINGS)


def test_map_of_another_shape_is_refused(tiny, grain_scan, steel):
    signal, truth = grain_scan
    with pytest.raises(ValueError, match="must be the same"):
        fine_tune(tiny, signal, map_of(truth, steel["NbC"], (8, 6)))


def test_map_without_reliable_positions_is_refused(tiny, grain_scan, steel):
    signal, truth = grain_scan
    xmap = map_of(truth, steel["NbC"], reliability=np.full(48, 3.0))
    with pytest.raises(ValueError, match="none can be trusted: 0 have a reliability of 15"):
        fine_tune(tiny, signal, xmap)


def test_bundle_without_networks_is_refused(nbc, grain_scan):
    with pytest.raises(ValueError, match="no networks to tune"):
        fine_tune(nbc[0], grain_scan[0])


def test_batch_mixes_measured_and_simulated_with_right_labels(tiny, grain_scan, steel):
    signal, truth = grain_scan
    measured = describe(tiny, signal, truth)
    measured = dataclasses.replace(measured, phase_id=np.ones(48, int))
    source = DescriptorSource(get_reflections(tiny.phases), 2, ACQUISITION)
    task = TuningTask.make(tiny, measured, measured.take(np.arange(0)), {"known": source,
                      "camera": source}, 1)  # fmt: skip
    inputs, labels = task.make_batch(np.random.default_rng(0))
    assert inputs.shape == (256, 40, 180)
    assert inputs.dtype == np.float32
    n_measured = round(network_tuning.MIXTURE["measured"] * 256)
    # a measured row is one of the scan's, turned: its label has the direction of its own grain
    direction, _ = tiny.cells[1].encode(truth)
    assert set(labels[:n_measured] % tiny.cells[1].n_directions) <= set(direction)
    assert len(set(labels[:n_measured] // tiny.cells[1].n_directions)) > 30


# ------------------------------------------------------------------------- camera


def test_scale_error_of_the_scan_is_found(steel):
    rng = np.random.default_rng(3)
    truth = random_quaternions(60, rng)
    images = draw_with_diffsims(steel["NbC"], truth, scale=SCALE, center=CENTER)
    bundle = ModelBundle.from_phases(number_phases([steel["NbC"]]), ACQUISITION)
    found = {}
    for error in (-0.03, 0.03):
        # drawn at SCALE, believed to be another: the true scale is `error` larger
        signal = as_signal(images, scale=SCALE / (1 + error), center=CENTER)
        measured = describe(bundle, signal, truth)
        source = DescriptorSource(get_reflections(bundle.phases), 1, ACQUISITION)
        camera = fit_camera(
            measured, source, field_of_view=144 * SCALE, precession_angle=0.5,
            rng=np.random.default_rng(1),
        )  # fmt: skip
        found[error] = camera.describe()["scale_error"][1]
        drawn = camera.draw(50, rng)
        assert set(drawn["scale_error"]) <= set(camera.cameras["scale_error"])
    assert found[-0.03] == pytest.approx(-0.03, abs=0.012)
    assert found[0.03] == pytest.approx(0.03, abs=0.012)


# ------------------------------------------------------------------------- real data


@pytest.mark.filterwarnings("ignore:no beam centre")
def test_other_grain_of_real_silver_keeps_its_orientation(monkeypatch):
    import hyperspy.api as hs

    path = shared_data("silver/silver_52x16.blo")
    labels = np.load(shared_data("silver/grain_labels.npy")).reshape(16, 52)
    signal = hs.load(path, lazy=True, signal_type="electron_diffraction")
    for axis in signal.axes_manager.signal_axes:
        axis.scale, axis.units, axis.offset = 0.026728, "$A^{-1}$", 0
    bundle = ModelBundle.load("silver")
    # the orientations are the point, and there is one phase: its network alone is tuned
    bundle = dataclasses.replace(
        bundle, models={k: m for k, m in bundle.models.items() if k != "phase"}
    )
    options = {"acquisition": Acquisition(200, 1.0), "center": "auto"}
    index = {"method": "network", "min_confidence": 0, "show_progressbar": False}
    xmap = signal.index_phase_orientation(bundle, **options, **index)
    monkeypatch.setattr(scan_source, "N_FOREIGN", 3)
    monkeypatch.setattr(network_tuning, "_N_SIMULATED", 256)
    monkeypatch.setattr(network_tuning, "_N_DECIDING", 256)
    recalibrate = functools.partial(fine_tuning.recalibrate, n=200)
    monkeypatch.setattr(fine_tuning, "recalibrate", recalibrate)
    learned = labels == labels[labels >= 0][0]
    tuned = fine_tune(
        bundle, signal, xmap, min_reliability=0, min_confidence=0, navigation_mask=~learned,
        n_positions=100, epochs=1, samples_per_epoch=512, **options,
    )  # fmt: skip
    counts = tuned.provenance["fine_tuning"][-1]["positions"]["silver"]
    assert counts["training_patterns"] == 100
    assert counts["validation_grains"] == 0  # its two parts are one orientation
    after = signal.index_phase_orientation(tuned, **options, **index)
    group = laue_operations(bundle.phases[0])
    other = ((labels >= 0) & ~learned).ravel()
    angles = disorientation_angles(after.rotations.data[other], xmap.rotations.data[other], group)
    assert (angles < 3).mean() > 0.98


# ------------------------------------------------------------------------- command line


def test_command_writes_the_tuned_bundle(tiny, grain_scan, steel, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from pyxem_nas.cli import fine_tune as cli_fine_tune

    signal, truth = grain_scan
    seen = {}

    def stub(bundle, s, xmap, **options):
        seen.update(options, n=xmap.size, shape=s.data.shape, scale=s.calibration.scale)
        return dataclasses.replace(bundle, name="x", provenance={"fine_tuning": [{"seconds": 1}]})

    monkeypatch.setattr("pyxem_nas.training.fine_tune", stub)
    tiny.save(tmp_path / "tiny.nas")
    signal.save(tmp_path / "scan.hspy")
    save_map(tmp_path / "map.ang", map_of(truth, steel["NbC"]))
    (tmp_path / "kept.nas").write_text("mine")
    arguments = [
        str(tmp_path / "scan.hspy"), str(tmp_path / "map.ang"), "--bundle",
        str(tmp_path / "tiny.nas"), "--scale", "0.02", "--frame", "astar", "--epochs", "3",
        "--phase-name", "NbC=NbC", "--output",
    ]  # fmt: skip
    run = CliRunner().invoke
    result = run(cli_fine_tune.commands, [*arguments, str(tmp_path / "mine.nas")])
    assert result.exit_code == 0, result.output
    assert ModelBundle.load(tmp_path / "mine.nas").name == "x"
    assert seen["frame"] == "astar"
    assert seen["epochs"] == 3
    assert seen["phase_names"] == {"NbC": "NbC"}
    assert seen["n"] == 48
    assert seen["scale"] == pytest.approx([0.02, 0.02])
    result = run(cli_fine_tune.commands, [*arguments, str(tmp_path / "kept.nas")])
    assert isinstance(result.exception, FileExistsError)
    assert (tmp_path / "kept.nas").read_text() == "mine"
