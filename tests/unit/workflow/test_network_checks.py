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


@pytest.mark.parametrize(
    ("row", "recipe", "words"),
    [
        (
            "tu-test_resnet\tfpn\t64x96",
            {"decoder_options": {"decoder_dropuot": 0.5}},
            "recipes.quick.decoder_options: fpn has no option 'decoder_dropuot' (nearest: decoder_dropout",
        ),
        ("mit_b0\tlinknet\t64x96", {"start": "none"}, "smp has no linknet on mit_b0; take another decoder"),
        (
            "tu-swin_tiny_patch4_window7_224\tfpn\t320x480",
            {"start": "none"},
            "tu-swin_tiny_patch4_window7_224 takes images of 224x224 alone, got 320x480",
        ),
        ("tu-test_resnet\tclassifier\t64x96", {}, "recipe quick has `best_by: dice`, which is of masks; a classifier"),
        (
            "tu-test_resnet\tclassifier\t64x96",
            {"best_by": "loss", "dice_over": "plane", "dice_smooth": 1},
            "recipe quick has `dice_over`, which is of masks; a classifier has none",
        ),
    ],
)
def test_what_a_decoder_cannot_do_with_an_encoder_or_a_recipe_is_refused(tmp_path, row, recipe, words):
    assert words in refused(tmp_path, f"{row}\tquick\t2\t\n", **recipe)


def test_a_network_that_starts_from_another_one_has_its_options(tmp_path):
    def change(config):
        quick = config["recipes"]["quick"]
        config["recipes"]["coarse"] = quick | {
            "start": "network:fpn/64x96/quick",
            "decoder_options": {"finest_level": False},
        }

    rows = "".join(f"tu-test_resnet\tfpn\t64x96\t{name}\t2\t\n" for name in ("quick", "coarse"))
    with pytest.raises(ConfigError, match="recipe coarse starts from the network fpn/64x96/quick: expected a network"):
        plan(change, SHEET + rows, tmp_path)
