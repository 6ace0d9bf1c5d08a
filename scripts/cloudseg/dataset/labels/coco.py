"""Labels in a COCO file: polygons and run lengths of objects, in JSON."""

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Self

import numpy as np

from cloudseg.dataset.labels.interface import Encoding, LabelError, Labels, OtherSizeError, Shape

MARGIN = 1  # pixels that a polygon may reach over the border: programs round, and count from the middle of a pixel


class Annotation(NamedTuple):
    """The outlines of an object: the id of the annotation, and its segmentation as JSON."""

    number: str
    text: str


class CocoProblem(NamedTuple):
    """What is wrong with a COCO file: one of `KINDS`, and what is there."""

    kind: str
    got: str


KINDS = ("entry", "twice", "image", "class", "id", "other class")
"""An entry that is none, an id that is there twice, an image that is not there, a class that is no category, an id that
names nothing, a category that is no class."""


class CocoAnnotations:
    """The annotations of images and classes.

    Parameters
    ----------
    listed : the images that the file names.
    images : names of all training images.
    classes : names of the classes.
    found : annotations by image and class.
    """

    word = "entry"
    any_empty = True  # an image that the file does not name may have been forgotten

    def __init__(
        self,
        listed: Collection[str],
        images: Iterable[str],
        classes: Sequence[str],
        found: Mapping[str, Mapping[str, Sequence[Annotation]]],
    ) -> None:
        self._listed, self._images, self.classes, self._found = set(listed), list(images), list(classes), found

    def __len__(self) -> int:
        return len(self._found)

    def of(self, image: str) -> Mapping[str, Sequence[Annotation]]:
        """Return the annotations of an image by class."""
        return self._found.get(image, {})

    def lacking(self) -> Iterator[tuple[str, list[str]]]:
        """Yield each image that the file does not name, and the classes."""
        yield from ((image, self.classes) for image in self._images if image not in self._listed)

    def without(self, left_out: Iterable[str]) -> Self:
        """Return those of the other images."""
        out = set(left_out)
        found = {image: annotations for image, annotations in self._found.items() if image not in out}
        return type(self)(self._listed, [image for image in self._images if image not in out], self.classes, found)


class CocoLabels(Labels):
    """The annotations of the training images.

    Parameters
    ----------
    shown : the name of the file, for messages.
    annotations : of the images.
    """

    pixel_bytes = 3  # a mask, its run lengths drawn, and a second one to unite with it

    def __init__(self, shown: str, annotations: CocoAnnotations) -> None:
        self._shown, self._annotations = shown, annotations

    def read(self, image: str) -> dict[str, list[Encoding]]:
        """Return the annotations of one image: class to encodings, sorted by class."""
        return {
            label: [Encoding(each.text, partial(_draw, each), self._shown) for each in annotations]
            for label, annotations in sorted(self._annotations.of(image).items())
        }


