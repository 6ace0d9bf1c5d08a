"""What a row of the sheet cannot have with the recipe that it names, said when the workflow is planned."""

import pytest
from demo_plan import SHEET, plan
from PIL import Image

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


def own_images(folder, sizes):
    """A folder with images of these (height, width) for each split, and what makes a plan of it."""
    for split, shapes in sizes.items():
        (folder / f"{split}_images").mkdir()
        for number, (height, width) in enumerate(shapes):
            Image.new("L", (width, height)).save(folder / f"{split}_images/{split}{number:05}.png")

    def change(config):
        config["dataset"] = {"source": "path", "root": str(folder)}
        config["submission_size"] = "35x53"

    return change


def told(tmp_path, change, *rows):
    try:
        plan(change, SHEET + "".join(f"tu-test_resnet\t{row}\tquick\t2\t\n" for row in rows), tmp_path)
    except ConfigError as error:
        return str(error)
    return ""


def test_a_size_that_divides_images_of_ones_own_is_held_against_them(tmp_path):
    change = own_images(tmp_path, {"train": [(140, 210)] * 3, "test": [(140, 210)]})
    assert told(tmp_path, change, "fpn\tx2", "fpn\tx4") == ""
    assert "line 3: fpn takes images of at least 32x32, got x5, 28x42 pixels" in told(
        tmp_path, change, "fpn\tx2", "fpn\tx5"
    )

    def cropped(config):
        change(config)
        config["recipes"]["quick"]["augmentation"] = [{"name": "RandomCrop", "height": 48, "width": 64}]

    assert "RandomCrop makes 48x64 of 70x105" in told(tmp_path, cropped, "fpn\tx2")


@pytest.mark.parametrize("other", ["train", "test"])
def test_images_of_unlike_sizes_are_found_without_reading_all_of_them(tmp_path, other):
    sizes = {"train": [(140, 210)] * 40, "test": [(140, 210)] * 40}
    sizes[other][-1] = (70, 105)
    change = own_images(tmp_path, sizes)
    text = told(tmp_path, change, "fpn\tx2", "fpn\t64x96")
    where = f"70x105 ({other}_images/{other}00039.png)"
    assert f"images have several sizes: 140x210 (train_images/train00000.png), {where}" in text
    assert "line 3" not in text

    def without(config):
        change(config)
        (tmp_path / "list.txt").write_text("train00039.png\n")
        config["dataset"]["exclude"] = str(tmp_path / "list.txt")

    assert told(tmp_path, without, "fpn\tx2") == ("" if other == "train" else told(tmp_path, change, "fpn\tx2"))
    for path in tmp_path.glob("*_images/*"):
        path.write_bytes(b"")  # the check will say so
    assert told(tmp_path, change, "fpn\tx2") == ""


def test_few_headers_are_read_of_many_images_and_none_where_no_size_divides(tmp_path, monkeypatch):
    change = own_images(tmp_path, {"train": [(140, 210)] * 200, "test": [(140, 210)] * 200})
    read = []
    monkeypatch.setattr("cloudseg.dataset.originals.image_size", lambda path: read.append(path.name) or (140, 210))
    assert told(tmp_path, change, "fpn\t64x96") == ""
    assert read == []
    assert told(tmp_path, change, "fpn\tx2", "fpn\tx4") == ""
    assert len(set(read)) == len(read) == 32
    assert {"train00000.png", "train00199.png", "test00000.png", "test00199.png"} <= set(read)


def test_a_size_that_leaves_too_little_of_the_contests_images_is_refused(tmp_path):
    assert "fpn takes images of at least 32x32, got x50, 28x42 pixels" in refused(
        tmp_path, "tu-test_resnet\tfpn\tx50\tquick\t2\t\n"
    )
