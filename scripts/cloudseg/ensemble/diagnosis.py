"""What explains an ensemble's score: its calibration, presence, and what each member adds, in one pass over the images.

A few images are read at a time, and what is kept grows by a few numbers per image.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from cloudseg.ensemble.agreement import (
    Agreement,
    AgreementSum,
    Blending,
    ImageAgreement,
    Member,
    MemberStores,
    sampled_rows,
)
from cloudseg.ensemble.blended import Blended, OutOfFold
from cloudseg.ensemble.calibration import byte_histograms
from cloudseg.ensemble.decision import Decision, DecisionRule
from cloudseg.ensemble.masking import Evidence
from cloudseg.ensemble.presence import largest_component

MOST_MEMBERS = 64  # that are compared: each is held against each, and the blend is made anew without each
BLOCK = 16  # images whose counts wait to be added up


@dataclass(frozen=True)
class Diagnosis:
    """What was counted.

    Parameters
    ----------
    classes : names, in the order of the stores.
    images : how many.
    pixels : of a plane.
    histograms : (C, 2, 256) pixels of the blend by byte value, outside and inside of the truth.
    largest : (N, C) pixels of the largest component at the level of the decision, or of the plane where each has one.
    has : (N, C) whether the truth has the class.
    presence : (N, C) the score of presence that the decision asks for; NaN of a class where it asks for none.
    agreement : of the members; None with fewer than two or more than `MOST_MEMBERS`, or without an image.
    """

    classes: list[str]
    images: int
    pixels: int
    histograms: np.ndarray = field(repr=False)
    largest: np.ndarray = field(repr=False)
    has: np.ndarray = field(repr=False)
    presence: np.ndarray = field(repr=False)
    agreement: Agreement | None = None


class _Counted(NamedTuple):
    histograms: np.ndarray
    largest: list[int]
    has: np.ndarray
    presence: np.ndarray
    members: ImageAgreement | None


def diagnose(
    blend: str | Path,
    truth: str | Path,
    decision: Decision,
    members: Sequence[Member],
    rule: DecisionRule,
    *,
    whether: str | Path | None = None,
    blending: Blending | None = None,
    threads: int = 1,
) -> Diagnosis:
    """Count what explains the score of a blend.

    Parameters
    ----------
    blend : store (image, class, y, x) uint8 of out-of-fold probabilities with the attributes `ids`, `classes`, `fold`.
    truth : store (image, class, y, x) uint8 0/1 with the attribute `ids`.
    decision : how the blend becomes masks.
    members : in the order in which they were blended.
    rule : how members are decided, with thresholds for a blend that is not sharpened: its fixed numbers cut them.
    whether : what tells whether a class is there, as :class:`cloudseg.ensemble.blended.Blended` reads it.
    blending : how the blend is made of the members; None is the mean of the power of p that the decision names.
    threads : the result does not depend on it.

    Raises
    ------
    StoreError : when an image of the blend has no truth, or is not in the store of a member.
    """
    blended = Blended(blend, whether)
    images, classes, ids = OutOfFold(blended, truth), blended.classes, blended.ids
    compared = set(sampled_rows(len(ids), len(members))) if 1 < len(members) <= MOST_MEMBERS else set()
    member_stores = (
        MemberStores(members, rule.fixed(classes), blending or Blending(decision.sharpen)) if compared else None
    )

    def count(row: int) -> _Counted:
        one = slice(row, row + 1)
        planes, wanted, evidence = blended.planes(one)[0], images.truth(row), blended.evidence(one)
        at_level = planes >= _levels(decision, planes, evidence)[:, None, None]
        fold = blended.fold_of[row]
        return _Counted(
            byte_histograms(planes, wanted),
            [largest_component(mask.view(np.uint8)) for mask in at_level],
            wanted.any(axis=(1, 2)),
            decision.rule.presence_scores(planes, evidence),
            member_stores.compare(ids[row], fold, wanted, decision.rule_for(fold), evidence)
            if member_stores and row in compared
            else None,
        )

    histograms = np.zeros((len(classes), 2, 256), np.int64)
    shape = len(ids), len(classes)
    largest, has, presence = np.zeros(shape, np.int64), np.zeros(shape, bool), np.zeros(shape)
    said = AgreementSum(members, classes)
    with ThreadPoolExecutor(threads) as pool, tqdm(total=len(ids), unit=" images", disable=None) as bar:
        for start in range(0, len(ids), BLOCK):
            rows = range(start, min(start + BLOCK, len(ids)))
            for row, counted in zip(rows, pool.map(count, rows), strict=True):
                histograms += counted.histograms
                largest[row], has[row], presence[row] = counted.largest, counted.has, counted.presence
                if counted.members:
                    said.add(ids[row], blended.fold_of[row], counted.members)
                bar.update()
    agreement = said.agreement() if compared else None
    pixels = math.prod(blended.store.shape[2:])
    return Diagnosis(classes, len(ids), pixels, histograms, largest, has, presence, agreement)


def _levels(decision: Decision, planes: np.ndarray, evidence: Evidence | None) -> np.ndarray:
    """Return the level of each plane of an image, int (C,)."""
    if decision.is_by_plane:
        return decision.rule.levels(evidence or Evidence.of(planes[None]))[0]
    return np.array([cut.level for cut in decision.cuts.values()])