def load_coco(path: Path, shown: str) -> dict[str, list[Any]]:
    """Read a COCO file: its lists `images`, `annotations` and `categories`.

    Raises
    ------
    LabelError : if it is no JSON, or has not these lists.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise LabelError(shown, str(error.strerror)) from None
    except json.JSONDecodeError as error:
        raise LabelError(shown, f"line {error.lineno}: no JSON ({error.msg})") from None
    except (ValueError, RecursionError) as error:
        raise LabelError(shown, f"no JSON in UTF-8 ({error})") from None
    names = ("images", "annotations", "categories")
    missing = [name for name in names if not (isinstance(content, dict) and isinstance(content.get(name), list))]
    if missing:
        there = ", ".join(sorted(content)[:9]) if isinstance(content, dict) else type(content).__name__
        raise LabelError(shown, f"no list {' and no list '.join(missing)} (it has {there or 'nothing'})")
    return {name: content[name] for name in names}


def image_name(file_name: str) -> str:
    """Return the name of an image file that an entry names, with or without folders."""
    return PurePosixPath(file_name.replace("\\", "/")).name


def index_coco(
    content: Mapping[str, Sequence[Any]], images: Sequence[str], classes: Sequence[str], elsewhere: Collection[str]
) -> tuple[CocoAnnotations, list[CocoProblem]]:
    """Find the annotations of images and classes, and what is wrong with the others.

    Parameters
    ----------
    content : the lists of the file.
    images : names of the training images.
    classes : names of the classes.
    elsewhere : names of images that the file may name, too, such as those of the test folder.
    """
    problems: list[CocoProblem] = []
    known = set(images)
    name_of: dict[Any, str] = {}
    listed: set[str] = set()
    for entry in _sound(content["images"], "images", ("id", "file_name"), problems):
        name = image_name(str(entry["file_name"]))
        if entry["id"] in name_of or name in listed:
            problems.append(CocoProblem("twice", f"image {entry['id']!r:.40} ({name!r:.80})"))
        elif name not in known and name not in elsewhere:
            problems.append(CocoProblem("image", f"image {entry['id']!r:.40}, {entry['file_name']!r:.80}"))
        name_of.setdefault(entry["id"], name)
        listed.add(name)
    label_of: dict[Any, str] = {}
    for entry in _sound(content["categories"], "categories", ("id", "name"), problems):
        if entry["id"] in label_of:
            problems.append(CocoProblem("twice", f"category {entry['id']!r:.40}"))
        label_of.setdefault(entry["id"], str(entry["name"]))
    problems += [CocoProblem("class", label) for label in classes if label not in label_of.values()]
    found: dict[str, dict[str, list[Annotation]]] = {}
    others: dict[str, int] = {}
    for entry in _sound(content["annotations"], "annotations", ("image_id", "category_id"), problems):
        number = str(entry.get("id", "without an id"))
        name, label = name_of.get(entry["image_id"]), label_of.get(entry["category_id"])
        if name is None or label is None:
            key = "image_id" if name is None else "category_id"
            problems.append(CocoProblem("id", f"annotation {number:.40}: {key} {entry[key]!r:.40}"))
        elif label not in classes:
            others[label] = others.get(label, 0) + 1
        elif name in known:
            text = json.dumps(entry.get("segmentation"), sort_keys=True, separators=(",", ":"))
            found.setdefault(name, {}).setdefault(label, []).append(Annotation(number, text))
    problems += [CocoProblem("other class", f"{label} ({count} annotations)") for label, count in others.items()]
    return CocoAnnotations(known & listed, images, classes, found), problems


def _sound(
    entries: Sequence[Any], what: str, keys: Sequence[str], problems: list[CocoProblem]
) -> Iterator[Mapping[str, Any]]:
    """Yield the entries that have these keys, and values that can be looked up."""
    for number, entry in enumerate(entries):
        values = [entry.get(key) for key in keys] if isinstance(entry, dict) else []
        if values and all(isinstance(value, str | int) for value in values):
            yield entry
        else:
            problems.append(CocoProblem("entry", f"entry {number} of {what}, {entry!r:.80}"))


def _draw(annotation: Annotation, shape: Shape) -> np.ndarray:
    try:
        return draw_segmentation(json.loads(annotation.text), shape)
    except OtherSizeError as error:
        raise OtherSizeError(f"annotation {annotation.number:.40}: {error}") from None
    except ValueError as error:
        raise ValueError(f"annotation {annotation.number:.40}: {error}") from None


def draw_segmentation(segmentation: Any, shape: Shape) -> np.ndarray:
    """Draw the polygons or the run lengths of an annotation.

    Everything is checked before pycocotools sees it, which reads what is not there, or ends the process, when a polygon
    is too short.

    Parameters
    ----------
    segmentation : a list of polygons, x and y in turns, or a mapping with `size` and `counts`, a list or text.
    shape : (height, width) of the image.

    Returns
    -------
    uint8 (height, width) of 0 and 1.

    Raises
    ------
    OtherSizeError : if run lengths are of an image of another size.
    ValueError : saying what else is wrong.

    Examples
    --------
    >>> draw_segmentation({"size": [2, 3], "counts": [1, 2, 3]}, (2, 3))
    array([[0, 1, 0],
           [1, 0, 0]], dtype=uint8)
    """
    if isinstance(segmentation, dict):
        return _draw_runs(segmentation, shape)
    if not isinstance(segmentation, list) or not segmentation:
        raise ValueError(f"expected polygons or run lengths, got {segmentation!r:.40}")
    return _draw_polygons(segmentation, shape)


def _draw_polygons(polygons: Sequence[Any], shape: Shape) -> np.ndarray:
    from pycocotools import mask as coco  # a package that only these labels need

    height, width = shape
    for number, polygon in enumerate(polygons, 1):
        if not (isinstance(polygon, list) and all(map(_is_number, polygon))):
            raise ValueError(f"expected a list of numbers as polygon {number}, got {polygon!r:.40}")
        if len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(
                f"expected x and y of three corners or more, got {len(polygon)} numbers in polygon {number}"
            )
        x, y = polygon[::2], polygon[1::2]
        if not _is_inside(x, y, shape):
            hint = "; are x and y, or height and width, swapped?" if _is_inside(y, x, shape) else ""
            reach = f"x {min(x):g} to {max(x):g}, y {min(y):g} to {max(y):g}"
            raise ValueError(f"polygon {number} reaches outside of the image ({reach}){hint}")
    return coco.decode(coco.merge(coco.frPyObjects(polygons, height, width)))


def _is_inside(x: Sequence[float], y: Sequence[float], shape: Shape) -> bool:
    height, width = shape
    return min(*x, *y) >= -MARGIN and max(x) <= width + MARGIN and max(y) <= height + MARGIN


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _draw_runs(segmentation: Mapping[str, Any], shape: Shape) -> np.ndarray:
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if not (isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) for side in size)):
        raise ValueError(f"expected the size [height, width] of run lengths, got {size!r:.40}")
    if tuple(size) != shape:
        swapped = "; are its axes swapped?" if tuple(size[::-1]) == shape else ""
        raise OtherSizeError(f"its run lengths are of {size[0]}x{size[1]}{swapped}")
    if isinstance(counts, str):
        counts = unpacked_counts(counts)
    if not (isinstance(counts, list) and all(isinstance(count, int) and count >= 0 for count in counts)):
        raise ValueError(f"expected the counts of run lengths, got {counts!r:.40}")
    if sum(counts) != math.prod(shape):
        raise ValueError(f"run lengths of {sum(counts)} pixels, and the image has {math.prod(shape)}")
    values = np.arange(len(counts), dtype=np.uint32) % 2
    return np.repeat(values.astype(np.uint8), counts).reshape(shape, order="F")


def unpacked_counts(text: str) -> list[int]:
    """Return the counts that a text of COCO's compressed run lengths means: five bits a character, lowest first.

    From the fourth on, each is given by its difference from the one two before.

    Raises
    ------
    ValueError : if it is no such text.

    Examples
    --------
    >>> unpacked_counts("123")
    [1, 2, 3]
    """
    counts: list[int] = []
    number = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError(f"{text!r:.40} is no text of compressed run lengths")
        number |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            number -= (bits & 16) << (shift - 4)  # the sign
            counts.append(number + (counts[-2] if len(counts) > 2 else 0))
            number = shift = 0
    if shift:
        raise ValueError(f"{text!r:.40} breaks off within a number")
    return counts
