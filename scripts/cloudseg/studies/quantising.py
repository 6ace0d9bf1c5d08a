"""Measure what it costs to store probabilities as bytes: rounded, as here, or truncated, as in the reference.

A mask at level v holds the pixels of p >= v / 255. Truncation keeps exactly these, since floor(255 p) >= v says the
same; rounding keeps all from half a level below. Between levels it is the other way round: for a threshold t the
deciding level is the next whole one above 255 t, on average half a level too high, which rounding makes up for and
truncation does not. Both are therefore compared at every level and at every hundredth. In a blend every truncated
member is too low by half a level on average, and so is their mean, however many there are.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from cloudseg.config.recipe import Recipe
from cloudseg.config.reference import Reference
from cloudseg.config.views import FLIPS
from cloudseg.ensemble.truth import truth_rows
from cloudseg.inference.images import StoredImages
from cloudseg.inference.predictor import Predictor
from cloudseg.models.probabilities import quantise
from cloudseg.postprocess import blend, dice_sums, level
from cloudseg.runtime import devices
from cloudseg.runtime.job_progress import counted
from cloudseg.storage import per_image, stores

HUNDREDTHS = np.arange(1, 100)
REFERENCE = Reference.read()


@dataclasses.dataclass
class Tally:
    """Sums over images of what float probabilities and their two kinds of bytes score, and of the bytes' errors.

    Parameters
    ----------
    classes : how many planes an image has.

    Examples
    --------
    >>> tally = Tally(1)
    >>> p = np.array([[[0.5, 0.75]]], np.float32)
    >>> tally.add(p, rounded=np.array([[[128, 191]]], np.uint8), truncated=truncate(p), truth=np.uint8([[[1, 0]]]))
    >>> round(tally.errors()["truncated"][0] * 255, 6)  # 127.5 and 191.25 became 127 and 191
    0.375
    """

    classes: int

    def __post_init__(self) -> None:
        """Begin with no image."""
        self.images = self.pixels = 0
        self.dice = {way: np.zeros((self.classes, 256)) for way in ("float", "rounded", "truncated", "hundredths")}
        self._errors = {way: np.zeros(2) for way in ("rounded", "truncated")}
        self._moments = np.zeros(2)

    def add(self, p: np.ndarray, *, rounded: np.ndarray, truncated: np.ndarray, truth: np.ndarray) -> None:
        """Add an image.

        Parameters
        ----------
        p : (class, y, x) float probabilities.
        rounded, truncated : (class, y, x) uint8, what is kept of them.
        truth : (class, y, x) uint8 0/1.
        """
        p = p.astype(np.float64)  # in which 255 times a float32 is exact
        reached = {
            "float": _floor(255 * p),  # the highest level v with p >= v / 255
            "rounded": rounded,
            "truncated": truncated,
            "hundredths": _floor(100 * p),
        }
        for way, values in reached.items():
            self.dice[way] += dice_sums(values[None], truth[None], [0], [0])[0][0, :, :, 0]
        for way, sums in self._errors.items():
            error = p - reached[way] / 255
            sums += error.sum(), np.square(error).sum()
        self._moments += p.sum(), np.square(p).sum()
        self.images += 1
        self.pixels += p.size

    def variance(self) -> float:
        """Return the variance of the float probabilities over all pixels."""
        return _mean_and_variance(self._moments / self.pixels)[1]

    def errors(self) -> dict[str, tuple[float, float]]:
        """Return mean and variance of p - byte / 255 for `rounded` and `truncated`."""
        return {way: _mean_and_variance(sums / self.pixels) for way, sums in self._errors.items()}

    def at_levels(self) -> dict[str, np.ndarray]:
        """Return mean Dice (class, 255) at the levels 1 to 255 for `float`, `rounded` and `truncated`."""
        return {way: self.dice[way][:, 1:] / self.images for way in ("float", "rounded", "truncated")}

    def at_hundredths(self) -> dict[str, np.ndarray]:
        """Return mean Dice (class, 99) at the thresholds 0.01 to 0.99 for `float`, `rounded` and `truncated`."""
        levels = [level(number / 100) for number in HUNDREDTHS]
        kept = {way: self.dice[way][:, levels] / self.images for way in ("rounded", "truncated")}
        return {"float": self.dice["hundredths"][:, HUNDREDTHS] / self.images, **kept}


def _floor(values: np.ndarray) -> np.ndarray:
    return np.clip(np.floor(values), 0, 255).astype(np.uint8)


def _mean_and_variance(moments: np.ndarray) -> tuple[float, float]:
    mean, square = moments.tolist()
    return mean, square - mean**2


def truncate(p: np.ndarray) -> np.ndarray:
    """Return float32 probabilities as truncated bytes, `(probability*255).astype(np.uint8)`.

    Examples
    --------
    >>> truncate(np.array([0, 0.5, 0.7, 1], np.float32))
    array([  0, 127, 178, 255], dtype=uint8)
    """
    return np.clip(p * np.float32(255), 0, 255).astype(np.uint8)


def study(
    *,
    checkpoint: str | Path,
    pixels: str | Path,
    folds: str | Path,
    fold: int,
    truth: str | Path,
    recipe: Recipe,
    size: tuple[int, int],
    threads: int = 1,
    device: str | torch.device = "cpu",
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare the bytes of one network's validation probabilities with the float32 that they are made from.

    Parameters
    ----------
    checkpoint : file written by :func:`cloudseg.training.train.train`.
    pixels : pixel store of the size that the network was trained at.
    folds : table with the columns ``image`` and ``fold``.
    fold : the one that the network validates on.
    truth : store (image, class, y, x) uint8 0/1 at submission size with the attribute ``ids``.
    recipe : ``tta``, ``normalise``, ``precision`` and ``batch`` count, as in prediction.
    size : height and width of the submission grid.
    threads : numerical threads.
    device : where to compute.

    Returns
    -------
    curves : what, class, level (1 to 255), dice_float, dice_rounded, dice_truncated: mean Dice over the images,
        without a minimum size; the class ``all`` is the mean over classes. ``what`` is the ``network``, or the
        ``blend`` of its four flips, each of which was kept as bytes, blended and kept as bytes again.
    summary : what, way (rounded, truncated), mean_error and variance_of_error (of p - byte / 255),
        largest_at_levels, its level, and mean_at_levels (absolute difference of a class's Dice from float32),
        largest_at_hundredths, its hundredth, and mean_at_hundredths (the same at the thresholds 0.01 to 0.99),
        variance (of the probabilities), images.

    Raises
    ------
    UserError : if the checkpoint is of other classes than the pixels, or an image has no truth.
    """
    device = torch.device(device)
    devices.set_determinism(threads, device)
    images = StoredImages.of_fold(pixels, folds, fold)
    true_masks = stores.read(truth)
    rows = truth_rows(images.ids, per_image.ids(true_masks), of=f"fold {fold}", truth=truth)
    predictor = Predictor(checkpoint, recipe, size=size, device=device, classes=images.classes)
    tallies = {"network": Tally(len(images.classes)), "blend": Tally(len(images.classes))}
    starts = range(0, len(images), recipe.batch)
    for start in counted(starts, len(starts), "batches"):
        chosen = range(start, min(start + recipe.batch, len(images)))
        block = images.read(chosen)
        network = predictor.probabilities(block).cpu()
        members = torch.stack([predictor.probabilities(block, [flip]).cpu() for flip in FLIPS])
        for number, row in enumerate(rows[start : chosen.stop]):
            true_mask = stores.read_images(true_masks, slice(row, row + 1))[0]
            tallies["network"].add(network[number].numpy(), **_kept(network[number]), truth=true_mask)
            flips = members[:, number]
            tallies["blend"].add(flips.double().mean(dim=0).numpy(), **_kept_blend(flips), truth=true_mask)
    curves = pd.concat([_curves(what, tally, images.classes) for what, tally in tallies.items()], ignore_index=True)
    return curves, pd.DataFrame([row for what, tally in tallies.items() for row in _summary(what, tally)])


