"""Each operation of a view does what albumentations does, and is inverted where it looked."""

import numpy as np
import pytest
import torch
from torch import nn

from cloudseg.config.recipe import Recipe
from cloudseg.config.views import (
    FLIPS,
    IDENTITY,
    Crop,
    Flip,
    Rotate,
    Scale,
    Transpose,
    Variant,
    augmentation_variants,
    variants_of,
)
from cloudseg.inference.views import apply, footprint, mean_of_variants, predict_variant
from cloudseg.models.preprocessing import Intensities, normalise
from cloudseg.models.probabilities import quantise
from cloudseg.training.data.augment import build_transform

NORM = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}


class Equivariant(nn.Module):
    """A smooth function of each pixel and its neighbours on all sides: flips pass through it."""

    def forward(self, image):
        around = nn.functional.avg_pool2d(image, 3, stride=1, padding=1, count_include_pad=False)
        return torch.cat([around.mean(1, keepdim=True) * 2, (image * around).mean(1, keepdim=True)], 1)


class Lopsided(nn.Module):
    """Logits that depend on where a pixel is: no view agrees with another."""

    def forward(self, image):
        ramp = torch.arange(image[0, 0].numel(), dtype=torch.float32).reshape(image.shape[-2:]) / 10 - 2
        return image.mean(1, keepdim=True) * ramp


class PerPixel(nn.Module):
    """A function of each pixel alone: every view that is undone where it was done gives the same."""

    def forward(self, image):
        return torch.cat([image.sum(1, keepdim=True) - 1.5, image[:, :1] * image[:, 1:2]], 1)


def smooth(size=(64, 96)):
    """Waves of 0..1, one in each channel and each image, that turn over slowly: a pixel is like its neighbours."""
    y, x = torch.meshgrid(*(torch.arange(side) / 150 for side in size), indexing="ij")
    waves = [[torch.sin(2 * x + n + c) * torch.cos(1.5 * y - c) for c in range(3)] for n in range(2)]
    return torch.stack([torch.stack(wave) for wave in waves]) / 2 + 0.5


def images(count=3, size=(24, 36)):
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("flip", FLIPS, ids=lambda flip: flip.name)
def test_each_view_is_undone(flip):
    plain = quantise(mean_of_variants(Equivariant(), images(), [IDENTITY]).planes)
    seen = quantise(mean_of_variants(Equivariant(), images(), [flip]).planes)
    assert (plain.int() - seen.int()).abs().max() <= 1
    all_views = quantise(mean_of_variants(Equivariant(), images(), FLIPS).planes)
    assert (plain.int() - all_views.int()).abs().max() <= 1
    assert plain.float().std() > 20  # there was something to tell apart


