"""How alike the members of an ensemble decide, and what the blend would score without each of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from cloudseg.ensemble.blending import votes
from cloudseg.ensemble.calibration import byte_histograms
from cloudseg.ensemble.decision import Decision
from cloudseg.ensemble.masking import Evidence, ImageRule
from cloudseg.ensemble.selection import Selection
from cloudseg.errors import StoreError
from cloudseg.postprocess import blend
from cloudseg.storage import per_image, stores

if TYPE_CHECKING:  # it brings OpenCV, which few blends need
    from cloudseg.dataset.black import Black

SAMPLED_PREDICTIONS = 20_000  # images times members that are compared, about
LEAST_SAMPLE = 500  # images that are compared whatever the number of members


@dataclass(frozen=True)
class Member:
    """A member of an ensemble: a checkpoint of an experiment.

    Parameters
    ----------
    name : of its row in the leaderboard.
    experiment : which members that differ in the checkpoint share.
    weight : in the blend, not normalised.
    store : its out-of-fold probabilities (image, class, y, x) uint8 with the attribute `ids`.
    says_where_only : whether it leaves no plane empty, so that its own masks are no measure of it.
    """

    name: str
    experiment: str
    weight: float
    store: str | Path
    says_where_only: bool = False


class ImageAgreement(NamedTuple):
    """What one image says: histograms (M, C, 2, 256), pairs (M + 1, M + 1), without (M, C); see `Agreement`."""

    histograms: np.ndarray
    pairs: np.ndarray
    without: np.ndarray


@dataclass(frozen=True)
class Agreement:
    """What the members of an ensemble say about the same images.

    Parameters
    ----------
    members : in the order of the blend.
    images : how many were compared.
    histograms : (M, C, 2, 256) pixels by byte value, outside and inside of the truth.
    pairs : (M + 1, M + 1) Dice of the masks of two members, each cut by the fixed decision or, where they vote, by
        its own, the mean over images, classes and folds as the score is; the last row and column are the truth.
    without : per member what the blend scores without it, cut as it is: image, fold, class, dice.
    """

    members: list[Member]
    images: int
    histograms: np.ndarray
    pairs: np.ndarray
    without: list[pd.DataFrame]


@dataclass(frozen=True)
class Blending:
    """How the planes of members become the blend of an out-of-fold image.

    Parameters
    ----------
    sharpen : the power of p that is averaged; None is p itself.
    selection : what a search chose, whose weights are those of the images of a fold; None where members have their own.
    voters : by the name of a member, its own decision, where members vote; empty where probabilities are averaged.
    black : where images are black, and the blend is 0; None is nowhere.
    """

    sharpen: float | None = None
    selection: Selection | None = None
    voters: Mapping[str, Decision] = field(default_factory=dict)
    black: "Black | None" = None

    def blend(self, planes: Mapping[Member, np.ndarray], image: str, fold: int | None) -> np.ndarray:
        """Return the blend of members on an image of a fold, uint8 (C, H, W); 0 where none of them has a weight."""
        weights = {member: self._weight(member, fold) for member in planes}
        taken = {member: weight for member, weight in weights.items() if weight}
        if not taken:
            return np.zeros_like(next(iter(planes.values())))
        read = [self._said(member, planes[member], fold) for member in taken]
        blended = blend(read, weights=list(taken.values()), sharpen=self.sharpen)
        if self.black is not None:
            self.black.clear(blended[None], [image])
        return blended

    def _weight(self, member: Member, fold: int | None) -> float:
        return self.selection.choice_for(fold).counts.get(member.name, 0) if self.selection else member.weight

    def _said(self, member: Member, planes: np.ndarray, fold: int | None) -> np.ndarray:
        if not self.voters:
            return planes
        rules = self.voters[member.name].rule_for(fold).classes.values()
        return votes(planes[None], [rule.cut.level for rule in rules])[0]


class MemberStores:
    """The stores of an ensemble's members, read image by image.

    The blend without a member is made of the stores anew, so that rounding and sharpening are those of a blend.

    Parameters
    ----------
    members : at least two, in the order of the blend.
    fixed : what makes the masks of each member that does not vote, by its own planes alone.
    blending : how the blend is made of them.
    """

    def __init__(self, members: Sequence[Member], fixed: ImageRule, blending: Blending) -> None:
        self.members = list(members)
        self._fixed = fixed
        self._blending = blending
        self._arrays = [stores.read(member.store) for member in members]
        self._rows = [{image: row for row, image in enumerate(per_image.ids(array))} for array in self._arrays]

    def compare(
        self, image: str, fold: int | None, truth: np.ndarray, rule: ImageRule, evidence: Evidence | None = None
    ) -> ImageAgreement:
        """Compare the members on an image.

        Parameters
        ----------
        image, fold : its name, and the fold that it is in.
        truth : uint8 (C, H, W) of 0 and 1.
        rule : what makes the masks of the blend of this image.
        evidence : what tells whether its classes are there; None where planes do.
        """
        numbers = range(len(self.members))
        planes = [self._planes(number, image) for number in numbers]
        true = packed(truth)
        rules = [self._own_rule(member, fold) for member in self.members]
        own = [packed(own_rule.masks(each)) for own_rule, each in zip(rules, planes, strict=True)]
        blends = [self._blend_without(number, planes, image, fold) for number in numbers]
        without = [packed(rule.masks(each, evidence)) for each in blends]
        return ImageAgreement(
            np.stack([byte_histograms(each, truth) for each in planes]),
            dice_of_pairs(np.stack([*own, true])).mean(axis=2),
            np.stack([dice_of_pairs(np.stack([each, true]))[0, 1] for each in without]),
        )

    def _planes(self, number: int, image: str) -> np.ndarray:
        rows, member = self._rows[number], self.members[number]
        if image not in rows:
            raise StoreError(
                f"{member.store}: expected all images of the blend, got none of {image}; delete it and run again"
            )
        return stores.read_images(self._arrays[number], slice(rows[image], rows[image] + 1))[0]

    def _own_rule(self, member: Member, fold: int | None) -> ImageRule:
        """Return what makes the masks of a member alone."""
        voters = self._blending.voters
        return voters[member.name].rule_for(fold) if voters else self._fixed

    def _blend_without(self, left_out: int, planes: Sequence[np.ndarray], image: str, fold: int | None) -> np.ndarray:
        others = {member: planes[number] for number, member in enumerate(self.members) if number != left_out}
        return self._blending.blend(others, image, fold)


def packed(masks: Iterable[np.ndarray]) -> np.ndarray:
    """Return the bits of C masks, uint8 (H, W) of 0 and 1, as uint8 (C, B)."""
    return np.stack([np.packbits(mask) for mask in masks])


def dice_of_pairs(bits: np.ndarray) -> np.ndarray:
    """Return the Dice of each pair of masks.

    Parameters
    ----------
    bits : uint8 (M, C, B), the packed masks of C classes by M members.

    Returns
    -------
    float64 (M, M, C) : 1 where both are empty.

    Examples
    --------
    >>> masks = np.array([[[1, 1, 0]], [[0, 1, 1]], [[0, 0, 0]]], np.uint8)
    >>> dice_of_pairs(packed(masks)[:, None])[:, :, 0].tolist()
    [[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    areas = np.bitwise_count(bits).sum(axis=2, dtype=np.int64)
    both = np.stack([np.bitwise_count(one & bits).sum(axis=2, dtype=np.int64) for one in bits])
    total = areas[:, None] + areas[None]
    return np.where(total == 0, 1.0, 2 * both / np.maximum(total, 1))


def sampled_rows(images: int, members: int) -> list[int]:
    """Return the rows of the images that members are compared on: all, or as many as may be, evenly spread.

    Examples
    --------
    >>> sampled_rows(3, 40), len(sampled_rows(5546, 3)), len(sampled_rows(5546, 8)), len(sampled_rows(5546, 80))
    ([0, 1, 2], 5546, 2500, 500)
    """
    most = max(LEAST_SAMPLE, SAMPLED_PREDICTIONS // max(members, 1))
    return np.unique(np.linspace(0, images - 1, min(images, most)).astype(int)).tolist()


class AgreementSum:
    """Add up what images say about members, one after the other.

    Parameters
    ----------
    members, classes : the members, and the names of the classes in the order of the stores.
    """

    def __init__(self, members: Sequence[Member], classes: Sequence[str]) -> None:
        self._members, self._classes = list(members), list(classes)
        count = len(self._members)
        self._histograms = np.zeros((count, len(classes), 2, 256), np.int64)
        self._pairs: dict[int, np.ndarray] = {}
        self._images: list[tuple[str, int]] = []
        self._without: list[np.ndarray] = []

    def add(self, image: str, fold: int, said: ImageAgreement) -> None:
        """Add an image of a fold."""
        self._histograms += said.histograms
        self._pairs[fold] = self._pairs.get(fold, 0) + said.pairs
        self._images.append((image, fold))
        self._without.append(said.without)

    def agreement(self) -> Agreement:
        """Return what all images together say; there must be one."""
        counts = pd.Series([fold for _, fold in self._images]).value_counts()
        pairs = np.mean([total / counts[fold] for fold, total in self._pairs.items()], axis=0)
        keys = pd.DataFrame(
            [(image, fold, name) for image, fold in self._images for name in self._classes],
            columns=["image", "fold", "class"],
        )
        dice = np.stack(self._without, axis=1)  # (M, N, C)
        without = [keys.assign(dice=each.reshape(-1)) for each in dice]
        return Agreement(self._members, len(self._images), self._histograms, pairs, without)
