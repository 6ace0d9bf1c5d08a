"""Labels for test images, made by the networks of one fold alone, so that they may train further ones of that fold.

A network of fold f has seen no label of the images of fold f. Neither has anything that is made here for fold f: its
labels come from members of fold f, at their last epoch, by numbers of the recipe. So the networks that are trained on
them may be scored on the images of fold f, as those that made them are.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np

from cloudseg.config.recipe_parts import Pseudo
from cloudseg.dataset.resizing import resize_image, resize_mask
from cloudseg.ensemble.blending import StoreBlend, blend_digest, fill
from cloudseg.ensemble.plane_scores import PlaneScore
from cloudseg.errors import DatasetError, StoreError
from cloudseg.postprocess import Cut, level, plane_histograms
from cloudseg.storage import files, stores

PRESENCE = 0.095  # of the pixels of a plane, as the contest's first place had it
LOOKED_AT = 16  # images that are blended at a time


@dataclasses.dataclass(frozen=True)
class Certainty:
    """How sure the members are of each of some images.

    Parameters
    ----------
    pixels : float64 (N,), share of an image's pixels, of all classes, that are certain.
    presence : bool (N,), whether each of its classes is surely absent or surely present.
    """

    pixels: np.ndarray
    presence: np.ndarray

    @classmethod
    def of(cls, histograms: np.ndarray, pseudo: Pseudo) -> Self:
        """Return that of images whose planes have such histograms, (N, C, 256).

        Examples
        --------
        >>> sure, torn = np.bincount([0, 0, 255, 255], minlength=256), np.bincount([0, 100, 128, 255], minlength=256)
        >>> certainty = Certainty.of(np.array([[sure], [torn]]), Pseudo(ensemble="all", presence=(0.05, 0.95)))
        >>> certainty.pixels, certainty.presence
        (array([1. , 0.5]), array([ True,  True]))
        """
        low, high = (level(bound) for bound in pseudo.certain)
        certain = histograms[..., :low].sum(-1) + histograms[..., high:].sum(-1)
        pixels = histograms.sum(axis=(1, 2))
        sure = np.ones(len(histograms), bool) if pseudo.presence is None else _sure(histograms, *pseudo.presence)
        return cls(certain.sum(axis=1) / pixels, sure)

    @property
    def ranked(self) -> np.ndarray:
        """The images of sure presence, those with the most certain pixels first; of images that are alike the first."""
        order = np.argsort(-self.pixels, kind="stable")
        return order[self.presence[order]]


def _sure(histograms: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return (N,) whether the score of presence of every class lies outside of (low, high)."""
    plane = int(histograms[0, 0].sum()) if len(histograms) else 1
    score = PlaneScore("top", max(1, round(PRESENCE * plane)))
    values = score.numerators(histograms)
    outside = (values < score.at_least(low, plane)) | (values >= score.at_least(high, plane))
    return outside.all(axis=1)