OPERATIONS = {
    "transposed": (Transpose(),),
    "half": (Scale(0.5),),
    "odd": (Scale(0.77),),
    "larger": (Flip((3,)), Scale(1.5)),
    "crop": (Crop(0.9, 0.88),),
    "flipped crop": (Flip((2,)), Crop(0.7, 0.75)),
    "rotation": (Rotate(30, None, "zeros", 0),),
    "rotation on another canvas": (Rotate(-20, 2.2, "zeros", 255),),
    "reflected rotation": (Rotate(90, None, "reflection", 0),),
    "crop of a rotation": (Rotate(17, None, "zeros", 0), Flip((2, 3)), Crop(0.8, 0.9)),
    "rotation of a crop": (Crop(0.8, 0.9), Transpose(), Rotate(-25, None, "border", 0)),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_view_is_undone_where_it_looked(name):
    operations = OPERATIONS[name]
    plain = quantise(mean_of_variants(PerPixel(), smooth(), [IDENTITY]).planes).int()
    probability, seen = predict_variant(PerPixel(), smooth(), operations).planes, footprint(operations, smooth())
    covered = torch.ones(64, 96, dtype=torch.bool) if seen is None else seen[0, 0] == 1
    assert probability.shape == plain.shape
    assert (plain - quantise(probability).int()).abs()[..., covered].max() <= 1
    assert covered[20:-20, 30:-30].all()  # the middle is always seen
    assert covered.all() == (not any(isinstance(each, Crop | Rotate) for each in operations))
    mean = mean_of_variants(PerPixel(), smooth(), [IDENTITY, Variant(name, operations, 3)]).planes
    assert (plain - quantise(mean).int()).abs().max() <= 1  # the unseen pixels too
    assert plain[0, 0].max() - plain[0, 0].min() > 30


def test_pixels_outside_carry_no_weight():
    """Against a mean that is taken pixel by pixel, of values that say which view they are from."""
    crop = Variant("crop", (Crop(0.5, 0.5),), 3)
    shown = []

    class Counting(nn.Module):  # the logit of the n-th view
        def forward(self, image):
            shown.append(image)
            return torch.full_like(image[:, :1], float(len(shown)))

    mean = mean_of_variants(Counting(), smooth((8, 12)), [IDENTITY, crop]).planes[0, 0]
    one, two = torch.sigmoid(torch.tensor([1.0, 2.0]))
    expected = torch.full((8, 12), one.item())
    expected[2:6, 3:9] = (one + 3 * two) / 4
    assert torch.allclose(mean, expected, atol=1e-6)
    with pytest.raises(ValueError, match=r"in no view \(crop\); add the view `identity`"):
        mean_of_variants(Counting(), smooth((8, 12)), [crop])


def test_a_rotation_sees_what_lies_within_its_frame():
    height, width, angle = 60, 90, np.radians(25)
    seen = footprint([Rotate(25, None, "border", 0)], torch.zeros(1, 3, height, width))[0, 0].numpy() == 1
    y, x = np.mgrid[:height, :width] + 0.5
    x, y = x - width / 2, y - height / 2
    turned = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x  # rows go down
    depth, edge = (np.minimum(width / 2 - abs(x), height / 2 - abs(y)) for x, y in (turned, (x, y)))
    assert seen[(depth > 2) & (edge > 2)].all()
    assert not seen[depth < 0.5].any()
    assert 0.5 < seen.mean() < 0.9


@pytest.mark.parametrize(
    ("step", "canvas"),
    [
        ({"name": "Rotate", "limit": [30, 30]}, None),
        ({"name": "Rotate", "limit": [-12, -12], "border_mode": 2}, None),
        ({"name": "Rotate", "limit": [40, 40], "fill": 200}, (48, 72)),
        ({"name": "RandomBrightnessContrast", "brightness_limit": [0.3, 0.3], "contrast_limit": [-0.4, -0.4]}, None),
        ({"name": "RandomBrightnessContrast", "brightness_limit": [-0.2, -0.2], "contrast_limit": [0.5, 0.5]}, None),
        (
            {
                "name": "Sequential",
                "transforms": [
                    {"name": "CenterCrop", "height": 36, "width": 60},
                    {"name": "Resize", "height": 48, "width": 72},
                    {"name": "VerticalFlip"},
                ],
            },
            (48, 72),
        ),
        ({"name": "Transpose"}, (48, 48)),
    ],
)
def test_views_show_what_albumentations_shows(step, canvas):
    certain = {**step, "p": 1} | (
        {"transforms": [{**each, "p": 1} for each in step["transforms"]]} if "transforms" in step else {}
    )
    size = canvas or (48, 72)
    image = (smooth(size)[0] * 255).to(torch.uint8).permute(1, 2, 0).numpy()
    expected, _ = build_transform([certain])(image, np.zeros((*size, 1), np.uint8), seed=0)
    variant = augmentation_variants(Recipe(augmentation=[step]).augmentation, canvas)[1]
    image = normalise(torch.from_numpy(image)[None], **NORM)
    black, white = (normalise(torch.full((1, 1, 1, 3), value, dtype=torch.uint8), **NORM) for value in (0, 255))
    for operation in variant.operations:
        image = apply(operation, image, Intensities(black, white))
    shown = ((image - black) / (white - black) * 255)[0].permute(1, 2, 0).numpy()
    far = np.abs(shown - expected) > 2
    assert far.mean() < 0.04  # the rim of a rotation, where OpenCV interpolates in steps of 1/32
    assert expected.std() > 10


def test_views_are_weighted_after_the_sigmoid():
    variants = variants_of(
        Recipe(tta=[{"view": "identity", "weight": 3}, "horizontal", {"view": "both", "weight": 0.5}])
    )
    image = images()
    planes = image.numpy()
    flips = {"identity": np.s_[:], "horizontal": np.s_[..., ::-1], "both": np.s_[..., ::-1, ::-1]}
    expected = 0
    for variant in variants:
        flip = flips[variant.name]
        flipped = torch.from_numpy(planes[flip].copy())
        probability = 1 / (1 + np.exp(-Lopsided()(flipped).numpy().astype(np.float64)))
        expected = expected + variant.weight / 4.5 * probability[flip]
    np.testing.assert_allclose(mean_of_variants(Lopsided(), image, variants).planes.numpy(), expected, atol=1e-6)


def test_no_view_is_refused():
    with pytest.raises(ValueError, match="at least one view"):
        mean_of_variants(Equivariant(), images(), [])


def test_what_is_no_operation_is_refused():
    with pytest.raises(TypeError, match=r"expected an operation of cloudseg\.config\.views, got 'flip'"):
        apply("flip", images())
