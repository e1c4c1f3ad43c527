"""The report: one file, nothing outside of it, and warnings that come when they should."""

import matplotlib

matplotlib.use("agg")

import dataclasses
import re
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import numpy as np
import pytest
from orix.crystal_map import PhaseList

from pyxem_nas import Acquisition, ModelBundle, example_phases, simulate_scan
from pyxem_nas.diffraction import fibonacci_sphere, turned_about_beam
from pyxem_nas.figures.map_canvas import Canvas, boundary_edges, drawing
from pyxem_nas.figures.report import write_report
from pyxem_nas.figures.report_checks import check_map, check_scan
from pyxem_nas.figures.report_figures import (
    estimate_density,
    get_confidence,
    measure_grains,
    plot_textures,
)
from pyxem_nas.figures.search_figure import plot_search
from pyxem_nas.figures.solutions import make_viewer
from pyxem_nas.maps.crystal_map import NOT_INDEXED, make_crystal_map
from pyxem_nas.patterns import find_centers, search_beam

ACQUISITION = Acquisition(200, 0.5)


@pytest.fixture(scope="module")
def scan():
    """Return a scan of two phases, its true map as an answer, and a bundle without networks."""
    phases = example_phases("steel")
    phases = PhaseList([phases["NbC"], phases["cementite"]])
    s, truth = simulate_scan(phases, (9, 12), ACQUISITION, seed=3, n_grains=7, vacuum_share=0)
    bundle = ModelBundle.from_phases(phases, ACQUISITION)
    xmap = with_properties(truth)
    return s, xmap, bundle


def with_properties(truth, confidence=0.9, twin=30.0):
    n = truth.size
    columns = {
        "phase_id": truth.phase_id, "rotations": truth.rotations.data.reshape(n, 1, 4),
        "phase_probability": np.full(n, confidence), "orientation_probability": np.ones(n),
        "correlation": np.linspace(0.5, 0.9, n), "reliability": np.full(n, 20.0),
        "twin_reliability": np.full(n, twin), "indexed_by": np.arange(n) % 2,
    }  # fmt: skip
    phases = PhaseList([p for i, p in truth.phases if i != NOT_INDEXED])
    return make_crystal_map(columns, phases, shape=truth.shape, step=(5.0, 5.0))


class Resources(HTMLParser):
    """Collect what a page refers to, and its texts."""

    def __init__(self, html):
        super().__init__()
        self.links, self.tags, self.texts = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [v for k, v in attributes if k in ("src", "href", "srcset", "data", "action")]

    def handle_data(self, data):
        self.texts.append(data)


def test_report_is_one_file_with_all_in_it(scan, tmp_path):
    s, xmap, bundle = scan
    path = write_report(
        tmp_path / "map.html", xmap, s, bundle, title="<my> scan",
        settings={"method": "template", "scan_rotation": 0.0}, messages=["something odd"],
    )  # fmt: skip
    assert [p.name for p in tmp_path.iterdir()] == ["map.html"]
    html = path.read_text(encoding="utf-8")
    page = Resources(html)
    assert page.tags.count("img") == 4
    assert all(
        link.startswith(("data:image/png;base64,", "#part-", "data:,")) for link in page.links
    )
    assert not re.search(r"https?://|@import|url\(", html)
    assert page.tags.count("link") == 1 and "iframe" not in page.tags  # the link: an empty icon
    texts = " ".join(page.texts)
    assert "<my> scan" in texts and "Something odd" in texts
    for words in ("NbC", "cementite", "Grain sizes", "Texture", "pyxem", "template"):
        assert words in texts
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write_report(path, xmap)
    without = write_report(path, xmap, overwrite=True).read_text()
    assert Resources(without).tags.count("img") == 3


