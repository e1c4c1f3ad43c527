import dataclasses
import io
import json
import zipfile

import numpy as np
import pytest

from pyxem_nas import Acquisition, BundleError, DescriptorSpec, ModelBundle, example_phases
from pyxem_nas.bundles.bundle import number_phases
from pyxem_nas.bundles.judges import Judge, PhaseJudge, Thresholds
from pyxem_nas.bundles.network_files import load_keras, simplify_network


@pytest.fixture
def bundle():
    return ModelBundle.from_phases(example_phases("steel"), Acquisition(200, 0.5))


def rewrite(path, changes, target):
    """Copy a bundle with some members replaced (None removes one)."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for member in old.infolist():
            if member.filename not in changes:
                new.writestr(member.filename, old.read(member))
        for name, content in changes.items():
            if content is not None:
                new.writestr(name, content)
    return target


def header_of(path):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("bundle.json"))


def test_bundle_survives_saving(bundle, tmp_path):
    bundle.save(tmp_path / "a.nas")
    loaded = ModelBundle.load(tmp_path / "a.nas")
    assert loaded.hash == bundle.hash
    assert loaded.phase_names == ["ferrite", "NbC", "cementite"]
    for ours, theirs in zip(bundle.phases, loaded.phases, strict=True):
        assert ours.space_group.number == theirs.space_group.number
        np.testing.assert_allclose(ours.structure.xyz, theirs.structure.xyz)
        np.testing.assert_allclose(
            ours.structure.lattice.base, theirs.structure.lattice.base, atol=1e-9
        )
    assert "template matching" in repr(loaded)


def test_existing_file_is_kept_unless_told(bundle, tmp_path):
    path = tmp_path / "a.nas"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        bundle.save(path)
    assert path.read_text() == "mine"
    bundle.save(path, overwrite=True)
    assert list(tmp_path.iterdir()) == [path]


def test_shipped_bundle_loads_and_is_small():
    path = ModelBundle.load("steel")
    assert path.phase_names == ["ferrite", "NbC", "cementite"]
    assert set(path.models) == {"phase", "orientation_0", "orientation_1", "orientation_2"}
    assert sum(map(len, path.models.values())) < 10 * 2**20
    assert path.search_report[0]["trials"]


def test_missing_bundle_is_named():
    with pytest.raises(FileNotFoundError, match="shipped are"):
        ModelBundle.load("no-such-bundle")


def test_truncated_bundle_is_refused(bundle, tmp_path):
    bundle.save(tmp_path / "a.nas")
    content = (tmp_path / "a.nas").read_bytes()
    for n in (0, 10, len(content) // 2, len(content) - 5):
        (tmp_path / "b.nas").write_bytes(content[:n])
        with pytest.raises(BundleError, match=r"b\.nas"):
            ModelBundle.load(tmp_path / "b.nas")


def test_newer_schema_is_refused(bundle, tmp_path):
    bundle.save(tmp_path / "a.nas")
    header = header_of(tmp_path / "a.nas") | {"schema_version": 99}
    rewrite(tmp_path / "a.nas", {"bundle.json": json.dumps(header)}, tmp_path / "b.nas")
    with pytest.raises(BundleError, match="newer than"):
        ModelBundle.load(tmp_path / "b.nas")


def test_thresholds_bound_confidence_and_phase():
    phase = np.array([0.9, 0.9, 0.5, 0.61, np.nan, np.nan])
    orientation = np.array([0.3, 0.1, 1.0, 0.3, 0.5, 0.1])
    left_out = Thresholds(confidence=0.15, phase_confidence=0.6).leave_out(phase, orientation)
    assert left_out.tolist() == [False, True, True, False, False, True]


def test_bundles_of_earlier_schemas_keep_their_calibration(bundle, tmp_path):
    made = Judge(1.0, 9.0, 2.0, 3.0, 0.5)
    dataclasses.replace(bundle, judges={0: {"refined": made}}).save(tmp_path / "a.nas")
    assert ModelBundle.load(tmp_path / "a.nas").judges[0]["refined"] == made
    header = header_of(tmp_path / "a.nas")
    for version, lacking in ((2, ("tolerant", "none_log_posterior")), (1, ("relative",))):
        header["schema_version"] = version
        for name in lacking:
            del header["judges"]["0"]["refined"][name]
        path = tmp_path / f"{version}.nas"
        rewrite(tmp_path / "a.nas", {"bundle.json": json.dumps(header)}, path)
        judge = ModelBundle.load(path).judges[0]["refined"]
        assert judge == Judge(1.0, 9.0, 2.0, relative=version > 1)


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil"])
def test_path_outside_is_refused(name, bundle, tmp_path):
    bundle.save(tmp_path / "a.nas")
    rewrite(tmp_path / "a.nas", {name: b"x"}, tmp_path / "b.nas")
    with pytest.raises(BundleError, match="forbidden name"):
        ModelBundle.load(tmp_path / "b.nas")


def test_changed_network_is_refused(tmp_path):
    steel = ModelBundle.load("steel")
    steel.save(tmp_path / "a.nas")
    changed = bytearray(steel.models["phase"])
    changed[len(changed) // 2] ^= 1
    rewrite(tmp_path / "a.nas", {"models/phase.keras": bytes(changed)}, tmp_path / "b.nas")
    with pytest.raises(BundleError, match="hash differs"):
        ModelBundle.load(tmp_path / "b.nas")
    rewrite(tmp_path / "a.nas", {"models/phase.keras": None}, tmp_path / "c.nas")
    with pytest.raises(BundleError, match="is missing"):
        ModelBundle.load(tmp_path / "c.nas")


def test_lambda_layer_is_refused(tmp_path):
    import keras

    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Lambda(lambda x: x + 1)(inputs))
    model.save(tmp_path / "m.keras")
    with pytest.raises(BundleError, match="'Lambda', which is not allowed"):
        load_keras((tmp_path / "m.keras").read_bytes())


def test_class_from_another_module_is_refused():
    config = {"class_name": "Dense", "module": "os", "registered_name": "os>system", "config": {}}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
    with pytest.raises(BundleError, match="not allowed"):
        load_keras(buffer.getvalue())


def test_selected_phases_keep_their_networks():
    steel = ModelBundle.load("steel")
    some = steel.select_phases(["cementite", "NbC"])
    assert some.phase_names == ["NbC", "cementite"]
    assert some.models["orientation_1"] == steel.models["orientation_2"]
    assert "phase" not in some.models
    with pytest.raises(ValueError, match="austenite"):
        steel.select_phases(["austenite"])


def test_phases_of_one_name_are_refused():
    phase = next(phase for _, phase in example_phases("silver"))
    with pytest.raises(ValueError, match="different names"):
        number_phases([phase, phase])


def test_merged_bundle_has_the_phases_of_all(tmp_path):
    steel, silver = ModelBundle.load("steel"), ModelBundle.load("silver")
    merged = ModelBundle.merge(steel, silver)
    assert merged.phase_names == ["ferrite", "NbC", "cementite", "silver"]
    assert "phase" not in merged.models
    assert merged.models["orientation_3"] == silver.models["orientation_0"]
    assert merged.models["orientation_1"] == steel.models["orientation_1"]
    assert merged.judges[3] == silver.judges[0]
    assert merged.cells[3].n_cells == silver.cells[0].n_cells
    assert merged.precession_range == (
        max(steel.precession_range[0], silver.precession_range[0]),
        min(steel.precession_range[1], silver.precession_range[1]),
    )
    assert len({phase.color for phase in merged.phases}) == 4
    merged.save(tmp_path / "merged.nas")
    loaded = ModelBundle.load(tmp_path / "merged.nas")
    assert loaded.hash == merged.hash
    said = loaded.provenance["merged"]
    assert [part["name"] for part in said] == ["steel", "silver"]
    assert [part["hash"] for part in said] == [steel.hash, silver.hash]
    assert said[0]["phases"] == steel.phase_names


def test_merging_takes_a_part_of_a_bundle():
    steel, silver = ModelBundle.load("steel"), ModelBundle.load("silver")
    parts = ModelBundle.merge(silver, steel.select_phases(["cementite"]), name="two")
    assert parts.name == "two"
    assert parts.models["orientation_1"] == steel.models["orientation_2"]


def test_bundles_that_clash_are_not_merged(bundle):
    silver = ModelBundle.from_phases(example_phases("silver"), Acquisition(200, 0.5))
    with pytest.raises(ValueError, match="both have a phase 'ferrite'"):
        ModelBundle.merge(bundle, silver, bundle.select_phases(["ferrite"]))
    with pytest.raises(ValueError, match="200 and 300 kV"):
        ModelBundle.merge(
            bundle, ModelBundle.from_phases(example_phases("silver"), Acquisition(300))
        )
    other = dataclasses.replace(silver, spec=DescriptorSpec(n_radial=30))
    with pytest.raises(ValueError, match="different descriptors"):
        ModelBundle.merge(bundle, other)
    ranges = [
        dataclasses.replace(b, precession_range=r)
        for b, r in ((bundle, (0.0, 0.3)), (silver, (0.5, 1.0)))
    ]
    with pytest.raises(ValueError, match="nothing in common"):
        ModelBundle.merge(*ranges)
    with pytest.raises(TypeError, match="two or more bundles"):
        ModelBundle.merge(bundle)


def test_precession_of_a_merged_bundle_is_what_both_know(bundle):
    silver = ModelBundle.from_phases(example_phases("silver"), Acquisition(200, 0.5))
    any_angle = ModelBundle.merge(bundle, silver)
    assert any_angle.precession_range is None
    one = dataclasses.replace(silver, precession_range=(0.6, 1.0))
    merged = ModelBundle.merge(bundle, one)
    assert merged.precession_range == (0.6, 1.0)
    assert merged.acquisition.precession_angle == 0.6


def test_phase_judge_survives_saving(bundle, tmp_path):
    judge = PhaseJudge(7.0, 5.0, -1.0, 4.0, 0.5)
    dataclasses.replace(bundle, phase_judge=judge).save(tmp_path / "a.nas")
    assert ModelBundle.load(tmp_path / "a.nas").phase_judge == judge
    header = header_of(tmp_path / "a.nas")
    del header["phase_judge"], header["thresholds"]["phase"]
    rewrite(tmp_path / "a.nas", {"bundle.json": json.dumps(header)}, tmp_path / "old.nas")
    assert ModelBundle.load(tmp_path / "old.nas").phase_judge is None


def _keras_members(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _keras_file(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["steel", "silver"])
def test_networks_ask_for_nothing_that_the_oldest_keras_does_not_know(name):
    # what Keras 3.12 takes is not to be seen with a newer one: the names of what came later are
    later = ("quantization_config", "input_axes", "output_axes", "renorm")
    for content in ModelBundle.load(name).models.values():
        members = _keras_members(simplify_network(content))
        assert not any(setting in members["config.json"].decode() for setting in later)
        assert members["model.weights.h5"] == _keras_members(content)["model.weights.h5"]


def test_network_keeps_a_later_setting_that_means_something():
    members = _keras_members(ModelBundle.load("silver").models["phase"])
    members["config.json"] = json.dumps({"renorm": True, "input_axes": [0]}).encode()
    kept = json.loads(_keras_members(simplify_network(_keras_file(members)))["config.json"])
    assert kept == {"renorm": True, "input_axes": [0]}


def test_network_of_a_newer_keras_says_so():
    members = _keras_members(ModelBundle.load("silver").models["phase"])
    config = members["config.json"].replace(b'"use_bias"', b'"new_in_99": 1, "use_bias"')
    members["config.json"] = config
    members["metadata.json"] = json.dumps({"keras_version": "3.0.0"}).encode()
    damaged = _keras_file(members)
    with pytest.raises(BundleError, match="damaged or not allowed"):
        load_keras(damaged)
    members["metadata.json"] = json.dumps({"keras_version": "99.1.0"}).encode()
    with pytest.raises(BundleError, match=r'written by Keras 99.1.0, newer.*"keras>=99.1.0"'):
        load_keras(_keras_file(members))
