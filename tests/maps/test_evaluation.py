import numpy as np
import pytest
from orix.crystal_map import Phase, PhaseList
from orix.quaternion import Misorientation, Orientation, Rotation, symmetry

from pyxem_nas.diffraction import disorientation_angles, turned_about_beam
from pyxem_nas.maps.crystal_map import make_crystal_map
from pyxem_nas.maps.evaluation import evaluate
from pyxem_nas.maps.statistics import (
    calibration_curve,
    expected_calibration_error,
    paired_interval,
    wilson_interval,
)


def _random_quaternions(n, seed=0):
    q = np.random.default_rng(seed).normal(size=(n, 4))
    return q / np.linalg.norm(q, axis=-1, keepdims=True)


def _near(quaternions, angle_deg, seed=0):
    """Rotate the crystal by a fixed angle about random axes."""
    axes = np.random.default_rng(seed).normal(size=(len(quaternions), 3))
    turn = Rotation.from_axes_angles(axes, np.deg2rad(angle_deg))
    return (turn * Rotation(quaternions)).data


GROUPS = {
    "m-3m": symmetry.Oh,
    "mmm": symmetry.D2h,
    "6/mmm": symmetry.D6h,
    "-3m": symmetry.D3d,
    "-43m": symmetry.Td,
    "2/m": symmetry.C2h,
    "1": symmetry.C1,
}


@pytest.mark.parametrize("name", GROUPS)
def test_disorientation_agrees_with_orix(name):
    a, b = _random_quaternions(60, 1), _random_quaternions(60, 2)
    group = GROUPS[name].proper_subgroup
    pairs = Orientation(a, symmetry=group) - Orientation(b, symmetry=group)
    assert isinstance(pairs, Misorientation)
    expected = np.rad2deg(pairs.reduce().angle)
    np.testing.assert_allclose(disorientation_angles(a, b, group.data), expected, atol=1e-5)


@pytest.mark.parametrize("name", GROUPS)
def test_disorientation_does_not_see_crystal_symmetry_but_sees_the_laboratory(name):
    group = GROUPS[name].proper_subgroup
    a = _random_quaternions(20)
    for operation in group:
        equivalent = (Rotation(operation.data) * Rotation(a)).data
        np.testing.assert_allclose(disorientation_angles(equivalent, a, group.data), 0, atol=1e-5)
    turned = (Rotation(a) * Rotation.from_axes_angles([0, 0, 1], np.deg2rad(7.0))).data
    np.testing.assert_allclose(disorientation_angles(turned, a, group.data), 7, atol=1e-5)


def test_turn_about_the_beam_acts_on_the_laboratory_first():
    q = _random_quaternions(5)
    vector = np.array([1.0, 2.0, 3.0])
    turned = (Rotation(turned_about_beam(q)) * _vector(vector)).data
    expected = (Rotation(q) * _vector(vector * [-1, -1, 1])).data
    np.testing.assert_allclose(turned, expected, atol=1e-12)


def _vector(components):
    from orix.vector import Vector3d

    return Vector3d(components)


def _phase_list(names=("ferrite", "NbC", "cementite")):
    groups = {"ferrite": 229, "NbC": 225, "cementite": 62}
    return PhaseList([Phase(name, space_group=groups.get(name, 225)) for name in names])


def _map(phase_id, quaternions, names=("ferrite", "NbC", "cementite"), **kwargs):
    rows = {"phase_id": np.array(phase_id), "rotations": np.array(quaternions)[:, np.newaxis]}
    return make_crystal_map(rows, _phase_list(names), shape=(len(phase_id),), step=(1.0,), **kwargs)