def test_report_shows_where_the_beam_was_found_and_how_sure(scan, tmp_path):
    s, _, bundle = scan
    s = s.inav[:4, :4]
    options = {"min_confidence": 0, "show_progressbar": False}
    xmap = s.index_phase_orientation(bundle, center="auto", calibrate="auto", **options)
    found = search_beam(s, (s.axes_manager.signal_axes[0].scale,) * 2)
    assert (xmap.prop["beam_probability"] == found.probability).all()
    page = Resources(write_report(tmp_path / "map.html", xmap).read_text())
    texts = " ".join(page.texts)
    assert "Direct beam" in texts and "Indexed with patterns" in texts
    assert f"has a probability of {found.probability:.3f}" in texts
    stated = s.index_phase_orientation(bundle, center=(72, 72), **options)
    assert not any(name.startswith("beam") for name in stated.prop)
    without = Resources(write_report(tmp_path / "stated.html", stated).read_text())
    assert page.tags.count("img") == without.tags.count("img") + 1  # the map of the centre
    assert "Direct beam" not in " ".join(without.texts)


def test_statistics_count_positions_by_phase(scan, tmp_path):
    _, xmap, _ = scan
    html = write_report(tmp_path / "map.html", xmap).read_text()
    n = int((xmap.phase_id == 0).sum())
    share = f"{100 * n / xmap.size:.1f} %"
    assert re.search(rf"<td>NbC</td><td>{n}</td><td>{share}</td><td>0.90</td>", html)


def test_map_without_any_answer_has_a_report(scan, tmp_path):
    s, xmap, bundle = scan
    nothing = xmap.deepcopy()
    nothing[np.ones(xmap.size, bool)].phase_id = NOT_INDEXED
    html = write_report(tmp_path / "map.html", nothing, s, bundle).read_text()
    assert "100 % of the positions are not indexed" in html
    with pytest.raises(ValueError, match="needs the bundle"):
        write_report(tmp_path / "other.html", xmap, s)


def test_checks_keep_silent_about_a_good_map(scan):
    _, xmap, bundle = scan
    assert check_map(xmap, bundle) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [({"confidence": 0.3}, "confidence below 0.5"), ({"twin": 0.5}, "180° twin fits as well"),
     ({"confidence": np.nan}, "")],
)  # fmt: skip
def test_checks_tell_of_doubtful_maps(scan, options, words):
    _, xmap, bundle = scan
    titles = [f.title for f in check_map(with_properties(xmap, **options), bundle)]
    assert words == "" or (len(titles) == 1 and words in titles[0])


def test_checks_tell_of_phases_never_found(scan):
    _, xmap, bundle = scan
    only = xmap.deepcopy()
    only[only.phase_id == 1].phase_id = 0
    assert [f.title for f in check_map(only, bundle)] == ["never found: cementite"]


def test_calibration_error_is_found_in_the_spots(scan):
    s, xmap, bundle = scan
    assert not any("spots" in f.title for f in check_scan(make_viewer(s, xmap, bundle)))
    wrong = s.deepcopy()
    x, y = wrong.axes_manager.signal_axes
    for axis, factor in ((x, 1.04), (y, 1.02)):
        axis.scale, axis.offset = factor * axis.scale, factor * axis.offset
    found = " ".join(f.title for f in check_scan(make_viewer(wrong, xmap, bundle)))
    # spots seem farther out than they are, more so along x
    percent = float(re.search(r"spots lie ([0-9.]+) % farther out", found).group(1))
    assert percent == pytest.approx(3, abs=0.7)
    percent = float(re.search(r"elliptical by ([0-9.]+) %", found).group(1))
    assert percent == pytest.approx(2, abs=0.7)


@pytest.mark.parametrize("lazy", [False, True])
def test_wrong_and_drifting_centers_are_found(scan, lazy):
    s, xmap, bundle = scan
    s = s.as_lazy() if lazy else s
    center = find_centers(s, (0.0246, 0.0246)).astype(float)  # the simulated beam drifts

    def titles(center):
        found = check_scan(make_viewer(s, xmap, bundle, center=center))
        return [f.title for f in found if "pixels" in f.title]

    assert titles(center) == []
    assert any("(-1." in t and "from the one used" in t for t in titles(center + [1.5, 0]))
    center[..., 0] += np.linspace(-2, 2, 12)
    assert any("drifts by 4." in title or "drifts by 3." in title for title in titles(center))


