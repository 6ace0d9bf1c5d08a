"""Hold the masks of a submission against those of training, and say in words what is far off."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cloudseg.studies.sanity import findings as kinds
from cloudseg.studies.sanity.findings import Findings, Kind
from cloudseg.studies.sanity.measuring import column_height
from cloudseg.studies.sanity.rates import Expected, expect_count, expect_mean
from cloudseg.studies.sanity.submission import Submission
from cloudseg.studies.sanity.training import Training

EVERYTHING = 0.98  # share of the grid from which a mask covers almost everything
MANY = 0.05  # share of the masks that are many
VANISHED_CHANCE = 1e-4
AREA_RATIO, AREA_CHANCE = 1.75, 1e-4  # of a warning: geometric means
AREA_FAULT_RATIO, AREA_FAULT_CHANCE = 4.0, 1e-6
PIECES_RATIO = 2.0
BROKEN_SHAPES = 0.8  # share of joined pixels below which masks are no shapes
SAME_HEIGHT = 0.03  # slanting shapes go on a little earlier or later than a column is high
PLACEHOLDER = "1 1"


@dataclass(frozen=True)
class Areas:
    """The areas of the masks of a class beside those of training.

    Parameters
    ----------
    trained, found : geometric means of the shares of the grid; NaN without a mask.
    low, high : the interval of that of the next sample of this size.
    chance : of one at least as far off.
    """

    trained: float
    found: float
    low: float
    high: float
    chance: float

    @property
    def ratio(self) -> float:
        """By how much they differ, at least 1; NaN where one has no mask."""
        return max(self.found / self.trained, self.trained / self.found)


def class_rates(submission: Submission, training: Training) -> list[Expected]:
    """Return per class how many rows have a mask, beside what is to be expected."""
    numbers = submission.rows["class"].to_numpy(int)
    filled = submission.filled["class"].to_numpy(int)
    return [
        expect_count(
            int(training.present[:, number].sum()),
            training.images,
            int((filled == number).sum()),
            int((numbers == number).sum()),
        )
        for number in range(len(training.classes))
    ]


def whole_rate(submission: Submission, training: Training) -> Expected:
    """Return how many of all rows have a mask, beside what is to be expected; rows of an image are drawn together."""
    of_trained = training.present.size
    trained = int(training.present.sum())
    rate = (trained + 0.5) / (of_trained + 1)
    least_spread = 0.5 * math.sqrt(rate * (1 - rate) / len(training.classes))
    has = submission.rows["given"].groupby(submission.rows["image"]).mean()
    low, high, chance = expect_mean(training.present.mean(axis=1), has, least_spread)
    filled = len(submission.filled)
    return Expected(trained, of_trained, filled, len(submission.rows), max(low, 0.0), min(high, 1.0), chance)


def class_areas(submission: Submission, training: Training) -> list[Areas]:
    """Return per class how large its masks are, beside what is to be expected."""
    return [_areas(training.shares_of(number), submission.shares_of(number)) for number in range(len(training.classes))]


def _areas(trained: np.ndarray, found: np.ndarray) -> Areas:
    low, high, chance = expect_mean(np.log(trained), np.log(found), least_spread=0.1)
    means = [math.exp(np.log(shares).mean()) if len(shares) else math.nan for shares in (trained, found)]
    return Areas(*means, math.exp(low), math.exp(high), chance)


def judge(submission: Submission, training: Training, found: Findings, *, own: bool) -> None:
    """Note what is far from training.

    Parameters
    ----------
    submission, training : what was read.
    found : gets what is far off.
    own : whether the submission must have no component below the minimum sizes of its decision.
    """
    if submission.rows.empty:
        return
    if _is_placeholder(submission, found):
        return
    _judge_rates(submission, training, found)
    masks = submission.masks
    # Of masks that are read in a wrong order neither areas nor pieces tell anything
    if not _is_misread(submission, found) and len(masks):
        _judge_areas(submission, training, found)
        _judge_covering(masks, submission, training, found)
        _judge_identical(masks, training, found)
        _judge_pieces(masks, submission, training, found, own=own)


def _is_placeholder(submission: Submission, found: Findings) -> bool:
    """Note the sample submission itself, of which nothing else need be said."""
    filled = submission.filled
    alike = len(filled) and (filled["text"] == hash(PLACEHOLDER)).mean() > 0.5
    if alike:
        line = int(filled["line"].iloc[0])
        found.add(kinds.PLACEHOLDER, f"{len(filled):,} rows say {PLACEHOLDER!r}", line)
    return bool(alike)


def _judge_rates(submission: Submission, training: Training, found: Findings) -> None:
    for name, rate in zip(training.classes, class_rates(submission, training), strict=True):
        if not rate.of:
            continue
        if not rate.trained:
            if rate.count:
                found.add(kinds.NEVER_TRAINED, f"{name}: {rate.count:,} rows have a mask, and no training image")
        elif not rate.count and rate.chance < VANISHED_CHANCE:
            found.add(kinds.VANISHED, f"{name}: {_rate_words(rate)}")
        elif kind := _off(rate):
            found.add(kind, f"{name}: {_rate_words(rate)}")
    rate = whole_rate(submission, training)
    if len(training.classes) > 1 and (kind := _off(rate)):
        found.add(kind, f"all classes: {_rate_words(rate)}")
    elif rate.trained and not rate.count and not found.has(kinds.VANISHED):
        # Of a few test images chance may have it so, but a person should know
        found.add(kinds.NO_MASK, f"all classes: {_rate_words(rate)}")


def _off(rate: Expected) -> Kind | None:
    return kinds.RATE_OFF if rate.is_fault else kinds.RATE if rate.is_odd else None


def _rate_words(rate: Expected) -> str:
    return (
        f"{rate.count:,} of {rate.of:,} rows have a mask, {_percent(rate.rate)}; training has "
        f"{_percent(rate.trained_rate)}, so {_percent(rate.low)} to {_percent(rate.high)} is to be expected"
    )


def _judge_areas(submission: Submission, training: Training, found: Findings) -> None:
    for name, areas in zip(training.classes, class_areas(submission, training), strict=True):
        if areas.ratio > AREA_FAULT_RATIO and areas.chance < AREA_FAULT_CHANCE:
            kind = kinds.AREA_OFF
        elif areas.ratio > AREA_RATIO and areas.chance < AREA_CHANCE:
            kind = kinds.AREA
        else:
            continue
        found.add(
            kind,
            f"{name}: a mask covers {_percent(areas.found)} of the image (geometric mean); in training "
            f"{_percent(areas.trained)}, so {_percent(areas.low)} to {_percent(areas.high)} is to be expected",
        )


def _is_misread(submission: Submission, found: Findings) -> bool:
    """Note masks that are no shapes as they are read, if they are as counted in another order; else say nothing."""
    pixels = int(np.prod(submission.form.grid))
    some = submission.rows[submission.rows["area"].between(1, 0.9 * pixels)]
    if some.empty or np.average(some["joined"], weights=some["area"]) >= BROKEN_SHAPES:
        return False
    height, width = submission.form.grid
    counted = column_height(submission.texts, pixels)
    if counted is None or abs(counted - height) <= SAME_HEIGHT * height:
        return False
    kind, what = (kinds.ALONG_ROWS, ", the length of a row") if counted == width else (kinds.OTHER_GRID, "")
    got = f"the runs go on after {counted} pixels{what}, and not after {height}, the height of a column"
    found.add(kind, got, int(some["line"].iloc[0]))
    return True


def _judge_covering(masks: pd.DataFrame, submission: Submission, training: Training, found: Findings) -> None:
    whole = masks["area"] >= EVERYTHING * np.prod(submission.form.grid)
    trained = training.shares[training.present] >= EVERYTHING
    rate = expect_count(int(trained.sum()), len(trained), int(whole.sum()), len(masks))
    if rate.rate > rate.high and rate.is_odd:
        kind = kinds.COVERING if rate.rate > MANY else kinds.COVERING_SOME
        got = f"{rate.count:,} of {rate.of:,} masks cover {EVERYTHING:.0%} of the image or more"
        found.add(kind, f"{got}; in training {_percent(rate.trained_rate)} do", int(masks["line"][whole].iloc[0]))


def _judge_identical(masks: pd.DataFrame, training: Training, found: Findings) -> None:
    same = masks["text"].duplicated(keep=False)
    trained = training.masks
    rate = expect_count(int(trained["same"].sum()), len(trained), int(same.sum()), len(masks))
    if rate.rate > rate.high and rate.is_odd:
        commonest = masks["text"][same].value_counts()
        first = int(masks.loc[masks["text"] == commonest.index[0], "line"].iloc[0])
        kind = kinds.IDENTICAL if rate.rate > 2 * MANY else kinds.IDENTICAL_SOME
        got = (
            f"{rate.count:,} of {rate.of:,} masks are equal to that of another row; one stands in {commonest.iloc[0]:,}"
        )
        found.add(kind, f"{got} rows, here for the first time", first)


def _judge_pieces(
    masks: pd.DataFrame, submission: Submission, training: Training, found: Findings, *, own: bool
) -> None:
    small, trained = masks[masks["small"] > 0], training.masks
    if own and len(small):
        found.add(kinds.TOO_SMALL_OWN, _small_words(small, submission), int(small["line"].iloc[0]))
        return
    rate = expect_count(int((trained["small"] > 0).sum()), len(trained), len(small), len(masks))
    if rate.rate > rate.high and rate.is_odd:
        found.add(kinds.TOO_SMALL, _small_words(small, submission), int(small["line"].iloc[0]))
    low, high, chance = expect_mean(*map(_log_pieces, (trained, masks)), least_spread=0.1)
    theirs, ours = (float(np.exp(_log_pieces(table).mean())) for table in (trained, masks))
    if ours > PIECES_RATIO * theirs and chance < AREA_CHANCE:
        got = f"a mask has {ours:.1f} components (geometric mean); in training {theirs:.1f}"
        found.add(kinds.FRAGMENTS, f"{got}, so {math.exp(low):.1f} to {math.exp(high):.1f} are to be expected")


def _log_pieces(masks: pd.DataFrame) -> np.ndarray:
    return np.log(masks["components"].to_numpy(float))


def _small_words(small: pd.DataFrame, submission: Submission) -> str:
    least: Sequence[int] = sorted(set(submission.form.min_sizes))
    sizes = f"{least[0]:,}" if len(least) == 1 else f"{least[0]:,} to {least[-1]:,}, by class"
    return (
        f"{len(small):,} masks have components below the minimum size ({sizes} pixels); "
        f"the smallest has {int(small['smallest'].min()):,}"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
