"""The explorer in Chromium: it opens, it answers, and its numbers are those of Python."""

import base64
import hashlib
import io
import json
import re

import numpy as np
import pytest
from conftest import as_signal, draw_with_diffsims
from orix.crystal_map import Phase, PhaseList
from orix.quaternion import Rotation
from PIL import Image
from scipy import ndimage

from pyxem_nas import Acquisition, ModelBundle, example_phases, explore, simulate_scan, write_report
from pyxem_nas.diffraction import (
    disorientation_angles,
    laue_operations,
    multiply_quaternions,
    random_quaternions,
)
from pyxem_nas.figures.explorer import page as explorer_page
from pyxem_nas.figures.map_canvas import Canvas, boundary_edges
from pyxem_nas.figures.map_colors import ipf_colors
from pyxem_nas.figures.report_figures import get_confidence, measure_grains
from pyxem_nas.figures.solutions import make_viewer
from pyxem_nas.maps.crystal_map import NOT_INDEXED, make_crystal_map

ACQUISITION = Acquisition(200, 0.5)
SHAPE = (9, 12)


@pytest.fixture(scope="module")
def scan():
    """A scan of two phases with its truth as the answer, wrong runners-up, and some rejected."""
    phases = PhaseList([example_phases("steel")["NbC"], example_phases("steel")["cementite"]])
    s, truth = simulate_scan(phases, SHAPE, ACQUISITION, seed=3, n_grains=7, vacuum_share=0)
    n = truth.size
    rng = np.random.default_rng(1)
    best = truth.rotations.data.reshape(n, 4)
    turned = multiply_quaternions(best, np.array([np.cos(0.2), np.sin(0.2), 0, 0]))
    columns = {
        "phase_id": np.where(np.arange(n) % 17 == 5, NOT_INDEXED, truth.phase_id),
        "rotations": np.stack([best, turned], axis=1),
        "phase_probability": rng.random(n), "orientation_probability": np.ones(n),
        "correlation": rng.random(n), "reliability": 60 * rng.random(n),
        "n_plausible": rng.integers(1, 9, n), "indexed_by": np.arange(n) % 2,
    }  # fmt: skip
    xmap = make_crystal_map(columns, phases, shape=truth.shape, step=(5.0, 5.0))
    return s, xmap, ModelBundle.from_phases(phases, ACQUISITION)


@pytest.fixture(scope="module")
def file(scan, tmp_path_factory):
    s, xmap, bundle = scan
    return write_report(tmp_path_factory.mktemp("report") / "map.html", xmap, s, bundle)


class Visit:
    """A page, and all that it complained of or asked for."""

    def __init__(self, browser, path, **options):
        self.context = browser.new_context(viewport={"width": 1400, "height": 1000}, **options)
        self.context.set_offline(True)
        self.page = self.context.new_page()
        self.messages, self.requests = [], []
        self.page.on("console", lambda m: self.messages.append(f"{m.type}: {m.text}"))
        self.page.on("pageerror", lambda e: self.messages.append(f"error: {e}"))
        self.page.on("request", lambda r: self.requests.append(r.url))
        self.page.goto(f"file://{path}")
        mark = "performance.getEntriesByName('nas-explorer-drawn').length > 0"
        self.page.wait_for_function(mark, timeout=60_000)
        self.settle()

    def settle(self):
        self.page.evaluate(
            "new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))"
        )

    def part(self, name):
        return self.page.locator(f'[data-c="{name}"]')

    def run(self, code):
        return self.page.evaluate(code)

    def place(self, position):
        """Return where on the page the middle of a position of the map lies."""
        box = self.part("map").bounding_box()
        x, y = self.run(f"nasExplorer.map.centerOf({position})")
        border = 1
        return box["x"] + border + x, box["y"] + border + y

    def click(self, position, n_columns=SHAPE[1]):
        self.page.mouse.click(*self.place(position))
        self.page.wait_for_function(f"nasExplorer.pattern.shown === {position}")
        self.page.wait_for_function(
            f"document.querySelector('[data-c=pattern-title]').textContent.includes("
            f"'({position % n_columns}, {position // n_columns})')"
        )
        self.settle()

    def pixels(self, name):
        """Return the pixels of a canvas, shape (ny, nx, 3)."""
        url = self.run(f"document.querySelector('[data-c=\"{name}\"]').toDataURL('image/png')")
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))))[..., :3]


