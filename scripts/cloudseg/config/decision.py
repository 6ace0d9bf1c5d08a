"""The keys of a decision: how the probabilities of an ensemble become masks."""

import math
from fractions import Fraction
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from cloudseg.config.fields import (
    BY_FORM,
    Bool,
    FrozenDict,
    Model,
    Pattern,
    Positive,
    Scalar,
    Share,
    expected,
    left_out,
)

# One number for all classes, one for each in their order, or one for each by its name
Value = TypeVar("Value")
PerClass = (
    Annotated[Value, Tag("<number>")]
    | Annotated[tuple[Value, ...], Tag("<array>")]
    | Annotated[FrozenDict[str, Value], Tag("<object>")]
)
Threshold = Annotated[float, Scalar(ge=0.001, le=1, hint="every pixel has a probability of 0 or more")]
Thresholds = Annotated[
    PerClass[Threshold],
    BY_FORM,
    expected("a number from 0.001 to 1, or one per class, such as 0.5, [0.5, 0.4] or {Fish: 0.5, Flower: 0.4}"),
]
PERCENT = r"(100(\.0*)?|[0-9]{1,2}(\.[0-9]+)?)%"
PIXELS_IN_WORDS = "a whole number of pixels or a share of the plane, such as 17500 or 9.5%"
Whole = Annotated[Annotated[int, Scalar(ge=0, le=2_000_000_000)], Tag("<number>")]
Percent = Annotated[Annotated[str, Pattern(PERCENT, PIXELS_IN_WORDS)], Tag("<string>")]
Area = Annotated[Whole | Percent, BY_FORM, expected(PIXELS_IN_WORDS)]
Areas = Annotated[
    Whole | Percent | Annotated[tuple[Area, ...], Tag("<array>")] | Annotated[FrozenDict[str, Area], Tag("<object>")],
    BY_FORM,
    expected(
        "a whole number of pixels, a share of the plane, or one per class, such as 5000, 2.5%, [5000, 0] or "
        "{Fish: 2.5%, Flower: 0}"
    ),
]


