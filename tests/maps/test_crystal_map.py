import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from orix.crystal_map import Phase, PhaseList
from orix.plot import DirectionColorKeyTSL
from orix.quaternion import Rotation
from orix.vector import Vector3d

from pyxem_nas.figures.plotting import plot_map
from pyxem_nas.maps.crystal_map import make_crystal_map


@pytest.fixture
def phase_list():
    return PhaseList(
        [
            Phase("ferrite", space_group=229),
            Phase("NbC", space_group=225),
            Phase("cementite", space_group=62),
        ]
    )


def _columns(phase_id, n_best=1, seed=0):
    n = len(phase_id)
    quaternions = np.random.default_rng(seed).normal(size=(n, n_best, 4))
    quaternions /= np.linalg.norm(quaternions, axis=-1, keepdims=True)
    return {
        "phase_id": np.array(phase_id),
        "rotations": quaternions,
        "correlation": np.linspace(0, 1, n),
    }


@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3), (1, 4), (4, 1)])
def test_map_keeps_shape_steps_and_row_major_order(shape, phase_list):
    n = int(np.prod(shape))
    step = (0.5, 2.0)[2 - len(shape) :]
    columns = _columns(np.arange(n) % 3)
    xmap = make_crystal_map(columns, phase_list, shape=shape, step=step)
    assert xmap.size == n
    assert xmap.shape == tuple(length for length in shape if length > 1)
    np.testing.assert_array_equal(xmap.prop["correlation"], columns["correlation"])
    for row, index in enumerate(np.ndindex(shape)):
        for axis, name in zip(range(-1, -len(shape) - 1, -1), ("x", "y"), strict=False):
            if shape[axis] > 1:
                expected = index[axis] * step[axis]
                assert getattr(xmap, name)[row] == pytest.approx(expected)


@pytest.mark.parametrize("present", [[0], [1], [2], [0, 2], [-1, 1], [-1, -1]])
def test_phases_without_positions_stay_and_nothing_is_relabelled(present, phase_list):
    phase_id = np.resize(present, 6)
    xmap = make_crystal_map(_columns(phase_id), phase_list, shape=(2, 3), step=(1, 1))
    np.testing.assert_array_equal(xmap.phase_id, phase_id)
    expected = [-1, 0, 1, 2] if -1 in present else [0, 1, 2]
    assert [int(i) for i in xmap.phases.ids] == expected
    for i, name in enumerate(("ferrite", "NbC", "cementite")):
        assert xmap.phases[i].name == name
    assert phase_list.names == ["ferrite", "NbC", "cementite"]  # the input is not changed


def test_every_map_can_be_sliced_and_drawn_as_an_array(phase_list):
    xmap = make_crystal_map(_columns(np.arange(12) % 3), phase_list, shape=(3, 4), step=(0.3, 0.7))
    np.testing.assert_array_equal(
        xmap.get_map_data("correlation"), xmap.prop["correlation"].reshape(3, 4)
    )
    assert xmap[1:, 2].shape == (2, 1)


def test_rotations_are_those_given_and_not_indexed_rows_are_identity(phase_list):
    columns = _columns([0, -1, 2])
    columns["rotations"][1] = np.nan
    given = columns["rotations"].copy()
    xmap = make_crystal_map(columns, phase_list, shape=(3,), step=(1,))
    assert xmap.rotations.shape == (3,)
    angle = (~xmap.rotations[[0, 2]] * Rotation(given[[0, 2], 0])).angle
    np.testing.assert_allclose(angle, 0, atol=1e-7)
    np.testing.assert_array_equal(xmap.rotations.data[1], [1, 0, 0, 0])
    np.testing.assert_array_equal(columns["rotations"], given)


def test_several_solutions_stay_in_order_and_missing_ones_repeat_the_best(phase_list):
    columns = _columns([0, 1, 2, 0], n_best=3)
    columns["rotations"][2, 2] = np.nan
    columns["rotations"][3, 1] = 0
    xmap = make_crystal_map(columns, phase_list, shape=(2, 2), step=(1, 1))
    assert xmap.rotations.shape == (4, 3)
    expected = columns["rotations"].copy()
    expected[2, 2] = expected[2, 0]
    expected[3, 1] = expected[3, 0]
    np.testing.assert_allclose(xmap.rotations.data, expected, atol=1e-12)