@pytest.fixture
def visit(browser, file):
    visit = Visit(browser, file)
    yield visit
    # of every test: nothing asked of anyone, nothing complained of
    assert [url for url in visit.requests if not url.startswith("data:")] == [f"file://{file}"]
    assert visit.messages == []
    visit.context.close()


def test_it_opens_offline_and_says_what_it_holds(visit, file):
    assert file.stat().st_size < 20e6
    about = visit.part("about").text_content()
    assert "All 108 patterns are in this file, 144 × 144 pixels" in about
    assert "200 kV, precession 0.50°" in about
    layers = visit.part("layer").locator("option").all_text_contents()
    assert layers[:4] == ["Phase", "IPF-X (to the right)", "IPF-Y (up)", "IPF-Z (out of the map)"]
    assert {"P(phase)", "Reliability", "Plausible answers", "Grains"} <= set(layers)


def test_a_click_changes_the_pattern(visit, scan):
    _, xmap, _ = scan
    seen = set()
    for position in (0, 30, 100):
        visit.click(position)
        seen.add(hashlib.sha256(visit.pixels("pattern").tobytes()).hexdigest())
        name = xmap.phases[int(xmap.phase_id[position])].name
        place = f"({position % 12}, {position // 12})"
        assert visit.part("pattern-title").text_content() == f"Pattern of {place}: {name}"
        assert visit.part("position-title").text_content() == f"Position {place}"
        probability = xmap.prop["phase_probability"][position]
        assert f"P(phase){probability:.2f}" in visit.part("values").text_content()
    assert len(seen) == 3


def test_pattern_of_a_rejected_position_is_shown_without_spots(visit):
    visit.click(5)
    assert visit.part("pattern-title").text_content().endswith("not indexed")
    assert visit.run("nasExplorer.pattern.view.spots.length") == 0
    assert visit.part("grain-section").is_hidden()