def _as_text(value: Any) -> Any:
    """Return a whole number as text, which a share of the plane is, too."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Pixels = Annotated[
    str,
    Pattern(rf"[1-9][0-9]{{0,9}}|{PERCENT}", PIXELS_IN_WORDS),
    BeforeValidator(_as_text, json_schema_input_type=int | str),
    expected(PIXELS_IN_WORDS),
]


def pixels_of(area: int | str, plane: int, least: int = 0) -> int:
    """Return the pixels that a number or a share means on a plane of so many pixels, halves rounded up.

    Parameters
    ----------
    area : such as 17500 or 9.5%.
    plane : its pixels.
    least : what a share means at least.

    Examples
    --------
    >>> pixels_of("17500", 183750), pixels_of(5000, 100), pixels_of("9.5%", 183750), pixels_of("0.4%", 100)
    (17500, 5000, 17456, 0)
    """
    percent = str(area).removesuffix("%")
    if percent == str(area):
        return int(area)
    return max(least, math.floor(Fraction(percent) * plane / 100 + Fraction(1, 2)))


class PlaneScoreEntry(Model):
    """What tells whether a class is there: one number of its plane, exactly one of these keys."""

    top: Pixels = left_out()
    """Mean of the largest pixels, so many of them or such a share of the plane: `{top: 17500}`, `{top: 9.5%}`. The
    largest pixel is `{top: 1}`, or the word `largest`.
    """
    percentile: Annotated[float, Scalar(ge=0, le=100)] = left_out()
    """The pixel that such a part of the plane, in percent, does not exceed."""
    area: Threshold = left_out()
    """Share of the plane that has this probability or more."""

    @model_validator(mode="after")
    def _require_one(self) -> "PlaneScoreEntry":
        given = [name for name, value in self if value is not None]
        if len(given) != 1:
            words = "exactly one of top, percentile and area, such as {top: 9.5%}, or the word largest"
            raise PydanticCustomError("expected", "expected {expected}", {"expected": words})
        return self


LARGEST = "largest"


def _score(value: Any) -> Any:
    """Return the word for the largest pixel as the score that it means."""
    return {"top": "1"} if value == LARGEST else value


def _scores(value: Any) -> Any:
    """Return a score alone as a list of one."""
    return [value] if isinstance(value, str | dict) and value else value


OneScore = Annotated[
    PlaneScoreEntry,
    BeforeValidator(_score, json_schema_input_type=Literal["largest"] | PlaneScoreEntry),
    expected("a score such as {top: 9.5%}, {percentile: 95} or {area: 0.6}, or the word largest"),
]
ListOfScores = Annotated[tuple[OneScore, ...], Field(min_length=1)]
Scores = Annotated[
    ListOfScores,
    BeforeValidator(_scores, json_schema_input_type=Literal["largest"] | PlaneScoreEntry | ListOfScores),
    expected("a score such as {top: 9.5%}, {percentile: 95}, {area: 0.6} or largest, or a list of them"),
]


class PresenceEntry(Model):
    """When a plane counts at all."""

    score: Scores
    """What tells whether a class is there; a list, where `how: tune` is to choose one."""
    threshold: (
        Annotated[
            PerClass[Share],
            BY_FORM,
            expected("a number from 0 to 1, or one per class, such as 0.7, [0.7, 0.6] or {Fish: 0.7, Flower: 0.6}"),
        ]
        | None
    ) = None
    """A plane counts from this score on, one number or one per class; `how: tune` chooses it where it is left out. Of
    `top` and `percentile` it is a probability, as `threshold` is, of `area` a share of the plane.
    """
    classifiers: Positive | None = None
    """How much the mean of the classification heads of `whether` members weighs beside the score, which weighs 1, such
    as the number of heads; null leaves them out.
    """


class PlaneMinEntry(Model):
    """How much of a plane must be sure for it to count."""

    level: Thresholds
    """The probability of a pixel that is sure, one number or one per class; not below `threshold`."""
    area: Areas
    """How many pixels must be, or which share of the plane, one for all or one per class."""


TUNE = Literal["tune"]


class DecisionEntry(Model):
    """How probabilities become masks: first whether a class is there, then where."""

    how: Literal["fixed", "grid", "tune", "rate", "expected"] = "fixed"
    """`fixed` takes the numbers below. The others choose per class on the out-of-fold images: `grid` the best of 20
    thresholds and 5 minimum sizes, as contest notebooks do; `tune` a stable optimum of all 256 levels and `min_sizes`,
    and of what is left open below; `rate` the threshold at which as many images have a mask as `rates` say; `expected`
    a threshold for each plane by its score of presence, where a mask is expected to score more than none.
    """
    threshold: Thresholds = 0.5
    """A pixel is in from this probability on, also where a blend is sharpened (but see `sharpened`); one number or one
    per class.
    """
    sharpened: Positive | None = None
    """The power of p that `threshold` is given for, where it is not given for p itself: `{threshold: 0.7, sharpened:
    0.5}` is 0.7 of p^0.5, as the diary writes it, and 0.49 of p. It counts for all probabilities of the decision.
    """
    min_size: Areas | None = None
    """Smallest area of a component that stays, in pixels of the submission grid or as a share of it (`2%`); one for all
    or one per class. `2.7211%` for `demo` and `kaggle`, which are 5000 pixels of 350x525, and 0 for `source: path`.
    """
    presence: PresenceEntry | None = None
    """When a plane counts at all, by a score; the mask of one that does not is empty."""
    best: Literal["never", "always", "if_empty"] | None = None
    """Whether the class with the highest score of an image counts as present: `never` for that reason alone, which is
    the default, `always`, or `if_empty`, where no class of the image is present.
    """
    plane_min: (
        Annotated[
            Annotated[TUNE, Tag("<string>")] | Annotated[PlaneMinEntry, Tag("<object>")],
            BY_FORM,
            expected("{level: ..., area: ...}, such as {level: 0.65, area: 10000}, or tune"),
        ]
        | None
    ) = None
    """A plane counts if so many pixels are sure, as the triplet of the contest's notebooks has it; `tune` chooses."""
    high: (
        Annotated[
            Annotated[TUNE, Tag("<string>")] | PerClass[Threshold],
            BY_FORM,
            expected("a number from 0.001 to 1, one per class, such as 0.7 or {Fish: 0.7, Flower: 0.6}, or tune"),
        ]
        | None
    ) = None
    """A component stays if one of its pixels has this probability (hysteresis), not below `threshold`; one number, one
    per class, or `tune` to choose it.
    """
    fill_holes: Bool | None = None
    """Fill the holes of what stays, last of all. Choices are made without it, and scored with it."""
    black: Annotated[int, Scalar(ge=0, le=254, hint="at 255 every pixel is black")] | None = None
    """Set probabilities to 0 where the image is black, its grey value being at most this of 255: a satellite's swath
    has edges. It is done when members are blended.
    """
    rates: (
        Annotated[
            Annotated[Literal["training"], Tag("<string>")] | PerClass[Share],
            BY_FORM,
            expected("training, a share from 0 to 1, or one per class, such as {Fish: 0.5, Flower: 0.4}"),
        ]
        | None
    ) = None
    """For `how: rate`, the share of images that have a mask, one number or one per class; `training`, the default, is
    that of the labels.
    """
    rate_of: Literal["images", "pixels"] | None = None
    """Whether `rates` are shares of images that have a mask, the default, or of pixels at or above the threshold."""
