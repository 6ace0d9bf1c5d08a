import subprocess
import sys

import pytest

from cloudseg.config.recipe import Recipe
from cloudseg.config.views import (
    FLIPS,
    IDENTITY,
    BrightnessContrast,
    Crop,
    Flip,
    Rotate,
    Scale,
    Transpose,
    Variant,
    augmentation_variants,
    record_of_views,
    scaled,
    smallest_side,
    variants_of,
)

RESIZE = {"name": "Resize", "height": 700, "width": 1050}
CROP = {"name": "RandomCrop", "height": 630, "width": 925}
FROG = [
    {"name": "HorizontalFlip", "p": 0.5},
    {"name": "VerticalFlip", "p": 0.5},
    {
        "name": "OneOf",
        "p": 1,
        "transforms": [
            {"name": "NoOp"},
            {"name": "Sequential", "transforms": [CROP, RESIZE]},
            {"name": "Rotate", "limit": 30, "border_mode": 0},
        ],
    },
]


def variants(steps, canvas=None):
    return augmentation_variants(Recipe(augmentation=steps).augmentation, canvas)


def test_each_transform_of_the_frog_gives_its_views():
    assert variants(FROG, (700, 1050)) == (
        Variant("identity"),
        Variant("HorizontalFlip", (Flip((3,)),)),
        Variant("VerticalFlip", (Flip((2,)),)),
        Variant("RandomCrop 630x925", (Crop(0.9, 925 / 1050),)),
        Variant("Rotate -30", (Rotate(-30, 1.5, "zeros", 0),), 0.5),
        Variant("Rotate 30", (Rotate(30, 1.5, "zeros", 0),), 0.5),
    )


def test_a_store_remembers_views_as_it_always_has():
    """Digests of stores that were begun, or finished, by earlier versions hold these values."""
    assert record_of_views(Recipe(tta="recipe", augmentation=FROG, canvas="700x1050")) == [
        {"view": "identity", "weight": 1, "moves": []},
        {"view": "HorizontalFlip", "weight": 1, "moves": [["flip", 3]]},
        {"view": "VerticalFlip", "weight": 1, "moves": [["flip", 2]]},
        {"view": "RandomCrop 630x925", "weight": 1, "moves": [["crop", 0.9, 925 / 1050]]},
        {"view": "Rotate -30", "weight": 0.5, "moves": [["rotate", -30, 1.5, "zeros", 0]]},
        {"view": "Rotate 30", "weight": 0.5, "moves": [["rotate", 30, 1.5, "zeros", 0]]},
    ]
    turned = {"name": "Sequential", "transforms": [{"name": "Transpose"}, {"name": "RandomBrightnessContrast"}]}
    light = [["light", 0.2, 1.2]]
    assert record_of_views(Recipe(tta="recipe", augmentation=[turned]))[2] == {
        "view": "Transpose, RandomBrightnessContrast +0.2 +0.2",
        "weight": 0.5,
        "moves": [["transpose"], *light],
    }
    listed = [{"view": "both", "scale": 1}, {"view": "vertical", "scale": 0.5, "weight": 2}]
    assert record_of_views(Recipe(tta=listed)) == [
        {"view": "both", "weight": 1},
        {"view": "vertical", "scale": 0.5, "weight": 2},
    ]


def test_the_flips_of_the_diary_leave_both_out_and_show_two_lights():
    steps = [{"name": name, "p": 0.5} for name in ("HorizontalFlip", "VerticalFlip", "RandomBrightnessContrast")]
    assert [(variant.weight, variant.operations) for variant in variants(steps)] == [
        (1, ()),
        (1, (Flip((3,)),)),
        (1, (Flip((2,)),)),
        (0.5, (BrightnessContrast(-0.2, 0.8),)),
        (0.5, (BrightnessContrast(0.2, 1.2),)),
    ]


def test_a_sequence_is_one_view_of_all_its_transforms():
    """Every way through its choices, which share the weight of one transform."""
    either = {"name": "OneOf", "transforms": [{"name": "NoOp"}, {"name": "Transpose"}]}
    steps = [{"name": "HorizontalFlip"}, {"name": "Rotate", "limit": [10, 20]}, {"name": "NoOp"}, either]
    found = variants([{"name": "Sequential", "transforms": steps}], (48, 48))
    flip, turns = Flip((3,)), [Rotate(angle, 1, "zeros", 0) for angle in (10, 20)]
    assert [variant.operations for variant in found[1:]] == [
        (flip, turns[0]),
        (flip, turns[0], Transpose()),
        (flip, turns[1]),
        (flip, turns[1], Transpose()),
    ]
    assert [variant.weight for variant in found] == [1, 0.25, 0.25, 0.25, 0.25]


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [{"name": "NoOp"}],
        [{"name": "HorizontalFlip", "p": 0}],
        [{"name": "Rotate", "limit": 0}],
        [{"name": "RandomBrightnessContrast", "brightness_limit": 0, "contrast_limit": 0}],
        [RESIZE],
        [{"name": "RandomCrop", "height": 700, "width": 1050}, RESIZE],
        [{"name": "Sequential", "transforms": [{"name": "NoOp"}, {"name": "Rotate", "limit": 0}]}],
    ],
)
def test_what_changes_nothing_adds_no_view(steps):
    assert variants(steps, (700, 1050)) == (IDENTITY,) == (Variant("identity", (), 1),)


