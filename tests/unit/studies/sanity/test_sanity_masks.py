"""What is far from training is said; what is within chance is not."""

import numpy as np
import pytest
from scipy import stats
from small_set import GRID, look, mask, rows, text_of, training

from cloudseg.postprocess import decode_rle, encode_rle
from cloudseg.studies.sanity.measuring import column_height
from cloudseg.studies.sanity.rates import expect_count, expect_mean


def each(change):
    return [[name, text and encode_rle(change(decode_rle(text, GRID)))] for name, text in rows()]


def speckled(plane):
    return plane | (np.random.default_rng(3).random(GRID) < 0.02)


IDENTICAL = "many identical masks"
DAMAGES = {
    "vanished": ([[name, "" if name.endswith("Sugar") else text] for name, text in rows()], "a class that vanishes"),
    "few": (rows(rates=(0.02, 0.05)), "far from the share of masks that training has"),
    "fewer": (rows(rates=(0.2, 0.3)), "another share of masks than training has"),
    "inverted": (
        [[name, encode_rle(1 - decode_rle(text, GRID))] for name, text in rows()],
        "masks that cover everything",
    ),
    "the same": ([[name, text and encode_rle(mask(np.random.default_rng(0)))] for name, text in rows()], IDENTICAL),
    "along the rows": (each(lambda plane: plane.T.copy()), "masks counted along the rows"),
    "another grid": (each(lambda plane: plane[:30].copy()), "masks counted on another grid"),
    "noise": (each(speckled), "masks in more pieces than training's"),
    "small": (each(speckled), "small components"),
    "placeholder": ([[name, "1 1"] for name, _ in rows()], "the placeholder of the sample submission"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_each_damage_is_said(name, tmp_path):
    lines, title = DAMAGES[name]
    _, found = look(tmp_path / "a.csv", text_of(lines))
    assert title in found, found


def test_a_real_failure_is_called_out_with_its_numbers(tmp_path):
    """No Sugar at all, and 5.9 % of the rows with a mask where training has 53 %."""
    trained = training(images=2000, rates=(0.5, 0.56))
    lines = [[name, text if row in range(0, 120, 18) else ""] for row, (name, text) in enumerate(rows(rates=(1, 1)))]
    looked, found = look(tmp_path / "a.csv", text_of(lines), training=trained)
    assert not looked.is_sane
    assert found["a class that vanishes"][1] and found["far from the share of masks that training has"][1]
    assert "Sugar: 0 of 60 rows have a mask, 0.0 %; training has 5" in str(looked)
    assert "all classes: 7 of 120 rows have a mask, 5.8 %; training has 5" in str(looked)


def test_a_file_without_any_mask_is_never_nothing_odd(tmp_path):
    """Of so few training images chance may have it so, class by class."""
    trained = training(images=4, rates=(0.6, 0.6))
    _, found = look(tmp_path / "a.csv", text_of([[name, ""] for name, _ in rows()]), training=trained)
    assert list(found) == ["no mask in the whole file"]


def test_small_components_are_a_fault_of_our_own_submissions_alone(tmp_path):
    lines = rows()
    lines[0][1] = encode_rle(speckled(mask(np.random.default_rng(0))))
    assert look(tmp_path / "a.csv", text_of(lines), own=False)[1] == {}
    assert look(tmp_path / "a.csv", text_of(lines), own=True)[1] == {
        "components smaller than the decision allows": (2, True)
    }


def test_a_rare_class_may_be_absent_and_one_that_training_lacks_may_not_be_there(tmp_path):
    rare = training(rates=(0.5, 0.01))
    assert look(tmp_path / "a.csv", text_of(rows(rates=(0.5, 0.0))), training=rare)[1] == {}
    never = training(rates=(0.5, 0.0))
    assert "masks of a class that training never has" in look(tmp_path / "a.csv", text_of(rows()), training=never)[1]


def test_honest_submissions_are_not_called_odd(tmp_path):
    odd = [seed for seed in range(40) if look(tmp_path / "a.csv", text_of(rows(seed=seed + 100)))[1]]
    assert odd == []


def test_square_grids_are_not_judged_by_their_order():
    """There a transposed mask reads as well as a right one."""
    plane = np.zeros((50, 50), np.uint8)
    plane[5:20, 10:45] = 1
    assert column_height([encode_rle(plane)], 2500) == column_height([encode_rle(plane.T.copy())], 2500) == 50


def test_full_masks_and_noise_tell_no_height():
    assert column_height(["1 2400"], 2400) is None
    noise = np.random.default_rng(0).random(GRID) < 0.3
    assert column_height([encode_rle(noise)], noise.size) is None
    assert column_height([], 2400) is None


@pytest.mark.parametrize(
    "case", [(0, 10, 0, 5), (50, 100, 16, 30), (3600, 5546, 2400, 3698), (5, 5, 1, 9), (1, 9, 9, 9)]
)
def test_counts_are_expected_as_scipy_says(case):
    trained, of_trained, count, of = case
    found = expect_count(*case)
    law = stats.betabinom(of, trained + 0.5, of_trained - trained + 0.5)
    assert found.low * of == law.ppf(0.025) and found.high * of == law.ppf(0.975)
    assert found.chance == pytest.approx(min(1, 2 * min(law.cdf(count), law.sf(count - 1))), rel=1e-6)


def test_means_are_expected_as_a_simulation_says():
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(2000):
        trained, found = rng.normal(size=30), rng.normal(size=20)
        low, high, chance = expect_mean(trained, found)
        inside.append(low < found.mean() < high)
        assert (chance > 0.05) == inside[-1]
    assert 0.94 < np.mean(inside) < 0.96
    assert np.isnan(expect_mean([], [1.0])[0])