def _kept(p: torch.Tensor) -> dict[str, np.ndarray]:
    return {"rounded": quantise(p).numpy(), "truncated": truncate(p.numpy())}


def _kept_blend(members: torch.Tensor) -> dict[str, np.ndarray]:
    """Blend members (member, class, y, x) that were each kept as bytes, and keep the mean in the same way."""
    kept = [_kept(member) for member in members]
    whole = np.sum([each["truncated"] for each in kept], axis=0, dtype=np.int64) // len(kept)
    return {"rounded": blend([each["rounded"] for each in kept]), "truncated": whole.astype(np.uint8)}


def _curves(what: str, tally: Tally, classes: Sequence[str]) -> pd.DataFrame:
    dice = {way: np.vstack([values, values.mean(axis=0)]) for way, values in tally.at_levels().items()}
    tables = [
        pd.DataFrame(
            {"what": what, "class": name, "level": np.arange(1, 256)}
            | {f"dice_{way}": values[row] for way, values in dice.items()}
        )
        for row, name in enumerate([*classes, "all"])
    ]
    return pd.concat(tables, ignore_index=True)


def _summary(what: str, tally: Tally) -> list[dict[str, Any]]:
    rows = []
    for way, (mean, variance) in tally.errors().items():
        row: dict[str, Any] = {"what": what, "way": way, "mean_error": mean, "variance_of_error": variance}
        for where, dice in (("level", tally.at_levels()), ("hundredth", tally.at_hundredths())):
            difference = np.abs(dice[way] - dice["float"])
            row |= {
                f"largest_at_{where}s": difference.max(),
                where: int(difference.max(axis=0).argmax()) + 1,
                f"mean_at_{where}s": difference.mean(),
            }
        rows.append(row | {"variance": tally.variance(), "images": tally.images})
    return rows


