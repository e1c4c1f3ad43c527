"""What the explorer's file holds: numbers to their stated precision, patterns that fit."""

import json
import re
import zlib

import numpy as np
import pytest
from orix.crystal_map import PhaseList

from pyxem_nas import Acquisition, ModelBundle, example_phases, explore, simulate_scan
from pyxem_nas.diffraction import to_orix
from pyxem_nas.diffraction.kinematical import simulate_spots
from pyxem_nas.figures.explorer import container, content, crystals, page, patterns, widget
from pyxem_nas.figures.map_colors import ipf_colors
from pyxem_nas.figures.solutions import make_viewer
from pyxem_nas.maps.crystal_map import NOT_INDEXED, make_crystal_map

ACQUISITION = Acquisition(200, 0.5)


def unpack(block):
    """Read a container as the page does, with nothing of the package."""
    raw = zlib.decompress(block)
    length = int.from_bytes(raw[:4], "little")
    header = json.loads(raw[4 : 4 + length])
    arrays = {}
    for name, entry in header["arrays"].items():
        start, n = 4 + length + entry["offset"], int(np.prod(entry["shape"]))
        assert start % 8 == 0  # else a typed array cannot start there
        values = np.frombuffer(raw, "<" + entry["dtype"], count=n, offset=start)
        arrays[name] = values.reshape(entry["shape"])
    return header, arrays


@pytest.fixture(scope="module")
def scan():
    phases = PhaseList([example_phases("steel")["NbC"], example_phases("steel")["cementite"]])
    s, truth = simulate_scan(phases, (7, 11), ACQUISITION, seed=4, n_grains=5, vacuum_share=0)
    n = truth.size
    rng = np.random.default_rng(0)
    phase_id = np.where(np.arange(n) % 10 == 3, NOT_INDEXED, truth.phase_id)
    columns = {
        "phase_id": phase_id, "rotations": truth.rotations.data.reshape(n, 1, 4),
        "phase_probability": rng.random(n), "orientation_probability": np.ones(n),
        "reliability": np.where(np.arange(n) % 5 == 0, np.nan, 30.0), "n_plausible": np.full(n, 3),
    }  # fmt: skip
    xmap = make_crystal_map(columns, phases, shape=truth.shape, step=(5.0, 5.0))
    return s, xmap, ModelBundle.from_phases(phases, ACQUISITION)


def test_numbers_survive_to_the_stated_precision(scan):
    s, xmap, bundle = scan
    header, arrays = content.collect(xmap, make_viewer(s, xmap, bundle))
    header, arrays = unpack(container.pack(header, arrays))
    indexed = np.asarray(xmap.is_indexed)
    assert (arrays["phase"] == np.where(indexed, xmap.phase_id, content.NO_PHASE)).all()
    kept = arrays["rotations"][0].T[indexed] / 32767
    kept /= np.linalg.norm(kept, axis=1, keepdims=True)
    cosine = np.abs(np.sum(kept * xmap.rotations.data[indexed], axis=1)).clip(0, 1)
    assert np.rad2deg(2 * np.arccos(cosine)).max() <= header["precision"]["rotation_deg"]
    for k, entry in enumerate(header["properties"]):
        levels = arrays[f"property_{k}"].ravel()
        values = entry["low"] + levels / 254 * (entry["high"] - entry["low"])
        values = np.where(levels == 255, np.nan, values)
        if entry["name"] in xmap.prop:
            wanted = np.where(indexed, xmap.prop[entry["name"]], np.nan)
            step = (entry["high"] - entry["low"]) / 254
            np.testing.assert_allclose(values, wanted, atol=0.501 * step, equal_nan=True)
    assert [e["name"] for e in header["properties"]][:2] == ["confidence", "phase_probability"]
    plausible = next(e for e in header["properties"] if e["name"] == "n_plausible")
    assert plausible["high"] - plausible["low"] == 254  # whole numbers are kept whole


def test_reflections_of_the_file_are_those_of_the_simulation(scan):
    s, xmap, bundle = scan
    viewer = make_viewer(s, xmap, bundle)
    header, arrays = content.collect(xmap, viewer)
    for k, phase in enumerate(header["phases"]):
        hkl = arrays[f"hkl_{k}"].astype(float)
        rows = slice(*viewer.reflections.bounds[k : k + 2])
        np.testing.assert_allclose(
            hkl @ np.array(phase["base"]), viewer.reflections.vectors[rows], atol=1e-9
        )
    ((positions, _, _),) = simulate_spots(
        viewer.reflections, xmap.rotations.data[:1], ACQUISITION, phase_id=0
    )
    assert len(positions)


def test_colours_of_the_table_are_those_of_the_static_map(scan):
    _, xmap, _ = scan
    wanted = ipf_colors(xmap, (0, 0, 1))
    side = crystals.COLOR_GRID
    nodes = crystals.octahedral_directions(side).reshape(-1, 3)
    _, tables = crystals.describe_phases(xmap)
    for i, name in ((0, "m-3m"), (1, "mmm")):
        rows = np.flatnonzero(xmap.phase_id == i)
        q = xmap.rotations.data[rows]
        # the beam in the crystal, written out
        w, x, y, z = q.T
        beam = np.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x**2 + y**2)], 1)
        nearest = (beam @ nodes.T).argmax(axis=1)
        found = tables[f"colors_{name}"].reshape(-1, 3)[nearest] / 255
        assert np.abs(found - wanted[rows]).max() < 0.06  # a node is up to 0.5 degrees away