def test_known_errors_give_known_numbers():
    phase_id = np.repeat([0, 2], [10, 10])
    truth = _random_quaternions(20)
    answer = truth.copy()
    answer[4:7] = _near(truth[4:7], 3.0)
    answer[7] = _near(truth[7:8], 30.0)[0]
    answer[12:16] = turned_about_beam(_near(truth[12:16], 1.5))
    answered = phase_id.copy()
    answered[8] = 1
    answered[9] = -1
    answered[19] = -1
    result = evaluate(_map(answered, answer), _map(phase_id, truth))

    assert result.n_positions == 20
    assert result.n_rejected == 2
    assert result.phase_accuracy == 17 / 20
    assert result.phase_accuracy_indexed == 17 / 18
    assert result.reference_phases == ("ferrite", "cementite")
    assert result.answered_phases == ("ferrite", "NbC", "cementite", "not_indexed")
    np.testing.assert_array_equal(result.confusion, [[8, 1, 0, 1], [0, 0, 9, 1]])

    ferrite = result.orientation["ferrite"]
    assert (ferrite.n_reference, ferrite.n_right_phase) == (10, 8)
    assert (ferrite.within_2, ferrite.within_5) == (4 / 8, 7 / 8)
    assert ferrite.within_5_of_all == 7 / 10
    assert ferrite.median == pytest.approx(1.5, abs=1e-5)  # of 0, 0, 0, 0, 3, 3, 3, 30
    assert ferrite.median_of_within_5 == pytest.approx(0, abs=1e-5)

    assert result.orientation["cementite"].within_5 < 9 / 9
    forgiven = result.orientation_twin_forgiven["cementite"]
    assert (forgiven.within_2, forgiven.within_5_of_all) == (1, 9 / 10)


def test_positions_left_out_or_without_truth_do_not_count():
    truth = _random_quaternions(6)
    mask = np.array([True, False, False, False, False, False])
    reference = _map([0, 1, 2, -1, 0, 1], truth)
    xmap = _map([1, 1, 2, 0, 0, 0], truth, navigation_mask=mask)
    result = evaluate(xmap, reference)
    assert result.n_positions == 4
    assert result.phase_accuracy == 3 / 4
    assert result.reference_phases == ("ferrite", "NbC", "cementite", "not_indexed")
    np.testing.assert_array_equal(result.confusion[-1], [1, 0, 0, 0])


def test_phases_are_matched_by_name_whatever_their_numbers():
    q = _random_quaternions(4)
    reference = _map([0, 1, 2, 0], q)
    xmap = _map([2, 0, 1, 2], q, names=("NbC", "cementite", "ferrite"))
    result = evaluate(xmap, reference)
    assert result.phase_accuracy == 1
    assert all(score.median < 1e-5 for score in result.orientation.values())


def test_best_of_several_solutions_counts():
    q = _random_quaternions(3)
    rows = {"phase_id": np.zeros(3, int), "rotations": np.stack([q, q[::-1]], axis=1)}
    xmap = make_crystal_map(rows, _phase_list(), shape=(3,), step=(1,))
    assert evaluate(xmap, _map([0, 0, 0], q)).orientation["ferrite"].within_2 == 1


@pytest.mark.filterwarnings("ignore:Setting space group")
def test_maps_that_cannot_be_compared_are_refused():
    q = _random_quaternions(6)
    reference = _map([0, 1, 2, 0, 1, 2], q)
    with pytest.raises(ValueError, match="xmap has 3 positions .* the reference 6"):
        evaluate(_map([0, 1, 2], q[:3]), reference)
    rows = {"phase_id": np.zeros(6, int), "rotations": q[:, np.newaxis]}
    flat = make_crystal_map(rows, _phase_list(), shape=(2, 3), step=(1, 1))
    with pytest.raises(ValueError, match=r"shape \(2, 3\).*shape \(6,\)"):
        evaluate(flat, reference)
    other = _map([0] * 6, q, names=("gold",))
    with pytest.raises(ValueError, match=r"\['ferrite', 'NbC', 'cementite'\], .*\['gold'\]"):
        evaluate(other, reference)
    wrong = _map([0, 1, 2, 0, 1, 2], q)
    wrong.phases["cementite"].point_group = "m-3m"
    with pytest.raises(ValueError, match="'cementite' has the Laue groups"):
        evaluate(wrong, reference)
    twice = _map([0] * 6, q, names=("NbC", "gold"))
    twice.phases["gold"].name = "NbC"
    with pytest.raises(ValueError, match="two phases of xmap have one name"):
        evaluate(twice, reference)


def test_reference_phase_unknown_to_the_map_counts_as_wrong_with_a_warning():
    q = _random_quaternions(4)
    with pytest.warns(UserWarning, match=r"does not know the reference phases \['cementite'\]"):
        result = evaluate(_map([0, 1, 1, 1], q, names=("ferrite", "NbC")), _map([0, 1, 2, 2], q))
    assert result.phase_accuracy == 0.5
    assert np.isnan(result.orientation["cementite"].median)
    assert result.orientation["cementite"].within_5_of_all == 0


