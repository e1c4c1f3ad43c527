"""The command line: what it writes, what it says and the codes it exits with."""

import inspect
import json
import re
import shutil
import sys
from dataclasses import dataclass
from typing import Annotated, get_args

import numpy as np
import pytest
import typer
from orix.crystal_map import PhaseList
from typer.main import get_command
from typer.testing import CliRunner

from pyxem_nas.cli import app as cli
from pyxem_nas.cli import console
from pyxem_nas.cli import options as cli_options
from pyxem_nas.diffraction.acquisition import Acquisition
from pyxem_nas.maps.crystal_map import make_crystal_map
from pyxem_nas.maps.export import save_map
from pyxem_nas.maps.files import read_map
from pyxem_nas.scans.specimens import example_phases, make_phase
from pyxem_nas.scans.synthetic import simulate_scan

ACQUISITION = Acquisition(beam_energy=200, precession_angle=0.7)
SILVER_CIF = """data_silver
_cell_length_a 4.0862
_cell_length_b 4.0862
_cell_length_c 4.0862
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_name_H-M_alt 'F m -3 m'
_space_group_IT_number 225
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Ag 0 0 0
"""


@pytest.fixture
def call(monkeypatch, capsys):
    """Return a function that runs the command as a shell would: (exit code, stdout, stderr)."""

    def run(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["pyxem-nas", *map(str, arguments)])
        monkeypatch.delenv("PYXEM_NAS_DEBUG", raising=False)
        monkeypatch.setenv("COLUMNS", "200")
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main()
        code = stop.value.code or 0
        return (code, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a bundle without networks, a scan of 3 x 4 positions and its truth."""
    from pyxem_nas.bundles.bundle import ModelBundle

    folder = tmp_path_factory.mktemp("cli")
    phases = example_phases("silver")
    ModelBundle.from_phases(phases, ACQUISITION).save(folder / "silver.nas")
    scan, truth = simulate_scan(phases, (3, 4), ACQUISITION, seed=3, n_grains=1, vacuum_share=0)
    scan.save(folder / "scan.hspy")
    save_map(folder / "truth.h5", truth)
    (folder / "broken.blo").write_bytes(b"no scan")
    return folder


def titanium_map(seed=0):
    phase = make_phase("Ti", 194, (2.95, 2.95, 4.686, 90, 90, 120), [("Ti", (1 / 3, 2 / 3, 0.25))])
    rng = np.random.default_rng(seed)
    quaternions = rng.standard_normal((6, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    columns = {"phase_id": np.array([0, 0, -1, 0, 0, 0]), "rotations": quaternions[:, np.newaxis]}
    return make_crystal_map(columns, PhaseList([phase]), shape=(2, 3), step=(1.0, 1.0))


# ------------------------------------------------------------------------- index


def test_index_writes_every_map_asked_for_and_a_picture(call, folder, tmp_path):
    code, out, err = call(
        "index", folder / "scan.hspy", "--bundle", folder / "silver.nas", "--min-confidence", 0,
        "--output", tmp_path / "map.ctf", "--output", tmp_path / "{stem}.h5", "--json",
    )  # fmt: skip
    assert code == 0, err
    (result,) = json.loads(out)
    assert result["positions"] == 12 and sum(result["phases"].values()) == 12
    assert sorted(p.name for p in tmp_path.iterdir()) == ["map.ctf", "map.png", "scan.h5"]
    code, out, err = call("evaluate", tmp_path / "map.ctf", folder / "truth.h5", "--json")
    assert code == 0, err
    assert json.loads(out)["orientation_twin_forgiven"]["silver"]["within_5"] == 1


def test_index_takes_cif_files_instead_of_a_bundle(call, folder, tmp_path):
    cif = tmp_path / "silver.cif"
    cif.write_text(SILVER_CIF)
    code, out, err = call(
        "index", folder / "scan.hspy", "--cif", cif, "--beam-energy", 200, "--min-confidence", 0,
        "--output", tmp_path / "map.h5", "--json",
    )  # fmt: skip
    assert code == 0, err
    assert json.loads(out)[0]["phases"] == {"silver": 12, "not_indexed": 0}
    code, out, err = call("evaluate", tmp_path / "map.h5", folder / "truth.h5", "--json")
    assert json.loads(out)["orientation_twin_forgiven"]["silver"]["within_5"] == 1
    both = ("--cif", cif, "--bundle", folder / "silver.nas")
    code, _, err = call("index", folder / "scan.hspy", *both, "--output", tmp_path / "b.h5")
    assert code == 2 and "not both" in err


def test_cif_files_need_a_beam_energy(folder):
    from pyxem_nas.patterns import read_scan

    scan = read_scan(folder / "scan.hspy")
    phases = example_phases("silver")
    chosen = cli_options.ScanOptions(beam_energy=300).choose_bundle(phases, scan)
    assert chosen.acquisition.beam_energy == 300
    scan.metadata.Acquisition_instrument.TEM.beam_energy = 0
    with pytest.raises(ValueError, match="--beam-energy 200"):
        cli_options.ScanOptions().choose_bundle(phases, scan)


def test_index_is_lazy_or_eager_with_one_result(call, folder, tmp_path):
    from orix import io

    maps = []
    for way in ("--lazy", "--eager"):
        path = tmp_path / f"{way}.h5"
        code, _, err = call(
            "index", folder / "scan.hspy", way, "--bundle", folder / "silver.nas", "--output", path
        )
        assert code == 0, err
        maps.append(io.load(path))
    assert np.array_equal(maps[0].rotations.data, maps[1].rotations.data)
    assert np.array_equal(maps[0].phase_id, maps[1].phase_id)


def test_a_bad_file_does_not_stop_the_others(call, folder, tmp_path):
    code, out, err = call(
        "index", folder / "broken.blo", folder / "scan.hspy", "--bundle", folder / "silver.nas",
        "--output", tmp_path / "{stem}.ang", "--json",
    )  # fmt: skip
    assert code == 1
    assert "broken.blo" in err and "Traceback" not in err
    bad, good = json.loads(out)
    assert "error" in bad and "error" not in good
    assert (tmp_path / "scan.ang").exists() and not (tmp_path / "broken.ang").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.blo"], "'none.blo' does not exist"),
        (["broken.blo"], "cannot be read by HyperSpy"),
        (["scan.hspy", "--output", "map.tif"], "ends in .ctf, .ang or .h5"),
        (["scan.hspy", "--output", "nowhere/map.ctf"], "make it first"),
        (["scan.hspy", "--output", "truth.h5"], "pass --overwrite"),
        (["scan.hspy", "broken.blo", "--output", "map.ctf"], "{stem}"),
        (["scan.hspy", "--center", "12"], "--center takes X,Y"),
        (["scan.hspy", "--scan-shape", "12"], "--scan-shape takes ROWS,COLUMNS"),
        (["scan.hspy", "--scan-shape", "5,3"], "holds 12 patterns, a scan of 5 x 3 has 15"),
        (["scan.hspy", "--reader", "Merlin"], "no reader 'Merlin'; for .hspy it has HSPY"),
        (["scan.hspy", "--beam-energy", "200000"], "must be in kV"),
        (["scan.hspy", "--scale", "0"], "--scale must be positive"),
        (["scan.hspy", "--method", "network", "--method", "Ag=template"], "PHASE=METHOD"),
        (["scan.hspy", "--mask", "none.npy"], "'none.npy' does not exist"),
        (["scan.hspy", "--bundle", "none.nas"], "none.nas"),
    ],
)
def test_wrong_use_of_index_exits_with_2_and_a_message(
    call, folder, monkeypatch, arguments, message
):
    monkeypatch.chdir(folder)
    if "--bundle" not in arguments:
        arguments = [*arguments, "--bundle", "silver.nas"]
    code, out, err = call("index", *arguments)
    assert code == 2
    (line,) = (line for line in err.splitlines() if line.startswith("Error: "))
    assert message in line and "Traceback" not in err
    assert out == ""
    assert sorted(p.name for p in folder.iterdir()) == [
        "broken.blo", "scan.hspy", "silver.nas", "truth.h5",
    ]  # fmt: skip


def test_debug_shows_where_an_error_comes_from(monkeypatch):
    monkeypatch.setenv("PYXEM_NAS_DEBUG", "1")
    monkeypatch.setattr(sys, "argv", ["pyxem-nas", "evaluate", "none.h5", "none.h5"])
    with pytest.raises(FileNotFoundError, match=r"none\.h5"):
        cli.main()


@pytest.fixture
def precisions(monkeypatch):
    """Return a list that each call of index_phase_orientation adds its precision to."""
    from pyxem.signals import ElectronDiffraction2D

    index, given = ElectronDiffraction2D.index_phase_orientation, []

    def record(signal, *arguments, **options):
        given.append(options.get("precision"))
        return index(signal, *arguments, **options)

    monkeypatch.setattr(ElectronDiffraction2D, "index_phase_orientation", record)
    return given


@pytest.mark.parametrize(
    ("stated", "expected"), [([], "auto"), (["--precision", "float32"], "float32")]
)
def test_every_command_that_indexes_hands_on_the_precision(
    call, folder, tmp_path, precisions, stated, expected
):
    shutil.copy(folder / "scan.hspy", tmp_path / "scan.hspy")
    for arguments in (
        ["index", tmp_path / "scan.hspy", "--output", tmp_path / "map.h5"],
        ["live", tmp_path, "--pattern", "*.hspy", "--settle", 0, "--idle-timeout", 0],
        ["demo", "--shape", 3, 4, "--output", tmp_path / "demo"],
    ):
        precisions.clear()
        code, _, err = call(*arguments, "--bundle", folder / "silver.nas", *stated)
        assert code == 0, err
        assert precisions and set(precisions) == {expected}


def test_precisions_of_the_command_are_those_of_the_package():
    from pyxem_nas.indexing.runtime import Precision

    assert {name.value for name in cli_options.PrecisionName} == set(get_args(Precision))


@pytest.mark.parametrize("text", ["71.5,72", "71.5 72", "71.5, 72"])
def test_center_is_two_numbers(text):
    assert cli_options.ScanOptions(center=text).parse_center() == (71.5, 72)


def test_methods_are_given_by_phase():
    methods = {"Fe": "network", "Fe3C": "template"}
    indexing = cli_options.IndexingOptions(method=["Fe=network", "Fe3C=template"])
    assert indexing.collect_settings()["method"] == methods


def test_stated_beam_energy_leaves_the_precession_of_the_bundle(folder):
    from pyxem_nas.bundles.bundle import ModelBundle

    bundle = ModelBundle.load(folder / "silver.nas")
    scan, _ = simulate_scan(example_phases("silver"), (2,), ACQUISITION, seed=0)
    del scan.metadata.Acquisition_instrument
    stated = cli_options.ScanOptions(beam_energy=300).collect_settings(bundle, scan)
    assert stated["acquisition"] == Acquisition(300, 0.7)
    # what the file says comes before what the bundle was made for
    scan.set_experimental_parameters(beam_energy=120, rocking_angle=10)
    stated = cli_options.ScanOptions(beam_energy=300).collect_settings(bundle, scan)
    assert stated["acquisition"] == Acquisition(300, np.rad2deg(0.01))
    stated = cli_options.ScanOptions().collect_settings(bundle, scan)
    assert stated["acquisition"] == Acquisition(120, np.rad2deg(0.01))


@pytest.mark.parametrize("wrong", ["200 kV", 2e5])
def test_a_stated_beam_energy_stands_for_a_wrong_one_of_the_file(wrong, folder):
    from pyxem_nas.bundles.bundle import ModelBundle

    bundle = ModelBundle.load(folder / "silver.nas")
    scan, _ = simulate_scan(example_phases("silver"), (2,), ACQUISITION, seed=0)
    scan.metadata.set_item("Acquisition_instrument.TEM.beam_energy", wrong)
    scan.metadata.set_item("Acquisition_instrument.TEM.rocking_angle", "0.7 deg")
    with pytest.raises(ValueError, match="in kV"):
        cli_options.ScanOptions(precession=0.7).collect_settings(bundle, scan)
    stated = cli_options.ScanOptions(beam_energy=200, precession=0.5)
    assert stated.collect_settings(bundle, scan)["acquisition"] == Acquisition(200, 0.5)


def test_center_on_the_corner_is_looked_for_and_a_stated_scale_keeps_the_center():
    scan, _ = simulate_scan(example_phases("silver"), (2,), ACQUISITION, seed=0)
    center = list(scan.calibration.center)
    cli_options.ScanOptions(scale=0.5, units="1/nm").calibrate(scan)
    assert list(scan.calibration.center) == pytest.approx(center)
    assert [a.scale for a in scan.axes_manager.signal_axes] == [0.5, 0.5]
    nothing_stated = cli_options.ScanOptions()
    nothing_stated.calibrate(scan)
    assert nothing_stated.get_center(scan) is None
    scan.calibration.center = (0, 0)
    assert nothing_stated.get_center(scan) == "auto"
    assert cli_options.ScanOptions(center="3, 4").get_center(scan) == (3, 4)


def test_a_scan_without_calibration_is_told_of_the_option():
    scan, _ = simulate_scan(example_phases("silver"), (2,), ACQUISITION, seed=0)
    scan.calibration.units = "cm"
    with pytest.raises(ValueError, match=r"got \['cm', 'cm'\].*--scale"):
        cli_options.ScanOptions().calibrate(scan)


def test_options_of_a_group_are_those_of_the_command():
    @dataclass(frozen=True)
    class Group:
        size: Annotated[int, cli_options.option("Size.", min=1)] = 2
        name: Annotated[str, cli_options.option("Name. [default: none]")] = ""

    seen = []
    commands = typer.Typer()

    @commands.command()
    @cli_options.spread_options
    def use(path: str, *, group: Group, last: int = 5) -> None:
        seen.append((path, group, last))

    run = CliRunner().invoke
    assert run(commands, ["a", "--size", "3", "--last", "4"]).exit_code == 0
    assert run(commands, ["b"]).exit_code == 0
    assert run(commands, ["c", "--size", "0"]).exit_code == 2
    assert seen == [("a", Group(3), 4), ("b", Group(), 5)]


def test_index_writes_a_report_beside_the_first_map(call, folder, tmp_path):
    arguments = (
        "index", folder / "scan.hspy", "--bundle", folder / "silver.nas", "--report",
        "--output", tmp_path / "a.ctf", "--output", tmp_path / "b.h5",
    )  # fmt: skip
    code, out, err = call(*arguments, "--json")
    assert code == 0, err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.ctf", "a.html", "a.png", "b.h5"]
    assert str(tmp_path / "a.html") in json.loads(out)[0]["files"]
    html = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "scan.hspy" in html and "data:image/png;base64," in html
    assert re.search(r"precision</t[hd]>\s*<td>(int8|float32)<", html)  # what "auto" was
    (tmp_path / "a.ctf").unlink(), (tmp_path / "a.png").unlink(), (tmp_path / "b.h5").unlink()
    code, _, err = call(*arguments)
    assert code == 2 and "a.html" in err  # it is not replaced unasked


def test_warnings_of_indexing_are_said_once_and_given_to_the_report():
    import warnings

    with console.collected_warnings() as messages:
        warnings.warn("no centre", stacklevel=1)
        warnings.warn("no centre", stacklevel=1)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert messages == ["no centre"]


# ------------------------------------------------------------------------- evaluate


@pytest.mark.parametrize("suffix", ["h5", "ang", "ctf"])
def test_evaluate_finds_a_map_equal_to_itself_in_every_format(call, tmp_path, suffix):
    # hexagonal: the crystal frame of a .ctf file is not that of the others
    xmap = titanium_map()
    save_map(tmp_path / "truth.h5", xmap)
    save_map(tmp_path / f"map.{suffix}", xmap)
    code, out, err = call("evaluate", tmp_path / f"map.{suffix}", tmp_path / "truth.h5", "--json")
    assert code == 0, err
    evaluation = json.loads(out)
    assert evaluation["phase_accuracy"] == 1
    assert evaluation["n_positions"] == 5
    assert evaluation["orientation"]["Ti"]["median"] < 0.05


def test_evaluate_prints_tables(call, tmp_path):
    save_map(tmp_path / "map.h5", titanium_map(seed=1))
    save_map(tmp_path / "truth.h5", titanium_map(seed=2))
    code, out, _ = call("evaluate", tmp_path / "map.h5", tmp_path / "truth.h5")
    assert code == 0
    assert "Phase right in 100.0 % of 5 positions" in out and "twin forgiven" in out


def test_evaluate_refuses_what_is_no_map(call, folder):
    code, _, err = call("evaluate", folder / "broken.blo", folder / "truth.h5")
    assert code == 2 and "cannot be read by orix" in err


# ------------------------------------------------------------------------- demo and info


def test_demo_names_its_folder_and_reports_accuracy(call, folder, tmp_path):
    output = tmp_path / "new" / "demo"
    code, out, err = call(
        "demo", "--bundle", folder / "silver.nas", "--shape", 4, 5, "--output", output
    )
    assert code == 0, err
    names = ["map.ang", "map.ctf", "map.h5", "map.html", "map.png"]
    assert sorted(p.name for p in output.iterdir()) == names
    assert "20 positions" in out and "patterns/s" in out and "silver" in out
    assert str(output) in out.replace("\n", "")
    code, out, err = call(
        "demo", "--bundle", folder / "silver.nas", "--shape", 4, 5, "--output", output, "--json"
    )
    assert code == 0, err  # it may replace its own files
    assert json.loads(out)["evaluation"]["orientation"]["silver"]["n_reference"] == 20


def test_demo_indexes_by_crystals_alone(call, folder, tmp_path):
    """With CIF files that it writes, as with those that a user has; no network is there."""
    code, out, err = call(
        "demo", "--cif", "--bundle", folder / "silver.nas", "--shape", 4, 5, "--output", tmp_path,
        "--json",
    )  # fmt: skip
    assert code == 0, err
    names = ["map.ang", "map.ctf", "map.h5", "map.html", "map.png", "silver.cif"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    shown = json.loads(out)["evaluation"]
    assert shown["orientation_twin_forgiven"]["silver"]["within_5"] > 0.8
    xmap = read_map(tmp_path / "map.h5")
    assert set(xmap.prop["indexed_by"].ravel()) == {3}


def test_info_shows_phases_and_settings(call, folder):
    code, out, err = call("info", folder / "silver.nas", "--json")
    assert code == 0, err
    shown = json.loads(out)
    assert shown["phases"][0]["name"] == "silver" and shown["phases"][0]["cell"] == "Ag4"
    assert shown["acquisition"]["precession_angle"] == 0.7
    assert {"spec", "thresholds", "provenance"} <= set(shown)
    code, out, _ = call("info", folder / "silver.nas")
    assert code == 0
    assert "silver" in out and "precession_angle" in out


def test_info_draws_the_search(call, folder, tmp_path):
    import dataclasses

    from matplotlib.image import imread

    from pyxem_nas.bundles.bundle import ModelBundle

    trial = {"trial": 0, "validation_loss": 1.0, "validation_accuracy": 0.5, "n_parameters": 9,
             "patterns_per_second": 100.0}  # fmt: skip
    report = [{"target": "phase", "trials": [trial], "seconds": 60.0}]
    bundle = dataclasses.replace(ModelBundle.load(folder / "silver.nas"), search_report=report)
    bundle.save(tmp_path / "mine.nas")
    arguments = ("info", tmp_path / "mine.nas", "--plot", tmp_path / "search.png")
    code, _, err = call(*arguments)
    assert code == 0, err
    assert imread(tmp_path / "search.png").std() > 0
    code, _, err = call(*arguments)
    assert code == 2 and "--overwrite" in err
    code, _, err = call("info", folder / "silver.nas", "--plot", tmp_path / "none.png")
    assert code == 2 and "no architecture was searched" in err


# ------------------------------------------------------------------------- search


def test_search_hands_phases_and_budget_to_search_models(call, tmp_path, monkeypatch):
    import pyxem_nas
    from pyxem_nas.bundles.bundle import ModelBundle

    signature = inspect.signature(pyxem_nas.search_models)
    calls = []

    def search_models(*arguments, **options):
        calls.append(signature.bind(*arguments, **options).arguments)
        return ModelBundle.from_phases(*arguments, name=options["name"])

    monkeypatch.setattr(pyxem_nas, "search_models", search_models)
    (tmp_path / "silver.cif").write_text(SILVER_CIF)
    code, _, err = call(
        "search", tmp_path / "silver.cif", "--beam-energy", 200, "--precession", 0.7, "--trials", 0,
        "--samples", 1000, "--seed", 5, "--output", tmp_path / "mine.nas",
    )  # fmt: skip
    assert code == 0, err
    (given,) = calls
    assert given["phase_list"].names == ["silver"]
    assert len(given["phase_list"][0].structure) == 4
    assert given["acquisition"] == ACQUISITION
    assert (given["max_trials"], given["n_samples"], given["seed"]) == (0, 1000, 5)
    assert given["directory"] == tmp_path / "mine-search"
    assert ModelBundle.load(tmp_path / "mine.nas").phase_list.names == ["silver"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.cif", "--output", "mine.nas"], "'none.cif' does not exist"),
        (["silver.cif", "--output", "mine.zip"], "ends in .nas"),
        (["silver.cif", "--output", "old.nas"], "pass --overwrite"),
        (["silver.cif", "sub/silver.cif", "--output", "mine.nas"], "two have one name"),
        (["empty.cif", "--output", "mine.nas"], "empty.cif"),
    ],
)
def test_wrong_use_of_search_is_told_before_the_work(
    call, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "silver.cif").write_text(SILVER_CIF)
    (tmp_path / "old.nas").touch()
    (tmp_path / "empty.cif").write_text("data_nothing\n")
    code, _, err = call("search", *arguments, "--beam-energy", 200)
    assert code == 2
    assert message in err and "Traceback" not in err


def test_wrong_option_exits_with_2(call):
    code, _, err = call("info", "steel", "--nonsense")
    assert code == 2 and "--nonsense" in err
    code, _, err = call("index", "scan.blo", "--bundle", "steel", "--precision", "int4")
    assert code == 2 and "'int4'" in err and "'float32'" in err


def test_version_is_that_of_the_package(call):
    from importlib.metadata import version

    code, out, _ = call("--version")
    assert (code, out.strip()) == (0, version("pyxem-nas"))


# ------------------------------------------------------------------------- help


@pytest.mark.parametrize("command", sorted(get_command(cli.app).commands))
def test_help_names_every_option(call, command):
    code, out, err = call(command, "--help")
    assert code == 0, err
    parameters = get_command(cli.app).commands[command].params
    names = [name for p in parameters for name in p.opts if name.startswith("--")]
    assert "--help" in out and all(name in out for name in names)


def test_compile_says_how_long_it_took(call, monkeypatch):
    import pyxem_nas

    monkeypatch.setattr(pyxem_nas, "compile_kernels", lambda: 12.4)
    code, out, err = call("compile")
    assert (code, out) == (0, "Ready: 12 s\n"), err


def test_commands_that_index_share_their_options():
    index, live = (
        {p.name: p for p in get_command(cli.app).commands[name].params}
        for name in ("index", "live")
    )
    shared = {"scale", "units", "center", "mask", "flip", "scan_rotation", "beam_energy",
              "precession", "method", "refine", "min_confidence", "precision"}  # fmt: skip
    assert shared <= set(index) & set(live)
    for name in shared:
        a, b = index[name], live[name]
        assert (a.help, a.opts, a.default) == (b.help, b.opts, b.default)


def test_what_a_cif_file_became_is_said(tmp_path, capsys):
    text = SILVER_CIF.replace("F m -3 m", "P 1").replace("_space_group_IT_number 225\n", "")
    text = text.replace("4.0862", "2.88938").replace(" 90", " 60")
    (tmp_path / "primitive.cif").write_text(text)
    phases = cli_options.load_phases(None, [tmp_path / "primitive.cif"])
    assert phases[0].space_group.number == 225
    said = capsys.readouterr().err
    assert said.startswith("Warning: ") and "becomes the conventional cell" in said
    assert "UserWarning" not in said  # which is for programmers