def test_masked_positions_are_not_in_data_and_need_no_rotation(phase_list):
    columns = _columns(np.zeros(6, int))
    columns["rotations"][[0, 4]] = np.nan
    mask = np.zeros((2, 3), bool)
    mask[0, 0] = mask[1, 1] = True
    xmap = make_crystal_map(columns, phase_list, shape=(2, 3), step=(1, 1), navigation_mask=mask)
    np.testing.assert_array_equal(xmap.is_in_data, ~mask.ravel())
    assert xmap.size == 4
    assert xmap.all_indexed
    xmap.is_in_data[:] = True
    assert np.isfinite(xmap.rotations.data).all()
    np.testing.assert_array_equal(xmap.phase_id == -1, mask.ravel())


def test_properties_of_two_dimensions_are_kept(phase_list):
    columns = _columns([0, 1, 1]) | {"scores": np.arange(6.0).reshape(3, 2)}
    xmap = make_crystal_map(columns, phase_list, shape=(3,), step=(1,), scan_unit="um")
    np.testing.assert_array_equal(xmap.prop["scores"], columns["scores"])
    assert xmap.scan_unit == "um"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"phase_id": np.array([0, 1, 3])}, r"\[3\], which phase_list does not have"),
        ({"phase_id": np.array([0, 1, -2])}, r"\[-2\], which phase_list does not have"),
        ({"phase_id": np.array([0.0, 1, 2])}, "integer"),
        ({"rotations": np.ones((3, 4))}, r"shape \(n, n_best, 4\), got \(3, 4\)"),
        ({"rotations": np.full((3, 1, 4), np.nan)}, "3 indexed rows have no usable rotation"),
        ({"correlation": np.zeros(2)}, r"'correlation' must have 3 rows .* shape \(2,\)"),
    ],
)
def test_columns_that_do_not_fit_are_refused(change, message, phase_list):
    columns = _columns([0, 1, 2]) | change
    with pytest.raises(ValueError, match=message):
        make_crystal_map(columns, phase_list, shape=(3,), step=(1,))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"step": (1, 1)}, r"step must hold one positive number per axis of shape \(3,\)"),
        ({"step": (0,)}, "step must hold one positive number"),
        ({"step": (np.nan,)}, "step must hold one positive number"),
        ({"shape": (1, 1, 3), "step": (1, 1, 1)}, r"shape must be \(\), \(nx,\)"),
        ({"navigation_mask": np.zeros(4, bool)}, r"boolean array of shape \(3,\)"),
        ({"navigation_mask": np.zeros(3)}, "boolean array"),
        ({"navigation_mask": np.ones(3, bool)}, "leaves out every position"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, message, phase_list):
    arguments = {"shape": (3,), "step": (1,)} | arguments
    with pytest.raises(ValueError, match=message):
        make_crystal_map(_columns([0, 1, 2]), phase_list, **arguments)


def test_missing_columns_and_phase_ids_with_gaps_are_refused():
    with pytest.raises(ValueError, match=r"columns lack \['rotations'\]"):
        make_crystal_map({"phase_id": np.zeros(1, int)}, PhaseList(), shape=(1,), step=(1,))
    gaps = PhaseList(names=["a", "b"], point_groups=["m-3m", "mmm"], ids=[1, 2])
    with pytest.raises(ValueError, match=r"IDs 0 to n - 1 without gaps, got \[1, 2\]"):
        make_crystal_map(_columns([1, 1]), gaps, shape=(2,), step=(1,))


# ---------------------------------------------------------------- figures


def _drawn(shape, phase_list, **changes):
    n = int(np.prod(shape))
    columns = _columns(np.resize([0, 1, 2, -1], n)) | {
        "reliability": np.linspace(0, 60, n),
        "phase_probability": np.linspace(0, 1, n),
        "orientation_probability": np.full(n, np.nan),
    }
    step = (2.0,) * len(shape)
    return make_crystal_map(columns | changes, phase_list, shape=shape, step=step)


def _titles(figure):
    return [ax.get_title(loc="left") for ax in figure.axes if ax.get_title(loc="left")]


