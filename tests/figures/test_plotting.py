"""Figures of maps for papers: of the width asked for, vectors where they can be."""

import re
import zlib

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.legend import Legend

from pyxem_nas import example_phases, plot_map
from pyxem_nas.maps.crystal_map import make_crystal_map


@pytest.fixture(scope="module")
def xmap():
    half = np.deg2rad(20) / 2
    quaternions = np.tile([1.0, 0, 0, 0], (8, 8, 1))
    quaternions[:4, 4:] = [np.cos(half), 0, 0, np.sin(half)]
    columns = {
        "phase_id": np.repeat([0, 1, -1, 2], 16), "rotations": quaternions.reshape(64, 1, 4),
        "reliability": np.arange(64.0),
    }  # fmt: skip
    return make_crystal_map(columns, example_phases("steel"), shape=(8, 8), step=(2.0, 2.0))


@pytest.mark.parametrize("width", [85, 176])
def test_figure_has_the_width_asked_for_and_no_text_is_cut(xmap, width):
    figure = plot_map(xmap, directions=("x", "z"), boundary_angle=5, width=width)
    assert figure.get_size_inches()[0] * 25.4 == pytest.approx(width)
    figure.canvas.draw()
    edge = figure.bbox
    legends = [text for legend in figure.findobj(Legend) for text in legend.get_texts()]
    assert any(text.get_text().startswith("cementite") for text in legends)
    # of axes, ticks beyond the limits are not drawn
    texts = [*legends, *(ax.title for ax in figure.findobj(plt.Axes))]
    texts += [text for ax in figure.findobj(plt.Axes) for text in ax.texts]
    for text in texts:
        box = text.get_window_extent()
        assert box.x0 >= edge.x0 - 1 and box.x1 <= edge.x1 + 1, text.get_text()
    plt.close(figure)


def test_pdf_keeps_text_and_boundaries_as_vectors(xmap, tmp_path):
    figure = plot_map(xmap, boundary_angle=5, width=176)
    figure.savefig(tmp_path / "map.pdf")
    plt.close(figure)
    data = (tmp_path / "map.pdf").read_bytes()
    page = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ", data)
    assert float(page.group(1)) / 72 * 25.4 == pytest.approx(176, abs=0.2)
    assert b"/Font" in data
    sizes = re.findall(rb"/Width (\d+)", data) + re.findall(rb"/Height (\d+)", data)
    # positions stay pixels: 8 of them a side; keys are drawn finer, never the whole page
    assert b"8" in sizes and max(map(int, sizes)) < 1200
    streams = re.findall(rb"stream\r?\n(.*?)endstream", data, re.DOTALL)
    drawn = b"".join(_inflate(stream) for stream in streams)
    assert len(re.findall(rb"\bl\b", drawn)) > 20  # lines of boundaries and frames


def _inflate(stream):
    try:
        return zlib.decompress(stream)
    except zlib.error:
        return b""


def test_width_below_a_legend_is_refused(xmap):
    with pytest.raises(ValueError, match="42 mm or more, got 30"):
        plot_map(xmap, width=30)
