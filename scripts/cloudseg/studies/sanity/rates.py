"""How many masks to expect in a test set when training's are known, and whether a number is far from that.

A count of test images is expected to be beta-binomial: the rate of the class is not known, only how many of the
training images have it (Jeffreys' prior), and the test images are a sample of their own. The interval is hence that of
the next sample (a prediction interval), which is wider than that of the rate.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln, stdtr, stdtrit

CONFIDENCE = 0.95
"""Share of test sets like the training set whose count lies in the interval."""

# A network's masks are not the truth, and thresholds that score best may well leave out a third of the masks; so a
# difference must be large, not only surely there. Odds multiply by 18 from 5.9 % to 53 %.
WARNING_ODDS, FAULT_ODDS = 2.5, 8.0
WARNING_CHANCE, FAULT_CHANCE = 1e-3, 1e-6


@dataclass(frozen=True)
class Expected:
    """A count beside what is to be expected of it.

    Parameters
    ----------
    trained, of_trained : training images with the class, of how many.
    count, of : rows of the submission with a mask, of how many.
    low, high : share of rows, the interval of the next sample.
    chance : of a count at least as far off, on either side.
    """

    trained: float
    of_trained: int
    count: int
    of: int
    low: float
    high: float
    chance: float

    @property
    def rate(self) -> float:
        """The share in the submission."""
        return self.count / self.of if self.of else math.nan

    @property
    def trained_rate(self) -> float:
        """The share in training."""
        return self.trained / self.of_trained if self.of_trained else math.nan

    @property
    def odds(self) -> float:
        """By how much the odds differ, at least 1."""
        ours = (self.count + 0.5) / (self.of - self.count + 0.5)
        theirs = (self.trained + 0.5) / (self.of_trained - self.trained + 0.5)
        return max(ours / theirs, theirs / ours)

    @property
    def is_fault(self) -> bool:
        """Whether nobody can mean it."""
        return self.odds > FAULT_ODDS and self.chance < FAULT_CHANCE

    @property
    def is_odd(self) -> bool:
        """Whether a person should look."""
        return self.odds > WARNING_ODDS and self.chance < WARNING_CHANCE


def expect_count(trained: int, of_trained: int, count: int, of: int) -> Expected:
    """Hold a count of a submission against that of training.

    Examples
    --------
    >>> found = expect_count(54, 100, 16, 30)
    >>> round(found.low, 2), round(found.high, 2), found.is_odd
    (0.33, 0.73, False)
    >>> expect_count(3600, 5546, 0, 3698).is_fault
    True
    """
    likely = _beta_binomial(trained + 0.5, of_trained - trained + 0.5, of)
    below = np.cumsum(likely)
    low, high = np.searchsorted(below, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    chance = min(1.0, 2 * min(float(likely[: count + 1].sum()), float(likely[count:].sum())))
    return Expected(trained, of_trained, count, of, int(low) / max(of, 1), min(int(high), of) / max(of, 1), chance)


def _beta_binomial(a: float, b: float, count: int) -> np.ndarray:
    """Return the probabilities of 0 to `count`."""
    k = np.arange(count + 1)
    choose = gammaln(count + 1) - gammaln(k + 1) - gammaln(count - k + 1)
    beta = gammaln(k + a) + gammaln(count - k + b) - gammaln(count + a + b)
    return np.exp(choose + beta - gammaln(a) - gammaln(b) + gammaln(a + b))


def expect_mean(
    trained: Sequence[float], found: Sequence[float], least_spread: float = 1e-9
) -> tuple[float, float, float]:
    """Hold a mean of a submission against that of training, by Student's t.

    Parameters
    ----------
    trained, found : one number per image; both may be empty.
    least_spread : standard deviation that is assumed at least.

    Returns
    -------
    low, high, chance : the interval of the mean of the next sample of this size, and the chance of one as far off; NaN
        and 1 where fewer than two numbers say nothing.

    Examples
    --------
    >>> low, high, chance = expect_mean([0.1, 0.2, 0.3, 0.2], [0.9, 0.9])
    >>> round(low, 2), round(high, 2), chance < 0.01
    (-0.03, 0.43, True)
    """
    n, m = len(trained), len(found)
    if n < 2 or m < 1:
        return math.nan, math.nan, 1.0
    mean, spread = float(np.mean(trained)), float(np.std(trained, ddof=1))
    error = max(spread, least_spread) * math.sqrt(1 / n + 1 / m)
    reach = _student_quantile(n - 1) * error
    chance = 2 * float(stdtr(n - 1, -abs(float(np.mean(found)) - mean) / error))
    return mean - reach, mean + reach, chance


def _student_quantile(freedom: int) -> float:
    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))