@pytest.mark.parametrize("twin", [False, True])
def test_spots_are_those_of_the_static_figures(visit, scan, twin):
    s, xmap, bundle = scan
    viewer = make_viewer(s, xmap, bundle)
    for position in (0, 40, 77):
        visit.click(position)
        for solution in (1, 2):
            visit.run(f"nasExplorer.pattern.showAnswer({solution - 1}, {json.dumps(twin)})")
            found = visit.run("nasExplorer.pattern.view.spots")
            where = (position % 12, position // 12)
            wanted, _ = viewer.spots(where, solution=solution, twin=twin)
            wanted = {
                tuple(h): (*p, i)
                for h, p, i in zip(
                    wanted.hkl.tolist(), wanted.pixels, wanted.intensities, strict=True
                )
                if i > 0.01  # at the rim of the rod rounding decides
            }
            found = {tuple(d["hkl"]): (d["column"], d["row"], d["intensity"]) for d in found}
            assert len(wanted) > 3 and wanted.keys() <= found.keys()
            for hkl, values in wanted.items():
                assert found[hkl] == pytest.approx(values, abs=0.02)


def test_rings_lie_on_the_peaks_of_the_picture(browser, steel, tmp_path):
    """In pixels of the canvas alone: what the rings changed, against where the picture is dark.

    The patterns are drawn from spots of diffsims, with a beam at a stated place between pixels.
    """
    q = random_quaternions(12, np.random.default_rng(8))
    s = as_signal(draw_with_diffsims(steel["NbC"], q).reshape(3, 4, 144, 144))
    phases = PhaseList([steel["NbC"]])
    columns = {"phase_id": np.zeros(12, int), "rotations": q[:, np.newaxis]}
    xmap = make_crystal_map(columns, phases, shape=(3, 4), step=(1.0, 1.0))
    bundle = ModelBundle.from_phases(phases, ACQUISITION)
    visit = Visit(browser, write_page(tmp_path, xmap, make_viewer(s, xmap, bundle)))
    offsets, mirrored = [], []
    for position in range(12):
        visit.click(position, n_columns=4)
        visit.page.uncheck('[data-c="labels"]')
        with_rings = visit.pixels("pattern").astype(int)
        visit.page.uncheck('[data-c="spots"]')
        picture = visit.pixels("pattern").astype(int)
        visit.page.check('[data-c="spots"]')
        zoom = picture.shape[1] / 144
        darkness = ndimage.gaussian_filter(255.0 - picture[..., 0], zoom)
        for x, y in find_rings(np.abs(with_rings - picture).sum(axis=2) > 0):
            offsets.append(to_peak(darkness, x, y, zoom))
            mirrored.append(to_peak(darkness, darkness.shape[1] - 1 - x, y, zoom))
    offsets, mirrored = np.array(offsets), np.array(mirrored)
    found = np.isfinite(offsets[:, 0])  # by diffsims' rocking curve some of them are weak
    assert len(offsets) > 40 and found.mean() > 0.85
    assert np.quantile(np.hypot(*offsets[found].T), 0.95) < 0.6
    assert np.abs(np.median(offsets[found], axis=0)).max() < 0.2  # no half pixel is lost
    assert np.mean(np.hypot(*mirrored.T) < 1) < 0.1
    visit.context.close()


def write_page(folder, xmap, viewer, **options):
    """Write a page with the explorer alone, and return its path."""
    html = explorer_page.embed_explorer(xmap, viewer, **options)
    path = folder / "explorer.html"
    icon = '<link rel="icon" href="data:,">'
    path.write_text(f'<!DOCTYPE html><meta charset="utf-8">{icon}{html}', encoding="utf-8")
    return path


def find_rings(changed):
    """Yield the middles of rings of strong spots that touch no other ring."""
    labels, n = ndimage.label(ndimage.binary_fill_holes(changed))
    for box, number in zip(ndimage.find_objects(labels), range(1, n + 1), strict=True):
        rows, columns = np.nonzero(labels[box] == number)
        # the diameter tells the intensity: of spots above a tenth of the strongest 16 to 20 pixels
        if all(16 <= np.ptp(k) + 1 <= 22 for k in (rows, columns)):
            yield columns.mean() + box[1].start, rows.mean() + box[0].start


def to_peak(darkness, x, y, zoom):
    """Return where the darkest pixel around is, in pixels of the pattern; inf if none is dark."""
    reach = int(3 * zoom)
    x0, y0 = max(0, round(x) - reach), max(0, round(y) - reach)
    window = darkness[y0 : round(y) + reach + 1, x0 : round(x) + reach + 1]
    if window.max() - np.median(window) < 15:
        return np.inf, np.inf
    row, column = np.unravel_index(window.argmax(), window.shape)
    return (column + x0 - x) / zoom, (row + y0 - y) / zoom


def test_runners_up_and_twin_are_chosen_by_key(visit):
    visit.click(40)
    best = visit.run("nasExplorer.pattern.view.comparison.correlation")
    pressed = '[data-c="answers"] [aria-pressed="true"]'
    assert visit.page.locator(pressed).all_text_contents() == ["best answer"]
    visit.page.keyboard.press("n")
    assert visit.page.locator(pressed).all_text_contents() == ["answer 2"]
    # the truth explains the pattern, the orientation 23 degrees away does not
    assert visit.run("nasExplorer.pattern.view.comparison.correlation") < best - 0.2
    assert "answer 2" in visit.part("live").text_content()
    visit.page.keyboard.press("b")
    visit.page.keyboard.press("t")
    assert visit.page.locator(pressed).all_text_contents() == ["its 180° twin"]
    before = visit.pixels("pattern")
    visit.page.keyboard.press("r")
    assert visit.part("residual").is_checked()
    assert "orange is measured" in visit.part("pattern-note").text_content()
    assert (visit.pixels("pattern") != before).any()


def test_a_frame_without_light_spoils_no_comparison(visit):
    visit.click(40)
    before = visit.run("nasExplorer.pattern.view.comparison.correlation")
    visit.run(
        """(() => { const p = nasExplorer.pattern.current; p.levels = p.levels.map((level, i) =>
        Math.hypot(i % 144 - 72, Math.floor(i / 144) - 72) < 66 ? level : 0);
        nasExplorer.pattern.showAnswer(0, false); })()"""
    )
    comparison = visit.run("nasExplorer.pattern.view.comparison")
    assert comparison["correlation"] == pytest.approx(before, abs=0.15)
    assert 0 <= comparison["unexplained"] < 0.6


def test_arrow_keys_move_and_are_spoken(visit, scan):
    _, xmap, _ = scan
    visit.click(40)
    assert visit.run("document.activeElement.dataset.c") == "map"
    visit.page.keyboard.press("ArrowRight")
    visit.page.keyboard.press("ArrowDown")
    assert visit.run("nasExplorer.state.position") == 40 + 1 + 12
    spoken = visit.part("live").text_content()
    assert spoken.startswith("(5, 4) ") and "Euler angles" in spoken
    assert visit.part("live").get_attribute("aria-live") == "polite"
    visit.page.keyboard.press("Shift+ArrowLeft")
    assert visit.run("nasExplorer.state.position") == 4 * 12
    unnamed = visit.run(
        """Array.from(document.querySelectorAll('.nas-explorer button, .nas-explorer input,'
        + '.nas-explorer select, .nas-explorer canvas[role]')).filter((e) =>
        !(e.textContent.trim() || e.getAttribute('aria-label') || e.closest('label')))
        .map((e) => e.outerHTML)"""
    )
    assert unnamed == []


def statistics(visit):
    """Return the table of the selection: phase -> cells."""
    rows = visit.part("statistics").locator("tbody tr").all()
    cells = [row.locator("td").all_text_contents() for row in rows]
    return {line[0].strip(): line[1:] for line in cells}


def test_selection_changes_the_numbers(visit, scan):
    _, xmap, _ = scan
    counts = {xmap.phases[i].name: int((xmap.phase_id == i).sum()) for i in (0, 1)}
    table = statistics(visit)
    assert {name: int(table[name][0]) for name in counts} == counts
    assert table["not indexed"][0] == str(int((~xmap.is_indexed).sum()))
    confidence = get_confidence(xmap)
    of_first = confidence[xmap.phase_id == 0]
    assert float(table["NbC"][2]) == pytest.approx(np.median(of_first), abs=0.03)
    visit.part("threshold").fill("127")
    assert visit.part("threshold-value").text_content() == "0.50"
    table = statistics(visit)
    levels = np.round(254 * np.nan_to_num(confidence))
    for i, name in ((0, "NbC"), (1, "cementite")):
        wanted = (xmap.phase_id == i) & (levels >= 127)
        assert 0 < int(table[name][0]) == int(wanted.sum()) < counts[name]
    visit.page.uncheck('[data-phase="1"]')
    assert statistics(visit)["cementite"][0] == "0"
    visit.part("clear").click()
    assert int(statistics(visit)["cementite"][0]) == counts["cementite"]


def test_what_is_not_selected_is_dimmed(visit, scan):
    _, xmap, _ = scan
    visit.part("layer").select_option("phase")
    other = int(np.flatnonzero(xmap.phase_id == 1)[0])
    before = visit.run(f"Array.from(nasExplorer.image.data.slice({4 * other}, {4 * other + 3}))")
    visit.page.uncheck('[data-phase="1"]')
    after = visit.run(f"Array.from(nasExplorer.image.data.slice({4 * other}, {4 * other + 3}))")
    assert before == [230, 159, 0]
    assert np.abs(np.array(after) - 255).sum() < 0.3 * np.abs(np.array(before) - 255).sum()


def test_orientations_colours_and_angles_agree_with_orix(visit, scan):
    _, xmap, _ = scan
    rows = np.flatnonzero(xmap.is_indexed)
    for position in rows[:40:7]:
        visit.run(f"nasExplorer.select({position})")
        text = visit.part("values").text_content()
        angles = re.search(r"Bunge\)([\d.]+)°, ([\d.]+)°, ([\d.]+)°", text).groups()
        wanted = np.rad2deg(Rotation(xmap.rotations.data[position, 0]).to_euler())[0]
        np.testing.assert_allclose(np.array(angles, float), wanted, atol=0.06)
    for axis, vector in (("x", (1, 0, 0)), ("y", (0, 1, 0)), ("z", (0, 0, 1))):
        visit.part("layer").select_option(f"ipf-{axis}")
        rgb = np.array(visit.run("Array.from(nasExplorer.rgb)")).reshape(-1, 3) / 255
        wanted = ipf_colors(xmap, vector)
        assert np.abs(rgb[rows] - wanted[rows]).max() < 0.08
        assert (rgb[~xmap.is_indexed] == 0).all()


def test_boundaries_and_grains_are_those_of_the_static_report(visit, scan):
    _, xmap, _ = scan
    kinds = np.array(visit.run("nasExplorer.grains.kinds.map((k) => Array.from(k))"))
    kinds = kinds.reshape(2, *SHAPE)
    real = boundary_edges(Canvas(xmap), 5.0, forgive_twins=True)
    every = boundary_edges(Canvas(xmap), 5.0)
    for side, part in ((0, np.s_[:, :-1]), (1, np.s_[:-1])):
        np.testing.assert_array_equal(kinds[side][part] > 0, every[side])
        np.testing.assert_array_equal(kinds[side][part] == 4, every[side] & ~real[side])
    for name, sizes in measure_grains(xmap).items():
        cells = statistics(visit)[name]
        assert int(cells[-2]) == len(sizes)
        assert float(cells[-1].split()[0]) == pytest.approx(np.median(sizes), rel=0.01)
    visit.click(60)
    visit.page.keyboard.press("g")
    label = np.array(visit.run("Array.from(nasExplorer.grains.label)"))
    members = np.flatnonzero(label == label[60])
    assert f"{len(members)} positions" in visit.part("grain").text_content()
    group = laue_operations(xmap.phases[int(xmap.phase_id[60])])
    mean = np.array(visit.run("nasExplorer.described.info.mean"))
    angles = disorientation_angles(
        xmap.rotations.data[members, 0], np.tile(mean, (len(members), 1)), group
    )
    spread = float(re.search(r"([\d.]+)° mean", visit.part("grain").text_content()).group(1))
    assert spread == pytest.approx(angles.mean(), abs=0.02)
    visit.page.keyboard.press("Escape")
    assert visit.part("selected-grain").text_content() == "All positions."


def test_line_profile_shows_the_misorientation(visit, scan):
    _, xmap, _ = scan
    visit.part("mode-line").click()
    visit.page.mouse.move(*visit.place(12))
    visit.page.mouse.down()
    visit.page.mouse.move(*visit.place(20), steps=4)
    visit.page.mouse.up()
    profile = visit.run("nasExplorer.profile")
    assert [p["position"] for p in profile] == list(range(12, 21))
    assert profile[-1]["distance"] == pytest.approx(8 * 5.0)
    for point in profile:
        i = point["position"]
        if xmap.phase_id[i] == xmap.phase_id[12] >= 0:
            group = laue_operations(xmap.phases[int(xmap.phase_id[i])])
            first, here = xmap.rotations.data[[12, i], 0]
            (wanted,) = disorientation_angles(first[None], here[None], group)
            assert point["toFirst"] == pytest.approx(wanted, abs=0.02)
        else:
            assert np.isnan(point["toFirst"])
    assert visit.part("profile").is_visible()


def test_theme_follows_the_system_and_the_switch(browser, file):
    visit = Visit(browser, file, color_scheme="dark")
    ground = "getComputedStyle(document.querySelector('.nas-explorer')).backgroundColor"
    assert visit.run(ground) == "rgb(22, 24, 27)"
    visit.part("theme").select_option("light")
    assert visit.run(ground) == "rgb(255, 255, 255)"
    visit.context.close()


def test_twins_of_sigma_3_and_of_the_method_are_told_apart(browser, tmp_path):
    """Three stripes: a crystal, its mirror twin about a [111], and the first turned about z."""
    phase = example_phases("silver")
    first = np.array([0.9, 0.3, 0.1, 0.2]) / np.linalg.norm([0.9, 0.3, 0.1, 0.2])
    about_111 = np.array([np.cos(np.pi / 6), *(np.sin(np.pi / 6) * np.ones(3) / np.sqrt(3))])
    sigma3 = multiply_quaternions(about_111, first)  # the twin's turn acts in the crystal
    turned = multiply_quaternions(first, np.array([0.0, 0, 0, 1]))
    rows = np.tile(np.repeat([first, sigma3, first, turned], 2, axis=0), (5, 1))
    columns = {"phase_id": np.zeros(40, int), "rotations": rows[:, None]}
    xmap = make_crystal_map(columns, phase, shape=(5, 8), step=(2.0, 2.0))
    visit = Visit(browser, write_report(tmp_path / "map.html", xmap))
    text = visit.part("edges").text_content()
    assert re.search(r"Σ3 twin20 nm66.7 %180° twin about the beam10 nm33.3 %", text)
    assert visit.run("nasExplorer.grains.sizes.length") == 3  # the method's twin parts no grain
    visit.run("nasExplorer.select(0)")
    assert "60.0°, Σ3 twin" in visit.part("neighbours").text_content()
    visit.run("nasExplorer.select(8 + 1)")  # at the end of the first stripe
    assert "Boundariesright 60.0° (Σ3)" in visit.part("values").text_content()
    visit.run("nasExplorer.select(8 + 6)")  # at the start of the last one
    assert re.search(r"Boundariesleft [\d.]+° \(180° twin\)", visit.part("values").text_content())
    assert visit.part("pattern-section").is_hidden()
    assert visit.messages == []
    visit.context.close()


def test_colours_of_crystals_with_axes_of_their_own(browser, tmp_path, titanium):
    """Monoclinic and hexagonal crystals, whose axes orix and the lattice see differently."""
    from diffpy.structure import Atom, Lattice, Structure

    lattice = Lattice(5.15, 5.21, 5.32, 90, 99.2, 90)
    atoms = [Atom("Zr", [0.27, 0.04, 0.21]), Atom("Zr", [0.73, 0.54, 0.29]),
             Atom("Zr", [0.73, 0.96, 0.79]), Atom("Zr", [0.27, 0.46, 0.71])]  # fmt: skip
    zirconia = Phase("zirconia", space_group=14, structure=Structure(atoms, lattice))
    rng = np.random.default_rng(5)
    columns = {
        "phase_id": np.arange(60) % 2, "rotations": random_quaternions(60, rng)[:, np.newaxis],
    }  # fmt: skip
    phases = PhaseList([zirconia, titanium])
    xmap = make_crystal_map(columns, phases, shape=(6, 10), step=(1.0, 1.0))
    visit = Visit(browser, write_page(tmp_path, xmap, None))
    for axis, vector in (("x", (1, 0, 0)), ("z", (0, 0, 1))):
        visit.part("layer").select_option(f"ipf-{axis}")
        rgb = np.array(visit.run("Array.from(nasExplorer.rgb)")).reshape(-1, 3) / 255
        assert np.quantile(np.abs(rgb - ipf_colors(xmap, vector)).max(axis=1), 0.95) < 0.08
    every = boundary_edges(Canvas(xmap), 5.0)
    kinds = np.array(visit.run("nasExplorer.grains.kinds.map((k) => Array.from(k))"))
    np.testing.assert_array_equal(kinds[1].reshape(6, 10)[:-1] > 0, every[1])
    assert visit.messages == []
    visit.context.close()


@pytest.mark.parametrize("kind", ["line", "point", "nothing", "masked"])
def test_maps_of_other_shapes_open(browser, tmp_path, scan, kind):
    s, xmap, bundle = scan
    n = {"line": 12, "point": 1}.get(kind, 108)
    columns = {
        "phase_id": np.array(xmap.phase_id[:n]), "rotations": xmap.rotations.data[:n],
        "correlation": np.linspace(0.2, 0.9, n),
    }  # fmt: skip
    mask = None
    if kind == "nothing":
        columns["phase_id"][:] = NOT_INDEXED
    if kind == "masked":
        mask = np.zeros(SHAPE, bool)
        mask[2:5, 3:] = True
    part = {"line": s.inav[:, 0], "point": s.inav[0, 0]}.get(kind, s)
    shape = {"line": (12,), "point": ()}.get(kind, SHAPE)
    phases = PhaseList([p for i, p in xmap.phases if i != NOT_INDEXED])
    other = make_crystal_map(
        columns, phases, shape=shape, step=(5.0,) * len(shape), navigation_mask=mask
    )
    visit = Visit(browser, write_page(tmp_path, other, make_viewer(part, other, bundle)))
    visit.settle()
    if kind == "nothing":
        assert visit.run("nasExplorer.state.position") == -1
        visit.page.mouse.click(*visit.place(20))
        visit.settle()
        assert "not indexed" in visit.part("pattern-title").text_content()
    elif kind == "masked":
        assert visit.run("nasExplorer.model.phase[2 * 12 + 5]") == 255
        total = sum(int(cells[0]) for cells in statistics(visit).values())
        assert total == 108 - mask.sum()
    else:
        assert visit.run("nasExplorer.model.n") == n
        assert visit.run("nasExplorer.pattern.view.spots.length") > 3
    assert visit.messages == []
    visit.context.close()


def test_nearest_pattern_of_the_same_grain_stands_for_those_left_out(browser, scan, tmp_path):
    s, xmap, bundle = scan
    path = write_page(tmp_path, xmap, make_viewer(s, xmap, bundle), max_size=450_000)
    assert path.stat().st_size < 450_000
    visit = Visit(browser, path)
    positions = visit.run("Array.from(nasExplorer.source.positions)")
    assert 1 <= len(positions) < 108
    assert (
        f"{len(positions)} of 108 patterns are in this file" in visit.part("about").text_content()
    )
    left_out = next(i for i in np.flatnonzero(xmap.is_indexed) if i not in positions)
    visit.run(f"nasExplorer.select({left_out})")
    visit.page.wait_for_function("nasExplorer.pattern.shown !== nasExplorer.state.position")
    visit.settle()
    assert "is not in this file" in visit.part("pattern-note").text_content()
    assert visit.messages == []
    visit.context.close()


def test_widget_shows_the_same_view_and_reads_on_click(browser, scan, tmp_path):
    """The widget's own script with a model that stands for Jupyter's, answered by Python."""
    pytest.importorskip("anywidget")
    s, xmap, bundle = scan
    live = explore(xmap, s.as_lazy(), bundle)
    replies, asked = [], []
    live.send = lambda message, buffers=None: replies.append((message, buffers or []))

    def ask(content):
        asked.append(content["position"])
        live.answer(None, content, [])
        message, buffers = replies.pop()
        return [message, [base64.b64encode(b).decode() for b in buffers]]

    path = tmp_path / "widget.html"
    path.write_text(
        '<!DOCTYPE html><meta charset="utf-8"><link rel="icon" href="data:,">'
        f"<style>{live._css}</style><div id=host></div><script type=module>"
        + live._esm.replace("export default { render };", "")
        + f"""
        const code = (c) => c.charCodeAt(0);
        const bytes = (text) => new DataView(Uint8Array.from(atob(text), code).buffer);
        const handlers = [];
        const model = {{
          get: (name) => bytes("{base64.b64encode(live.container).decode()}"),
          on: (name, act) => handlers.push(act),
          send: async (content) => {{
            const [message, buffers] = await window.ask(content);
            for (const act of handlers) act(message, buffers.map(bytes));
          }},
        }};
        const el = document.getElementById("host");
        await render({{ model, el }});
        window.nasExplorer = el.nasExplorer;
        </script>""",
        encoding="utf-8",
    )
    page = browser.new_page()
    errors = []
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.expose_function("ask", ask)
    page.goto(f"file://{path}")
    page.wait_for_function("window.nasExplorer?.pattern.current")
    page.evaluate("nasExplorer.select(30)")
    page.wait_for_function("nasExplorer.pattern.view.pattern && nasExplorer.pattern.shown === 30")
    page.wait_for_function(
        "document.querySelector('[data-c=pattern-title]').textContent.includes('(6, 2)')"
    )
    assert asked[-1] == 30 and len(asked) == 2  # nothing that was not clicked is read
    assert page.evaluate("nasExplorer.pattern.view.comparison.correlation") > 0.5
    assert "read from the scan" in page.text_content('[data-c="about"]')
    assert errors == []
    page.close()