def test_sector_arcs_enclose_the_corners():
    (phase,) = (p for _, p in example_phases("silver"))
    sector = crystals._describe_sector(to_orix(phase)[0])
    assert sorted(c["label"] for c in sector["corners"]) == ["[001]", "[101]", "[111]"]
    arcs = np.concatenate(sector["outline"])
    for corner in sector["corners"]:
        assert np.hypot(*(arcs - corner["at"]).T).min() < 0.01
    # of the standard triangle: 101 lies at tan(22.5 degrees), nothing right of it
    assert arcs[:, 0].max() == pytest.approx(np.sqrt(2) - 1, abs=0.005)


@pytest.mark.parametrize("lazy", [False, True])
def test_all_patterns_of_a_small_scan_are_embedded_as_they_are(scan, lazy):
    s, xmap, bundle = scan
    viewer = make_viewer(s.as_lazy() if lazy else s, xmap, bundle)
    embedded = patterns.embed_patterns(viewer, budget=10**7)
    assert embedded.header["n"] == embedded.header["n_all"] == 77
    assert embedded.header["factor"] == 1
    k = 50
    chunk = zlib.decompress(embedded.chunks[k // 16])
    levels = np.frombuffer(chunk, np.uint8).reshape(-1, 144, 144)[k % 16]
    counts = np.asarray(s.data[k // 11, k % 11], float)
    kept = embedded.scales[k] * (levels / 63) ** 2
    cut = np.minimum(counts, embedded.scales[k])
    # half a level of the square root
    tolerance = 0.51 / 63 * np.sqrt(embedded.scales[k])
    assert np.abs(np.sqrt(kept) - np.sqrt(cut)).max() <= tolerance
    np.testing.assert_allclose(embedded.centers[k], viewer.centers[k // 11, k % 11], rtol=1e-6)


def test_patterns_keep_to_their_budget_and_every_grain_has_one(scan):
    s, xmap, bundle = scan
    viewer = make_viewer(s, xmap, bundle)
    whole = patterns.embed_patterns(viewer, budget=10**7)
    smaller = patterns.embed_patterns(viewer, budget=sum(map(len, whole.chunks)) // 2)
    assert smaller.header["factor"] > 1 and smaller.header["n"] == 77
    budget = sum(map(len, whole.chunks)) // 20
    fewer = patterns.embed_patterns(viewer, budget=budget)
    assert fewer.header["n"] < 77 and sum(map(len, fewer.chunks)) < 1.3 * budget
    assert (np.diff(fewer.positions) > 0).all()
    assert patterns.embed_patterns(viewer, budget=0).header["n"] == 1


def test_bright_beam_does_not_set_the_brightness():
    image = np.zeros((64, 64))
    image[30:33, 30:33] = 10_000  # the beam, at (31, 31)
    image[10, 40] = 100
    levels, scale = patterns.reduce_pattern(image, np.array([31, 31]), 1, (4.0, 4.0))
    assert scale == 100 and levels[10, 40] == 63 and levels[31, 31] == 63
    levels, scale = patterns.reduce_pattern(np.zeros((8, 8)), np.array([4, 4]), 1, (2.0, 2.0))
    assert scale == 0 and not levels.any()


def test_modules_are_joined_once_and_nothing_of_modules_is_left():
    script = page.join_modules("page.js")
    assert not re.search(r"^\s*(import|export) ", script, re.MULTILINE)
    names = re.findall(r"^(?:async )?(?:function|class|const) (\w+)", script, re.MULTILINE)
    assert len(names) == len(set(names))  # one scope for all of them
    assert "</script" not in script


def test_modules_are_short():
    folder = page.files(page.__package__) / "web"
    for file in folder.iterdir():
        assert len(file.read_text().splitlines()) < 400, file.name


def test_widget_answers_requests_from_a_lazy_scan(scan):
    pytest.importorskip("anywidget")
    s, xmap, bundle = scan
    lazy = explore(xmap, s.as_lazy(), bundle)
    header, _ = unpack(lazy.container)
    assert header["simulation"]["beam_energy"] == 200
    sent = []
    lazy.send = lambda message, buffers=None: sent.append((message, buffers))
    lazy.answer(None, {"position": 13}, [])
    ((message, (data,)),) = sent
    levels = np.frombuffer(data, np.uint8).reshape(message["pattern"]["shape"])
    wanted, scale = patterns.reduce_pattern(
        s.data[1, 2], np.array(message["pattern"]["center"]), 1,
        (0.12 / 0.0246, 0.12 / 0.0246), n_levels=256,
    )  # fmt: skip
    assert message["position"] == 13 and message["pattern"]["scale"] == scale
    assert (levels == wanted).mean() > 0.999
    message, data = widget.answer_request(None, {"position": 1})
    assert "without a scan" in message["error"] and data == []
    lazy.answer(None, {"position": 77}, [])
    assert "77 positions" in sent[-1][0]["error"]


def test_explorer_takes_phases_as_indexing_does(scan):
    pytest.importorskip("anywidget")
    s, xmap, bundle = scan
    from_phases = explore(xmap, s, bundle.phase_list, acquisition=ACQUISITION)
    from_bundle = explore(xmap, s, bundle, acquisition=ACQUISITION)
    assert from_phases.container == from_bundle.container


def test_explore_refuses_a_scan_without_its_bundle(scan):
    s, xmap, _ = scan
    with pytest.raises(ValueError, match="pass bundle="):
        explore(xmap, s)