@pytest.fixture
def _closed_figures():
    matplotlib.use("agg")
    yield
    plt.close("all")


@pytest.mark.usefixtures("_closed_figures")
@pytest.mark.parametrize("shape", [(), (7,), (1, 7), (7, 1), (6, 8)])
def test_figure_shows_what_the_map_has(shape, phase_list, tmp_path):
    figure = plot_map(_drawn(shape, phase_list), directions=("x", "z"), boundary_angle=5)
    assert _titles(figure) == [
        "Phase",
        "IPF-X (to the right)",
        "IPF-Z (out of the map)",
        "Reliability",
        "P(phase is right)",
    ]
    figure.savefig(tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size > 5000


@pytest.mark.usefixtures("_closed_figures")
def test_colours_are_those_of_phase_orientation_and_rejection(phase_list):
    xmap = _drawn((2, 4), phase_list)
    mask = np.zeros(8, bool)
    mask[4] = True
    xmap.is_in_data = ~mask
    figure = plot_map(xmap, phase_colors={"NbC": "red"})
    phase, ipf = (ax.images[0].get_array().reshape(8, 3) for ax in figure.axes[:2])
    np.testing.assert_array_equal(phase[1], [1, 0, 0])
    np.testing.assert_array_equal(phase[[3, 7]], 0)
    np.testing.assert_array_equal(ipf[[3, 7]], 0)
    np.testing.assert_array_equal(phase[4], 1)
    np.testing.assert_array_equal(phase[1], phase[5])
    assert len({tuple(color) for color in phase}) == 5
    for i, row in ((0, 0), (1, 1), (2, 2)):
        group = phase_list[i].point_group
        direction = Rotation(xmap.rotations.data[row]) * Vector3d.zvector()
        expected = DirectionColorKeyTSL(group.laue).direction2color(direction)
        np.testing.assert_allclose(ipf[row], np.ravel(expected), atol=1e-6)


@pytest.mark.usefixtures("_closed_figures")
def test_boundaries_lie_between_grains_and_phases(phase_list):
    turn = Rotation.from_axes_angles([0, 0, 1], np.deg2rad([0, 3, 10, 10, 10, 100])).data
    rows = {"phase_id": np.array([0, 0, 0, 1, 1, 1]), "rotations": turn[:, np.newaxis]}
    xmap = make_crystal_map(rows, phase_list, shape=(2, 3), step=(1, 1))
    figure = plot_map(xmap, boundary_angle=5)
    lines = figure.axes[0].collections[0].get_segments()
    found = {tuple(np.mean(line, axis=0)) for line in lines}
    # 3 and 10 degrees differ by 7; rows differ in phase; 10 and 100 are equal in m-3m
    assert found == {(1.5, 0.0), (0.0, 0.5), (1.0, 0.5), (2.0, 0.5)}


@pytest.mark.usefixtures("_closed_figures")
def test_answers_without_a_value_are_grey_and_rejected_ones_black(phase_list):
    rows = {
        "phase_id": np.array([0, -1, 0, 1]),
        "rotations": np.tile([1.0, 0, 0, 0], (4, 1, 1)),
        "reliability": np.array([10.0, 20.0, np.nan, 30.0]),
    }
    figure = plot_map(make_crystal_map(rows, phase_list, shape=(2, 2), step=(1, 1)), directions=())
    (ax,) = (ax for ax in figure.axes if ax.get_title(loc="left") == "Reliability")
    colors = np.ma.getmaskarray(ax.images[0].get_array()).ravel()
    veil = ax.images[1].get_array().reshape(4, 4)
    assert colors.tolist() == [False, True, True, False]
    assert veil[:, 3].tolist() == [0, 0, 1, 0] and 0.5 < veil[2, 0] < 0.9


@pytest.mark.usefixtures("_closed_figures")
def test_figure_refuses_unknown_names(phase_list):
    xmap = _drawn((2, 2), phase_list)
    with pytest.raises(ValueError, match=r"'x', 'y', 'z', got \['w'\]"):
        plot_map(xmap, directions=("w",))
    with pytest.raises(ValueError, match=r"\['gold'\], the phases are \['ferrite'"):
        plot_map(xmap, phase_colors={"gold": "red"})