def verdict(summary: pd.DataFrame) -> str:
    """Say in a sentence what one byte per probability costs at most, at thresholds that somebody may choose.

    Parameters
    ----------
    summary : the second table that :func:`study` returns.

    Examples
    --------
    >>> rows = {"way": ["rounded", "truncated"], "largest_at_hundredths": [1e-4, 3e-4]}
    >>> verdict(pd.DataFrame(rows | {"mean_at_hundredths": [1e-5, 2e-5]}))  # doctest: +NORMALIZE_WHITESPACE
    'one byte per probability changes the Dice of a class by at most 0.0001 at thresholds of 0.01 to 0.99 (1e-05 on
    average); cut off instead of rounded, by at most 0.0003'
    """
    ways = summary.groupby("way")[["largest_at_hundredths", "mean_at_hundredths"]].max()
    (most, mean), (most_cut_off, _) = ways.loc["rounded"], ways.loc["truncated"]
    return (
        f"one byte per probability changes the Dice of a class by at most {most:.2g} at thresholds of 0.01 to 0.99 "
        f"({mean:.2g} on average); cut off instead of rounded, by at most {most_cut_off:.2g}"
    )


def page(summary: pd.DataFrame, run: str) -> str:
    """Write the summary of a study as Markdown.

    Parameters
    ----------
    summary : the second table that :func:`study` returns.
    run : what names the network to the reader.
    """
    heads = ["what", "way", "mean error", "variance", "largest", "mean", "largest (t)", "mean (t)"]
    rows = [
        [
            *(row.what, row.way, f"{255 * row.mean_error:+.4f}", f"{255**2 * row.variance_of_error:.4f}"),
            *(f"{row.largest_at_levels:.6f} ({row.level})", f"{row.mean_at_levels:.6f}"),
            *(f"{row.largest_at_hundredths:.6f} ({row.hundredth / 100:.2f})", f"{row.mean_at_hundredths:.6f}"),
        ]
        for row in summary.itertuples()
    ]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in [heads, ["---"] * 2 + ["---:"] * 6, *rows])
    variances = summary.drop_duplicates("what").set_index("what")["variance"]
    return f"""# Probabilities as bytes

{verdict(summary)}

{run}, {summary["images"].iloc[0]} validation images, against the float32 that the bytes are made from.

{table}

- rounded: floor(255 p + 0.5), as the stores here; truncated: `(probability*255).astype(np.uint8)`, as in \
the {REFERENCE.name}.
- mean error and variance: of 255 p - byte, in levels. An error spread evenly over one level has the variance
  1/12 = 0.0833.
- largest (where), mean: absolute difference of a class's Dice from float32's, at the levels 1 to 255 (p >= v / 255).
  Cutting off is the float rule itself there; rounding takes pixels in from half a level below.
- (t): the same over the thresholds 0.01 to 0.99 (p >= t), for which the bytes use the next whole level above 255 t.
- blend: the mean of four flips of the network, each kept as bytes first. What cutting off takes from every member does
  not average out.
- Variance of the probabilities: {variances["network"]:.5f} (network), {variances["blend"]:.5f} (blend); \
the {REFERENCE.name}'s: {REFERENCE.variance}.
"""