def test_evaluation_reads_as_tables():
    q = _random_quaternions(4)
    reference = _map([0, 0, 1, 1], q)
    xmap = _map([0, -1, 1, 0], q)
    result = evaluate(xmap, reference)
    text = repr(result)
    assert text.startswith("Phase right in 50.0 % of 4 positions (1 rejected, counted as wrong;")
    assert "66.7 % of the others" in text
    assert "180-degree twin forgiven" in text
    assert max(len(line) for line in text.splitlines()) <= 120
    html = result._repr_html_()
    assert html.count("<table>") == html.count("</table>") == 3
    assert "<td>ferrite</td>" in html


def test_wilson_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(4)
    for share in (0.5, 0.93):
        right = rng.binomial(60, share, size=3000)
        bounds = np.array([wilson_interval(int(k), 60) for k in right])
        covered = np.mean((bounds[:, 0] <= share) & (share <= bounds[:, 1]))
        assert covered == pytest.approx(0.95, abs=0.02)
    assert wilson_interval(0, 0) == (0, 1)
    assert wilson_interval(0, 10)[0] == 0
    assert wilson_interval(10, 10)[1] == 1
    with pytest.raises(ValueError, match="between 0 and n, got 3 of 2"):
        wilson_interval(3, 2)


@pytest.mark.parametrize("shared", [0.0, 0.8])
def test_paired_interval_covers_the_truth_as_often_as_it_says(shared):
    # shared: share of patterns that are easy or hard for both methods alike
    rng = np.random.default_rng(5)
    n, repeats, p_a, p_b = 150, 1500, 0.9, 0.8
    covered = 0
    for _ in range(repeats):
        luck_a, luck_b = rng.random((2, n))
        luck_b = np.where(rng.random(n) < shared, luck_a, luck_b)
        difference, low, high = paired_interval(luck_a < p_a, luck_b < p_b)
        assert low <= difference <= high
        covered += low <= p_a - p_b <= high
    assert covered / repeats == pytest.approx(0.955, abs=0.025)


def test_paired_interval_is_tighter_for_agreeing_methods_and_antisymmetric():
    a = np.arange(200) < 180
    agreeing, disagreeing = np.arange(200) < 170, np.arange(200) >= 30
    _, low, high = paired_interval(a, agreeing)
    _, low_other, high_other = paired_interval(a, disagreeing)
    assert high - low < 0.7 * (high_other - low_other)
    np.testing.assert_allclose(paired_interval(agreeing, a), [-0.05, -high, -low])
    with pytest.raises(ValueError, match="same patterns, got 2 and 3"):
        paired_interval([True] * 2, [True] * 3)


def test_calibration_finds_the_overconfidence_put_in():
    rng = np.random.default_rng(6)
    stated = rng.uniform(0.3, 1.0, 40_000)
    assert expected_calibration_error(stated, rng.random(stated.size) < stated) < 0.01
    overconfident = rng.random(stated.size) < stated - 0.2
    assert expected_calibration_error(stated, overconfident) == pytest.approx(0.2, abs=0.01)
    curve = calibration_curve(stated, overconfident, n_bins=10)
    assert curve.count.sum() == stated.size
    assert np.isnan(curve.accuracy[:3]).all()
    np.testing.assert_allclose(curve.accuracy[3:], curve.probability[3:] - 0.2, atol=0.03)


def test_calibration_leaves_out_nan_and_refuses_what_is_no_probability():
    assert expected_calibration_error(np.array([np.nan, 1.0]), np.array([False, True])) == 0
    assert np.isnan(expected_calibration_error(np.array([np.nan]), np.array([True])))
    assert calibration_curve(np.array([0.0, 1.0]), np.array([0, 1]), 4).count.tolist() == [
        1,
        0,
        0,
        1,
    ]
    with pytest.raises(ValueError, match=r"\[0, 1\], found"):
        calibration_curve(np.array([1.2]), np.array([True]))
    with pytest.raises(ValueError, match="2 rows, correct has 1"):
        calibration_curve(np.array([0.2, 0.3]), np.array([True]))