@dataclasses.dataclass(frozen=True)
class BlendLabels:
    """The labels of any test images, made when they are asked for.

    Parameters
    ----------
    blended : what the members say of the test images.
    pseudo : how images are chosen and labels made.
    cut : how masks are made of the blend, where they are not soft.
    size : (height, width) of the masks in pixels.
    run : a digest of what decides them: the blend, what it was predicted by, and how it is cut.
    """

    blended: StoreBlend
    pseudo: Pseudo
    cut: Cut
    size: tuple[int, int]
    run: str

    @classmethod
    def of(
        cls,
        paths: Sequence[str | Path],
        members: Sequence[Mapping[str, Any]],
        pseudo: Pseudo,
        *,
        classes: Sequence[str],
        grid: tuple[int, int],
        size: tuple[int, int],
        min_area: float = 0.0,
        threads: int = 1,
    ) -> Self:
        """Return the labels by some members.

        Parameters
        ----------
        paths : one test store (image, class, y, x) uint8 per member; all members are of one fold.
        members : name, fold and `weight` of each.
        pseudo : how images are chosen and labels made.
        classes, grid : names of the classes and (height, width) of the submission grid, which every store must have.
        size : (height, width) of the masks in pixels: that of the images that will train.
        min_area : smallest area of a component that stays, as a share of the image, unless `pseudo` has its own.
        threads : as for :func:`cloudseg.ensemble.blending.blend_stores`.

        Raises
        ------
        StoreError : as `blend_stores`, and for members of several folds.
        """
        if len(folds := {member["fold"] for member in members}) > 1:
            raise StoreError(f"{paths[0]}: expected members of one fold, got those of the folds {sorted(folds)}")
        blended = StoreBlend.of(paths, members, folds=None, classes=classes, size=grid, threads=threads)
        cut = Cut.of_share(pseudo.threshold, min_area if pseudo.min_area is None else pseudo.min_area, grid)
        return cls(blended, pseudo, cut, size, _digest(paths, members, pseudo, cut))

    @property
    def chosen(self) -> np.ndarray:
        """The rows of the blend of the images that the members are surest of, in their order."""
        images = len(self.blended.ids)
        starts = range(0, images, LOOKED_AT)
        certainty = self.certainty(slice(row, min(row + LOOKED_AT, images)) for row in starts)
        return np.sort(certainty.ranked[: self.most])

    @property
    def most(self) -> int:
        """How many images are taken at most."""
        return round(self.pseudo.share * len(self.blended.ids))

    def certainty(self, ranges: Iterable[slice]) -> Certainty:
        """Return how sure the members are of the images in some ranges of rows, which are blended one by one."""
        blocks = map(self.blended.images, ranges)
        histograms = np.concatenate([plane_histograms(block, threads=self.blended.threads) for block in blocks])
        return Certainty.of(histograms, self.pseudo)

    def spec(self, images: int) -> stores.Spec:
        """Return the array that the labels of so many images make in a store."""
        classes = len(self.blended.classes)
        if self.pseudo.soft:
            return stores.Spec((images, *self.size, classes), "uint8", ("image", "y", "x", "class"))
        return stores.Spec((images, *self.size), str(np.min_scalar_type(2**classes - 1)), ("image", "y", "x"))

    def masks(self, rows: Iterable[int]) -> np.ndarray:
        """Return the labels of the images in some rows of the blend, as their store has them but for the type."""
        return np.stack([self._mask(self.blended.images(slice(row, row + 1))[0]) for row in rows])

    def _mask(self, planes: np.ndarray) -> np.ndarray:
        return _soft(planes, self.size) if self.pseudo.soft else _packed(planes, self.cut, self.size)


def write_pseudo_labels(labels: BlendLabels, out: str | Path, *, code: int = 0) -> None:
    """Write masks of the test images that the members are surest of; a killed call is gone on with.

    Parameters
    ----------
    labels : of any test image.
    out : the store to write, a group of one array `mask`: (image, y, x), the smallest unsigned integer with a bit for
        each class, as in a pixel store; where labels are soft, (image, y, x, class) uint8, 255 for certainty. Its
        attributes hold `ids` of the images that were taken, `classes`, and `run`, a digest of what made it.
    code : number in ``CODE``; an unfinished store of other code is started over.

    Raises
    ------
    DatasetError : if there is no image that the members are sure enough of.
    """
    ids, chosen = labels.blended.ids, labels.chosen
    if not len(chosen):
        raise DatasetError(
            f"{out}: none of the {len(ids)} test images is sure enough to train on; widen `pseudo.certain` or "
            "`pseudo.presence`, or raise `pseudo.share`"
        )
    attrs = {"ids": [ids[row] for row in chosen], "classes": labels.blended.classes, "run": labels.run}
    spec = labels.spec(len(chosen))
    writer = stores.Writer(out, {"mask": spec}, attrs, made_with=stores.made_with(code, np, cv2))
    fill(writer, lambda rows: labels.masks(chosen[rows]).astype(spec.dtype, copy=False), "mask")
    writer.finish()


def _packed(planes: np.ndarray, cut: Cut, size: tuple[int, int]) -> np.ndarray:
    """Return the masks of an image at a size, (height, width) with a bit for each class."""
    masks = [resize_mask(cut.mask(plane).astype(np.uint8), size).astype(np.uint64) for plane in planes]
    return np.bitwise_or.reduce([mask << np.uint64(bit) for bit, mask in enumerate(masks)])


def _soft(planes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the probabilities of an image at a size, uint8 (height, width, classes)."""
    return np.stack([resize_image(plane, size) for plane in planes], axis=-1)


def _digest(paths: Sequence[str | Path], members: Sequence[Mapping[str, Any]], pseudo: Pseudo, cut: Cut) -> str:
    """Return a digest of what decides the labels: the blend, what it was predicted by, and how it was cut."""
    settings = [stores.read(path).attrs.get("settings") for path in paths]
    made_of = {"blend": blend_digest(paths, members), "settings": settings, "cut": [cut.level, cut.min_size]}
    return files.digest(made_of | {"pseudo": pseudo.model_dump(mode="json")})
