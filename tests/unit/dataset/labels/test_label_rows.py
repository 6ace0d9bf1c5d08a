import numpy as np

from cloudseg.dataset.labels.rows import LabelRows, Place

NAMES, CLASSES = [f"{number}.jpg" for number in (3, 1, 2, 0)], ["b", "a", "c"]


def drawn(seed, count):
    """Draw rows of a table, some of them of unknown images and classes; return them and what a dict makes of them."""
    rng = np.random.default_rng(seed)
    rows, by_image = [], {name: {} for name in NAMES}
    for line in range(2, count + 2):
        image, label = f"{rng.integers(5)}.jpg", "abcd"[rng.integers(4)]
        place = Place(line, 10 * line, 10 * line + 10, bool(rng.integers(2)))
        rows.append((image, label, place))
        if image in by_image and label in CLASSES:
            by_image[image].setdefault(label, []).append(place)
    return rows, by_image


def test_rows_are_those_of_dicts_of_lists():
    for seed in range(20):
        rows, expected = drawn(seed, seed)
        found = LabelRows(NAMES, CLASSES, iter(rows))
        assert {name: found.of(name) for name in NAMES} == expected
        assert found.of("unknown.jpg") == {}
        kept = [place for by_class in expected.values() for places in by_class.values() for place in places]
        assert (len(found), found.any_empty) == (len(kept), any(place.empty for place in kept))
        several = [
            (image, label, places)
            for image, by_class in expected.items()
            for label, places in by_class.items()
            if len(places) > 1
        ]
        assert list(found.several()) == several
        lacking = {image: [name for name in CLASSES if name not in by_class] for image, by_class in expected.items()}
        assert dict(found.lacking()) == {image: names for image, names in lacking.items() if names}
        fewer = found.without(["1.jpg", "0.jpg"])
        assert {name: fewer.of(name) for name in NAMES} == expected | {"1.jpg": {}, "0.jpg": {}}
        assert {image for image, _ in fewer.lacking()} <= {"3.jpg", "2.jpg"}


def test_a_table_without_images_or_rows_is_one():
    assert list(LabelRows([], CLASSES).several()) == list(LabelRows([], CLASSES).lacking()) == []
    assert list(LabelRows(["a.jpg"], CLASSES).lacking()) == [("a.jpg", CLASSES)]
