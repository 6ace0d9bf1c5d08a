import pytest

from cloudseg.config.size import Size, division_problem


@pytest.mark.parametrize(
    ("text", "original", "expected"),
    [
        ("320x480", None, (320, 480)),
        ("1x1", None, (1, 1)),
        ("x1", (1400, 2100), (1400, 2100)),
        ("x2", (1400, 2100), (700, 1050)),
        ("x3", (1400, 2100), (467, 700)),
        ("x4", (1400, 2100), (350, 525)),
        ("x5", (1400, 2100), (280, 420)),
        ("x8", (1400, 2100), (175, 263)),
        ("x2", (5, 3), (3, 2)),
        ("x10", (5, 14), (1, 1)),
    ],
)
def test_sizes(text, original, expected):
    assert Size.parse(text).of(original) == expected


@pytest.mark.parametrize(
    ("text", "original", "message"),
    [
        ("0x0", None, "at least 1 pixel"),
        ("0x480", None, "at least 1 pixel"),
        ("x0", (1400, 2100), "at least 1 pixel"),
        ("x3000", (1400, 2100), "at least 1 pixel"),
        ("x4", None, "the images have several sizes; write the size as HxW"),
        ("X4", (1400, 2100), "expected HxW"),
        ("320", None, "expected HxW"),
        ("320X480", None, "expected HxW"),
        ("320x480x3", None, "expected HxW"),
        ("320 x 480", None, "expected HxW"),
        ("-1x5", None, "expected HxW"),
        ("x1.5", (10, 10), "expected HxW"),
        ("３20x480", None, "expected HxW"),
        ("320x480\n", None, "expected HxW"),
        ("9999999x9999999", None, "expected HxW"),
        ("x", None, "expected HxW"),
        ("", None, "expected HxW"),
    ],
)
def test_sizes_that_are_none(text, original, message):
    with pytest.raises(ValueError, match=message):
        Size.parse(text).of(original)


def test_images_of_several_sizes_are_told_with_three_of_them():
    sizes = {(number, 60): f"{number}.jpg" for number in range(40, 44)}
    problem = division_problem(Size.parse("x4"), sizes)
    assert "several sizes: 40x60 (40.jpg), 41x60 (41.jpg), 42x60 (42.jpg), ...; write the size as HxW" in problem
    assert division_problem(Size.parse("320x480"), sizes) is None


@pytest.mark.parametrize("text", ["320x480", "x4"])
def test_a_size_is_written_as_it_was_read(text):
    assert str(Size.parse(text)) == text