def test_views_that_do_the_same_are_one():
    steps = [{"name": "VerticalFlip"}, {"name": "OneOf", "transforms": [{"name": "VerticalFlip"}, {"name": "NoOp"}]}]
    assert [variant.name for variant in variants(steps)] == ["identity", "VerticalFlip"]


@pytest.mark.parametrize(
    ("steps", "canvas", "message"),
    [
        ([{"name": "HorizontalFlip"}, {"name": "ElasticTransform"}], None, "step 2: ElasticTransform cannot be undone"),
        ([{"name": "OneOf", "transforms": [{"name": "NoOp"}, {"name": "Blur"}]}], None, "step 1.2: Blur cannot be"),
        ([{"name": "SomeOf", "transforms": [{"name": "NoOp"}]}], None, "step 1: SomeOf cannot be undone"),
        ([CROP, RESIZE], None, "step 1: RandomCrop is a part of a canvas, and the recipe has none; give it `canvas`"),
        ([CROP], (700, 1050), "step 1: RandomCrop needs a Resize to 700x1050, the canvas, right behind it"),
        ([CROP, {"name": "NoOp"}, RESIZE], (700, 1050), "step 1: RandomCrop needs a Resize"),
        ([CROP, RESIZE], (350, 525), "step 1: Resize makes 700x1050; expected 350x525, the canvas"),
        ([CROP, {**RESIZE, "height": 500, "width": 600}], (500, 600), "RandomCrop takes 630x925, more than the canvas"),
        ([RESIZE], None, "step 1: Resize makes 700x1050; expected a recipe with `canvas`"),
        ([{"name": "Resize", "height": 7}], (7, 7), "step 1: Resize needs `height` and `width`"),
        ([{"name": "Transpose"}], (700, 1050), "step 1: Transpose needs a square canvas, and this one is 700x1050"),
        ([{"name": "Rotate", "crop_border": True}], None, "step 1: Rotate with crop_border changes the size"),
        ([{"name": "Rotate", "border_mode": 3}], None, "step 1: Rotate takes border_mode 0, 1, 2, 4 as a view, got 3"),
        ([{"name": "Rotate", "fill": [0, 0, 9]}], None, "step 1: Rotate takes one `fill` for all channels as a view"),
        (
            [{"name": "RandomBrightnessContrast", "brightness_by_max": False}],
            None,
            "step 1: RandomBrightnessContrast is shown with brightness_by_max: true",
        ),
    ],
)
def test_what_cannot_be_undone_is_an_error_by_name(steps, canvas, message):
    with pytest.raises(ValueError, match=message) as caught:
        variants(steps, canvas)
    assert str(caught.value).startswith("augmentation, step ")
    assert "write the views of `tta` as a list" in str(caught.value)


def test_a_recipe_chooses_between_a_list_and_its_augmentation():
    listed = [{"view": "identity", "scale": 0.5, "weight": 2}]
    elastic = Recipe(tta=listed, augmentation=[{"name": "ElasticTransform"}])
    assert variants_of(elastic) == (Variant("identity", (Scale(0.5),), 2),)
    frog = Recipe(tta="recipe", augmentation=FROG, canvas="700x1050")
    assert variants_of(frog) == variants(FROG, (700, 1050))
    with pytest.raises(ValueError, match="canvas"):
        variants_of(Recipe(tta="recipe", augmentation=FROG))


def test_operations_of_listed_views():
    def operations(view):
        return variants_of(Recipe(tta=[view]))[0].operations

    assert operations("identity") == ()
    assert operations({"view": "both", "scale": 1}) == (Flip((2, 3)),)
    assert operations({"view": "vertical", "scale": 1.5}) == (Flip((2,)), Scale(1.5))
    with pytest.raises(ValueError, match="expected identity, horizontal, vertical, both"):
        operations("botth")
    assert variants_of(Recipe()) == FLIPS


def test_sides_are_rounded_half_up():
    assert [scaled((height, 10), 0.5)[0] for height in (1, 2, 3, 4, 5)] == [1, 1, 2, 2, 3]
    assert smallest_side([Variant("both", (Scale(2),)), IDENTITY], (64, 96)) == 64
    assert smallest_side([Variant("both", (Scale(0.75),)), Variant("turned", (Flip((2,)),))], (96, 64)) == 48


def test_parsing_a_workflow_imports_no_torch():
    program = "import sys, cloudseg.config.views; print({'torch', 'albumentations', 'cv2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
