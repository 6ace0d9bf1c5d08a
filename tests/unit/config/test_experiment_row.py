"""The optional columns of a sheet: left out or empty, a row is what it was before there were any."""

import pytest
from pydantic import ValidationError

from cloudseg.config.messages import problems
from cloudseg.config.model import ExperimentRow

PLAIN = {"encoder": "resnet34", "decoder": "fpn", "size": "x4", "recipe": "quick", "folds": "2"}
EXPERIMENT = ("resnet34", "fpn", "x4", "quick")


@pytest.mark.parametrize("empty", [{}, {"seed": "", "full": ""}, {"seed": "", "full": "false"}])
def test_an_empty_cell_is_one_that_is_left_out(empty):
    row = ExperimentRow(**PLAIN, **empty)
    assert (row.seed, row.full, row.experiment) == (None, False, EXPERIMENT)
    assert row.cells == PLAIN | {"folds": 2, "note": ""}


def test_a_replicate_is_an_experiment_of_its_own():
    row = ExperimentRow(**PLAIN, seed="0", full="true", line="7")
    assert (row.seed, row.full, row.experiment) == (0, True, (*EXPERIMENT, "seed0"))
    assert row.cells == PLAIN | {"folds": 2, "seed": 0, "full": True, "note": "", "line": "7"}
    assert ExperimentRow(**row.cells) == row


@pytest.mark.parametrize(
    ("cell", "complaint"),
    [
        ({"seed": "-1"}, "seed: expected at least 0, got -1"),
        ({"seed": str(2**32)}, f"seed: expected at most {2**32 - 1}, got {2**32}"),
        ({"seed": "1.5"}, "seed: expected a whole number or null, got 1.5"),
        ({"full": "yes please"}, "full: expected true or false, got 'yes please'"),
    ],
)
def test_what_is_no_seed_and_no_truth_is_refused(cell, complaint):
    with pytest.raises(ValidationError) as error:
        ExperimentRow(**PLAIN, **cell)
    assert problems(error.value, ExperimentRow) == [complaint]
