"""Where the rows of images and classes are in a label table, as numbers: 31 bytes a row, where objects take 400."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

_ROW = np.dtype([("image", "i4"), ("label", "i2"), ("line", "i8"), ("start", "i8"), ("stop", "i8"), ("empty", "?")])


class Place(NamedTuple):
    """Where a row is: the line at which it begins, from 1, its bytes in the file, and whether its text is empty."""

    line: int
    start: int
    stop: int
    empty: bool


class LabelRows:
    """The rows of a table by image and class.

    Parameters
    ----------
    names : of the images, each once.
    classes : names of the classes, each once.
    found : image, class and place of each row, in the order of the table; others than these are left out.

    Examples
    --------
    >>> rows = [("b.jpg", "Fish", Place(2, 27, 38, False)), ("b.jpg", "Fish", Place(3, 38, 50, True))]
    >>> LabelRows(["a.jpg", "b.jpg"], ["Fish"], rows).of("b.jpg")
    {'Fish': [Place(line=2, start=27, stop=38, empty=False), Place(line=3, start=38, stop=50, empty=True)]}
    """

    word = "row"

    def __init__(
        self, names: Iterable[str], classes: Sequence[str], found: Iterable[tuple[str, str, Place]] = ()
    ) -> None:
        self._number_of = {name: number for number, name in enumerate(names)}
        self.classes = list(classes)
        label_of = {label: number for number, label in enumerate(self.classes)}
        rows = np.fromiter(
            (
                (self._number_of[image], label_of[label], *place)
                for image, label, place in found
                if image in self._number_of and label in label_of
            ),
            _ROW,
        )
        self._rows = rows[np.lexsort((rows["line"], rows["label"], rows["image"]))]
        self._first = np.searchsorted(self._rows["image"], np.arange(len(self._number_of) + 1))

    def __len__(self) -> int:
        return len(self._rows)

    def of(self, image: str) -> dict[str, list[Place]]:
        """Return the rows of an image by class, in the order of the classes; none of an image that is not known."""
        number = self._number_of.get(image)
        places: dict[str, list[Place]] = {}
        for _, label, *place in () if number is None else self._of(number).tolist():
            places.setdefault(self.classes[label], []).append(Place(*place))
        return places

    def _of(self, number: int) -> np.ndarray:
        return self._rows[self._first[number] : self._first[number + 1]]

    @property
    def any_empty(self) -> bool:
        """Whether the text of any row is empty."""
        return bool(self._rows["empty"].any())

    def several(self) -> Iterable[tuple[str, str, list[Place]]]:
        """Yield image, class and rows where these are several, in the order of the images and then of the lines."""
        rows = self._rows
        again = (rows["image"][1:] == rows["image"][:-1]) & (rows["label"][1:] == rows["label"][:-1])
        wanted = set(rows["image"][1:][again].tolist())
        for image in (name for name, number in self._number_of.items() if number in wanted):
            for label, places in sorted(self.of(image).items(), key=lambda each: each[1][0].line):
                if len(places) > 1:
                    yield image, label, places

    def lacking(self) -> Iterator[tuple[str, list[str]]]:
        """Yield each image that lacks a row of a class, and these classes."""
        has = np.zeros((len(self._number_of), len(self.classes)), bool)
        has[self._rows["image"], self._rows["label"]] = True
        complete = has.all(axis=1)
        for image, number in self._number_of.items():
            if not complete[number]:
                yield image, [label for label, there in zip(self.classes, has[number], strict=True) if not there]

    def without(self, left_out: Iterable[str]) -> Self:
        """Return those of the other images."""
        out = set(left_out)
        if not out & self._number_of.keys():
            return self
        names = [name for name in self._number_of if name not in out]
        return type(self)(names, self.classes, self._all())

    def _all(self) -> Iterable[tuple[str, str, Any]]:
        for image in self._number_of:
            for label, places in self.of(image).items():
                yield from ((image, label, place) for place in places)
