"""The links of the chain from images to submission: each is looked for in what the files themselves record.

A link that is recorded otherwise is refused with the name of the file. What earlier jobs did not record is left out,
and never made up.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cloudseg.ensemble.deciding import decide
from cloudseg.ensemble.decision import Decision, DecisionRule
from cloudseg.ensemble.surface import read_surface
from cloudseg.errors import StoreError
from cloudseg.postprocess import blend
from cloudseg.provenance.content import Content, same_runs
from cloudseg.storage import files, records, stores
from cloudseg.training.record import RunRecord

NEARLY = 1e-9  # apart in a mean of Dice, by the order in which it was summed
SAMPLED = 4
"""Images whose masks are made again, of the first and of the last of a submission."""


class Predicted(NamedTuple):
    """What a store of probabilities records."""

    checkpoint: str
    """Digest of the checkpoint that predicted it."""
    settings: str
    """Digest of what else decides its bytes; empty in the first stores."""


def refuse_edited(path: str | Path, log: str | Path) -> str:
    """Return the SHA-256 of a file that must be as its job wrote it.

    Parameters
    ----------
    path : the file.
    log : of its job, beside which the digests of its outputs lie; where there are none, any content will do.

    Raises
    ------
    DamagedFileError : if the job recorded another digest.
    """
    digest = files.sha256(path)
    try:
        recorded = records.read_record(records.record_file(log)).get(str(path))
    except FileNotFoundError:
        recorded = None
    if recorded not in (None, digest):
        raise files.damaged(path, "not the file that its job wrote (SHA-256), so nothing is known of where it is from")
    return digest


def read_run(folder: str | Path) -> RunRecord:
    """Return the record of a run, after comparing it with what its training wrote.

    Raises
    ------
    DamagedFileError : if the record was changed since, or tells of other checkpoints than its training wrote.
    """
    folder = Path(folder)
    refuse_edited(folder / "run.json", folder / "train.log")
    record = RunRecord.read(folder / "run.json")
    try:
        recorded = records.read_record(records.record_file(folder / "train.log"))
    except FileNotFoundError:
        return record
    for checkpoint, digest in record.sha256.items():
        path = folder / f"{checkpoint}.safetensors"
        if recorded.get(str(path), digest) != digest:
            raise files.damaged(path, "its training recorded one digest in run.json and another for its outputs")
    return record


def require_checkpoint(store: str | Path, predicted: Predicted, checkpoint: str, record: RunRecord) -> None:
    """Refuse a store that another checkpoint predicted than the one that the run's record tells of.

    Raises
    ------
    StoreError : with both digests.
    """
    trained = record.sha256.get(checkpoint)
    if predicted.checkpoint != trained:
        raise StoreError(
            f"{store}: predicted by the checkpoint {_short(predicted.checkpoint)}, and the run's "
            f"{checkpoint}.safetensors is {_short(trained)} (run.json); delete the store and run again"
        )


def require_blend(
    path: str | Path, paths: Sequence[str | Path], members: Sequence[Mapping[str, Any]], sharpen: float | None
) -> tuple[dict[str, Any], list[Predicted]]:
    """Return the attributes of a blend that must be of these stores with these weights, and what its stores record.

    Its digest tells the members and their checkpoints. Whether they were predicted anew since then, with other views or
    by other code, is found out by blending the first image of each fold again.

    Parameters
    ----------
    path : the blend.
    paths : the stores, in the order of ``members``.
    members : name, fold and weight of each.
    sharpen : as of :func:`cloudseg.ensemble.blending.blend_stores`.

    Raises
    ------
    StoreError : if it is of others.
    """
    blended = stores.read(path)
    arrays = [stores.read(each) for each in paths]
    attributes = blended.attrs.asdict()
    runs = [array.attrs["run"] for array in arrays]
    if attributes.get("run") != files.digest([[dict(member) for member in members], sharpen, runs]):
        raise StoreError(
            f"{path}: blended from other members, weights or checkpoints than those that are there now; delete it and "
            "run again"
        )
    fold_of = attributes["fold"]
    for row in sorted({fold_of.index(fold) for fold in dict.fromkeys(fold_of)}):
        chosen = [number for number, member in enumerate(members) if fold_of[row] in (None, member["fold"])]
        name = attributes["ids"][row]
        planes = [_image(arrays[number], name, paths[number]) for number in chosen]
        again = np.empty_like(planes[0])
        blend(planes, weights=[members[number]["weight"] for number in chosen], sharpen=sharpen, out=again)
        apart = np.abs(again.astype(int) - stores.read_images(blended, slice(row, row + 1)))
        # Kinds of processors round ties of powers differently
        if apart.max(initial=0) > (0 if sharpen is None else 1):
            raise StoreError(
                f"{path}: its image {name} is not the mean of the members' stores, which were predicted anew since; "
                "delete it and run again"
            )
    return attributes, [
        Predicted(run, array.attrs.get("settings", "")) for run, array in zip(runs, arrays, strict=True)
    ]


def _image(array: Any, name: str, path: str | Path) -> np.ndarray:
    ids = list(array.attrs["ids"])
    if name not in ids:
        raise StoreError(f"{path}: has no image {name}, which a blend of it has; delete both and run again")
    row = ids.index(name)
    return stores.read_images(array, slice(row, row + 1))


def require_decision(path: str | Path, surface: str | Path, classes: Sequence[str], rule: DecisionRule) -> Decision:
    """Return the decision of an ensemble, which must be what the rule makes of the surface.

    Raises
    ------
    DamagedFileError : if it is another one.
    """
    decision = Decision.read(path, classes)
    again, _ = decide(*read_surface(surface), classes=classes, rule=rule)
    if decision.plain() != again.plain():
        raise files.damaged(path, f"not the decision that {surface} and the config's rule lead to")
    return decision


def require_scores(
    scores: pd.DataFrame, images: pd.DataFrame, decision: Decision, blend_path: str | Path, truth: str | Path
) -> None:
    """Hold the scores, which come from the surface, against those of single images, which come from the blend.

    Parameters
    ----------
    scores, images : as :mod:`cloudseg.ensemble.score_tables` reads them.
    decision : that of the ensemble.
    blend_path, truth : of the out-of-fold images; the Dice of the first image of each fold is counted again.

    Raises
    ------
    StoreError : if they tell of different blends.
    """
    honest = "fixed" if decision.how == "fixed" else "nested" if decision.nested else "tuned"
    means = images.groupby(["fold", "class"])["dice"].mean()
    given = scores[(scores["class"] != "all") & scores["fold"].notna()].set_index(["fold", "class"])[honest]
    wrong = [key for key, mean in means.items() if abs(mean - given[key]) > NEARLY]
    wrong += [
        row["fold"]
        for row in _first_images(images)
        if abs(row["dice"] - _dice(row, decision, blend_path, truth)) > NEARLY
    ]
    if wrong:
        raise StoreError(
            f"{blend_path}: its images have other scores than the surface that the decision came from; delete the "
            "surface.zarr beside it and run again"
        )


def _first_images(images: pd.DataFrame) -> list[dict[str, Any]]:
    first = images.groupby("fold")["image"].transform("first")
    return images[images["image"] == first].to_dict("records")


def _dice(row: Mapping[str, Any], decision: Decision, blend_path: str | Path, truth: str | Path) -> float:
    blended, masks = stores.read(blend_path), stores.read(truth)
    plane = list(blended.attrs["classes"]).index(row["class"])
    mask = decision.rule_for(row["fold"]).masks(_image(blended, row["image"], blend_path)[0])[plane]
    true = _image(masks, row["image"], truth)[0, plane]
    total = int(mask.sum()) + int(true.sum())
    return 2 * int(np.logical_and(mask, true).sum()) / total if total else 1.0


def require_masks(path: str | Path, content: Content, blend_path: str | Path, decision: Decision) -> None:
    """Make the masks of some images again, and compare them with a submission.

    Raises
    ------
    DamagedFileError : if a row differs, or there is none.
    """
    probabilities = stores.read(blend_path)
    ids, classes = list(probabilities.attrs["ids"]), list(probabilities.attrs["classes"])
    for rows in (slice(0, SAMPLED), slice(max(0, len(ids) - SAMPLED), len(ids))):
        planes = stores.read_images(probabilities, rows)
        texts = iter(decision.rule.texts(planes))
        for image in ids[rows]:
            for name in classes:
                row, text = f"{image}_{name}", next(texts)
                if content.masks.get(row, same_runs(text)) != same_runs(text):
                    raise files.damaged(path, f"{row} is not the mask that {blend_path} has under decision.yaml")


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "none"