def test_grains_of_a_checkerboard_have_its_size():
    phase = example_phases("silver")
    half = np.deg2rad(20) / 2
    quaternions = np.tile([1.0, 0, 0, 0], (8, 8, 1))
    quaternions[:4, 4:] = quaternions[4:, :4] = [np.cos(half), 0, 0, np.sin(half)]
    columns = {"phase_id": np.zeros(64, int), "rotations": quaternions.reshape(64, 1, 4)}
    xmap = make_crystal_map(columns, phase, shape=(8, 8), step=(2.0, 2.0))
    (sizes,) = measure_grains(xmap).values()
    assert sizes == pytest.approx(np.full(4, 2 * np.sqrt(16 * 4 / np.pi)))
    assert len(measure_grains(xmap, angle=25)["silver"]) == 1
    line = make_crystal_map(
        {name: v[:8] for name, v in columns.items()}, phase, shape=(8,), step=(2.0,)
    )
    assert measure_grains(line)["silver"].tolist() == [8.0, 8.0]


def test_a_grain_does_not_fall_into_crumbs_by_its_twins():
    phase = example_phases("silver")
    tilted = np.array([0.9, 0.3, 0.1, 0.2]) / np.linalg.norm([0.9, 0.3, 0.1, 0.2])
    quaternions = np.tile(tilted, (64, 1))
    rows = np.flatnonzero(np.random.default_rng(1).random(64) < 0.4)
    quaternions[rows] = turned_about_beam(quaternions[rows])
    columns = {"phase_id": np.zeros(64, int), "rotations": quaternions[:, None]}
    xmap = make_crystal_map(columns, phase, shape=(8, 8), step=(2.0, 2.0))
    assert measure_grains(xmap)["silver"] == pytest.approx([2 * np.sqrt(64 * 4 / np.pi)])
    assert len(measure_grains(xmap, forgive_twins=False)["silver"]) > 1
    real = boundary_edges(Canvas(xmap), 5.0, forgive_twins=True)
    assert not any(edges.any() for edges in real)
    assert all(edges.any() for edges in boundary_edges(Canvas(xmap), 5.0))


def test_drawing_keeps_the_interactive_mode_that_loading_a_backend_switched_on():
    """Else Jupyter shows no figure after the first."""
    with drawing():
        matplotlib.interactive(True)  # what matplotlib_inline does when it is loaded
    assert matplotlib.is_interactive()
    matplotlib.interactive(False)
    size = matplotlib.rcParams["font.size"]
    with pytest.raises(KeyError), drawing():
        raise KeyError
    assert not matplotlib.is_interactive() and matplotlib.rcParams["font.size"] == size


def test_report_says_what_none_stands_for(scan, tmp_path):
    s, xmap, bundle = scan
    settings = {"acquisition": None, "center": None, "phases": None, "min_confidence": None}
    html = write_report(tmp_path / "map.html", xmap, s, bundle, settings=settings).read_text()
    x, y = s.calibration.center
    for name, value in (
        ("acquisition", "200 kV, precession 0.5°"),
        ("center", f"the calibration&#x27;s, ({x:.2f}, {y:.2f}) pixels"),
        ("phases", "all of the bundle"),
        ("min confidence", "the bundle&#x27;s, 0 (phase: 0)"),
    ):
        assert f"<td>{name}</td><td>{value}</td>" in html


