"""What a row of the sheet cannot have with the recipe that it names, said when the workflow is planned."""

import pytest
from demo_plan import SHEET, plan

from cloudseg.errors import ConfigError


def refused(tmp_path, row, **recipe):
    def change(config):
        config["recipes"]["quick"] |= recipe

    with pytest.raises(ConfigError) as error:
        plan(change, SHEET + row, tmp_path)
    return str(error.value)


STAGES = [{"epochs": 8}, {"epochs": 8}]


@pytest.mark.parametrize(
    ("row", "recipe", "words"),
    [
        (
            "fpn\t64x96",
            {"stages": [STAGES[0] | {"size": "96x144"}, STAGES[1]]},
            "recipes.quick.stages.0.size: expected at most 64x96, the size of the images that train, got 96x144",
        ),
        (
            "fpn\tx8",
            {"stages": [STAGES[0], STAGES[1] | {"size": "175x264"}]},
            "stages.1.size: expected at most 175x263, the size of the images that train, got 175x264",
        ),
        (
            "fpn\t64x96",
            {"canvas": "80x120", "stages": [STAGES[0] | {"size": "80x121"}, STAGES[1]]},
            "stages.0.size: expected at most 80x120",
        ),
        (
            "pan\t128x160",
            {"stages": [STAGES[0] | {"size": "112x128"}, STAGES[1]]},
            "stages.0.size: pan takes images of at least 113x113, got 112x128",
        ),
    ],
)
def test_stages_of_sizes_that_cannot_be_are_refused(tmp_path, row, recipe, words):
    assert words in refused(tmp_path, f"tu-test_resnet\t{row}\tquick\t2\t\n", **recipe)