def test_pole_figure_shows_where_a_plane_normal_points():
    """Crystals turned by 30 degrees about z: the 001 pole stays, 100 goes 30 degrees clockwise."""
    phase = example_phases("silver")
    half = np.deg2rad(30) / 2
    columns = {
        "phase_id": np.zeros(4, int),
        "rotations": np.tile([np.cos(half), 0, 0, np.sin(half)], (4, 1, 1)),
    }
    xmap = make_crystal_map(columns, phase, shape=(2, 2), step=(1.0, 1.0))
    figure = plot_textures(xmap)
    image = figure.axes[0].images[0]
    values = np.nan_to_num(np.asarray(image.get_array()))
    left, right, bottom, top = image.get_extent()
    assert (left, right, bottom, top) == (-1, 1, -1, 1) and image.origin == "lower"
    line = np.linspace(-1, 1, len(values))
    x, y = np.meshgrid(line, line)
    rim = (np.hypot(x, y) > 0.85) & (values > 0.7 * values.max())
    found = np.rad2deg(np.arctan2(y[rim], x[rim])) % 90
    # lab2crystal by +30 degrees: the crystal's axes lie at -30 degrees in the laboratory
    assert rim.any() and np.abs(found - 60).max() < 12
    middle = values[len(values) // 2, len(values) // 2]
    assert middle == pytest.approx(values.max(), rel=0.05)
    plt.close(figure)


def test_density_is_1_without_texture_and_high_at_the_only_direction():
    sphere = fibonacci_sphere(4000)
    assert np.allclose(estimate_density(sphere, sphere[::50]), 1, atol=0.03)
    pole = np.array([[0.0, 0.0, 1.0]])
    weights = estimate_density(pole, sphere)
    assert weights.mean() == pytest.approx(1, abs=0.02)  # nothing is lost or added
    assert sphere[weights.argmax()] @ pole[0] > np.cos(np.deg2rad(3))


def test_confidence_is_the_product_of_what_is_known(scan):
    _, xmap, _ = scan
    assert np.allclose(get_confidence(xmap), 0.9)
    assert np.isnan(get_confidence(with_properties(xmap, confidence=np.nan))).sum() == 0


# ------------------------------------------------------------------------- search


def searched(bundle):
    """Return the bundle with reports of two made-up searches, trials best first."""
    trials = [
        {"trial": k, "validation_loss": 1.0 + k, "validation_accuracy": 0.8 - 0.1 * k,
         "n_parameters": 1000 * (k + 1), "patterns_per_second": 500.0 * (k + 2)}
        for k in range(4)
    ]  # fmt: skip
    reports = [{"target": target, "trials": trials} for target in ("phase", "orientation of NbC")]
    return dataclasses.replace(bundle, search_report=reports)


def test_search_figure_has_a_point_for_every_trial(scan):
    bundle = searched(scan[2])
    for metric in ("accuracy", "loss"):
        figure = plot_search(bundle, metric=metric)
        assert len(figure.axes) == len(bundle.search_report)
        for ax, report in zip(figure.axes, bundle.search_report, strict=True):
            points = np.asarray(ax.collections[0].get_offsets())
            factor = 100 if metric == "accuracy" else 1
            assert np.allclose(
                points,
                [[t["patterns_per_second"], factor * t[f"validation_{metric}"]]
                 for t in report["trials"]],
            )  # fmt: skip
            best = min(report["trials"], key=lambda t: t["validation_loss"])
            ring = np.asarray(ax.collections[1].get_offsets())
            assert ring[0, 0] == pytest.approx(best["patterns_per_second"])
        plt.close(figure)


def test_search_figure_marks_the_architecture_that_was_stated(scan):
    """As in the shipped steel: the search's best was not what its networks have."""
    bundle = searched(scan[2])
    for report in bundle.search_report:
        for trial in report["trials"]:
            trial["hyperparameters"] = {"trunk/width": 16 << trial["trial"]}
    for width, rate, word in ((64, 2000, "taken"), (48, 1000, "best")):
        settings = {"max_trials": 0, "architecture": {"width": width, "n_blocks": 5}}
        stated = dataclasses.replace(bundle, provenance={"settings": settings})
        figure = plot_search(stated)
        ax = figure.axes[1]  # the search for orientations
        assert np.asarray(ax.collections[1].get_offsets())[0, 0] == rate
        assert any(text.get_text().startswith(word) for text in ax.texts)
        plt.close(figure)


def test_search_figure_refuses_what_was_not_searched(scan):
    with pytest.raises(ValueError, match="no architecture was searched"):
        plot_search(scan[2])
    with pytest.raises(ValueError, match='metric must be "accuracy" or "loss"'):
        plot_search(searched(scan[2]), metric="speed")
