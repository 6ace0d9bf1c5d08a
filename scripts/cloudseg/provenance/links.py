"""The links of the chain from images to submission: each is looked for in what the files themselves record.

A link that is recorded otherwise is refused with the name of the file. What earlier jobs did not record is left out,
and never made up.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from safetensors import safe_open

from cloudseg.config.fold_names import fold_name
from cloudseg.config.recipe_parts import Pseudo
from cloudseg.dataset.labels.submission import SubmissionForm
from cloudseg.ensemble.blended import Blended, OutOfFold
from cloudseg.ensemble.blending import StoreBlend, blend_digest
from cloudseg.ensemble.decide_blend import Stores, decision_of
from cloudseg.ensemble.decision import Decision, DecisionRule
from cloudseg.ensemble.ingredients import Ingredients
from cloudseg.ensemble.surface import read_surface
from cloudseg.ensemble.whether import whether_digest
from cloudseg.errors import StoreError
from cloudseg.provenance.content import Content, same_runs
from cloudseg.storage import files, per_image, records, stores
from cloudseg.training.record import RunRecord

if TYPE_CHECKING:  # they bring OpenCV, which few ensembles need
    from cloudseg.dataset.black import Black
    from cloudseg.ensemble.pseudo_labels import BlendLabels

NEARLY = 1e-9  # apart in a mean of Dice, by the order in which it was summed
SAMPLED = 4
"""Images whose masks are made again, of the first and of the last of a submission; images, spread over a blend, that
are looked at for black; and test images, spread over those that were labelled and over the others.
"""


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


def read_run(folder: str | Path, name: str) -> RunRecord:
    """Return the record of a run, after comparing it with what its training wrote.

    Parameters
    ----------
    folder : of the run.
    name : encoder/decoder/size/recipe/fold, with the seed of a replicate behind it.

    Raises
    ------
    DamagedFileError : if the record was changed since, is that of another run, or tells of other checkpoints than its
        training wrote.
    """
    folder = Path(folder)
    refuse_edited(folder / "run.json", folder / "train.log")
    record = RunRecord.read(folder / "run.json")
    _require_name(folder / "run.json", record, name)
    try:
        recorded = records.read_record(records.record_file(folder / "train.log"))
    except FileNotFoundError:
        return record
    for checkpoint, digest in record.sha256.items():
        path = folder / f"{checkpoint}.safetensors"
        if recorded.get(str(path), digest) != digest:
            raise files.damaged(path, "its training recorded one digest in run.json and another for its outputs")
    return record


def _require_name(path: Path, record: RunRecord, name: str) -> None:
    """Refuse the record of another run, such as one whose folder was copied: no digest is of a file in this folder."""
    encoder, decoder, _, _, fold = name.split("/")
    folds = [f"fold{fold_name(record.fold, seed)}" for seed in (None, record.seed)]  # the second of a replicate
    if (record.encoder, record.decoder) != (encoder, decoder) or fold not in folds:
        found = f"{record.encoder}/{record.decoder}, fold {record.fold}, seed {record.seed}"
        raise files.damaged(path, f"expected the record of {name}, got that of another run ({found})")


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


def predicted(paths: Sequence[str | Path]) -> list[Predicted]:
    """Return what stores of probabilities record."""
    attributes = [stores.read(path).attrs for path in paths]
    return [Predicted(each["run"], each.get("settings", "")) for each in attributes]


def require_start(path: str | Path, record: RunRecord, checkpoint: str | Path, start: RunRecord) -> None:
    """Refuse initial weights that a training did not start from, or that are not those of a run's last epoch.

    Parameters
    ----------
    path : the file of initial weights: of a whole network, or of an encoder alone.
    record : of the training that started from it.
    checkpoint, start : the last epoch of the run that the weights come from, and that run's record.

    Raises
    ------
    DamagedFileError : naming the file at fault.
    """
    if (found := files.sha256(path)) != record.weights.sha256:
        raise files.damaged(
            path, f"{found[:12]}, and the training started from {record.weights.sha256[:12]} (run.json)"
        )
    if (found := files.sha256(checkpoint)) != start.sha256["last"]:
        raise files.damaged(checkpoint, f"{found[:12]}, and run.json tells of {start.sha256['last'][:12]}")
    with safe_open(path, "numpy") as weights, safe_open(checkpoint, "numpy") as network:
        names = set(network.keys())
        for name in weights.keys():  # noqa: SIM118
            source = next((each for each in (f"encoder.{name}", name) if each in names), None)
            if source is None or not np.array_equal(weights.get_tensor(name), network.get_tensor(source)):
                raise files.damaged(path, f"its {name} is not that of {checkpoint}, which it should come from")


def require_labels(
    path: str | Path,
    paths: Sequence[str | Path],
    members: Sequence[Mapping[str, Any]],
    pseudo: Pseudo,
    *,
    classes: Sequence[str],
    grid: tuple[int, int],
    min_area: float,
) -> dict[str, Any]:
    """Return the attributes of labels of test images that must be those that some members make.

    Their digest tells the members, their checkpoints and the numbers of the recipe. Every byte is read, and the labels
    of some images, from the first to the last, are made again. The members must be surer of these images than of some
    that were left out.

    Parameters
    ----------
    path : the store of the labels.
    paths, members, pseudo, classes, grid, min_area : as of :meth:`cloudseg.ensemble.pseudo_labels.BlendLabels.of`.

    Raises
    ------
    StoreError : if they are others.
    """
    from cloudseg.ensemble.pseudo_labels import BlendLabels  # it brings OpenCV, which few ensembles need

    stores.verify(path)
    group = stores.read(path)
    attributes, masks = per_image.expanded(group), group["mask"]
    size = masks.shape[1:3]
    again = BlendLabels.of(paths, members, pseudo, classes=classes, grid=grid, size=size, min_area=min_area)
    if attributes["run"] != again.run:
        raise StoreError(
            f"{path}: made by other members, checkpoints or numbers than those that are there now; delete it and run "
            "again"
        )
    row_of = {name: row for row, name in enumerate(again.blended.ids)}
    for row in _spread(range(len(attributes["ids"]))):
        name = attributes["ids"][row]
        stored = stores.read_images(masks, slice(row, row + 1))
        if name not in row_of or not _are_same_labels(again.masks([row_of[name]]), stored, soft=pseudo.soft):
            raise StoreError(
                f"{path}: its labels of {name} are not those that its members' stores lead to, one of which was "
                "changed since; delete it and run again"
            )
    _require_surest(path, again, [row_of[name] for name in attributes["ids"] if name in row_of])
    return attributes


def _require_surest(path: str | Path, again: "BlendLabels", taken: Sequence[int]) -> None:
    """Refuse labels of other images than those that the members are surest of, as far as some of them tell.

    To choose among all again would take about as long as it took to make the labels.

    Parameters
    ----------
    path : the store of the labels.
    again : the same labels, made when they are asked for.
    taken : the rows of the blend of the images that it holds, in their order.
    """
    ids, looked_at = again.blended.ids, _spread(taken)
    left = sorted(set(range(len(ids))).difference(taken))
    some = sorted([*looked_at, *_spread(left)])
    ranked = [some[place] for place in again.certainty(slice(row, row + 1) for row in some).ranked]
    room = max(0, again.most - len(taken))  # where there is any, no image that was left out is of sure presence
    apart = sorted(set(ranked[: len(looked_at) + room]).symmetric_difference(looked_at))
    if apart or len(taken) > again.most:
        shown = f", as {ids[apart[0]]} shows" if apart else ""
        raise StoreError(
            f"{path}: holds other test images than the {again.most} at most that its members are surest of{shown}; "
            "delete it and run again"
        )


def _spread(rows: Sequence[int]) -> list[int]:
    """Return some of the rows, from the first to the last."""
    return [rows[place] for place in np.unique(np.linspace(0, len(rows) - 1, SAMPLED).astype(int))] if rows else []


def _are_same_labels(again: np.ndarray, stored: np.ndarray, *, soft: bool) -> bool:
    """Return whether labels are the same; kinds of processors resize probabilities differently."""
    if again.shape != stored.shape:
        return False
    return bool(np.abs(again.astype(np.int64) - stored.astype(np.int64)).max(initial=0) <= (1 if soft else 0))


def require_black(black: "Black", grey: int) -> None:
    """Refuse a store of where images are black up to another level of grey.

    Raises
    ------
    StoreError : with both levels.
    """
    if black.grey != grey:
        raise StoreError(
            f"{black.path}: expected where images are black up to the grey value {grey}, got up to {black.grey}; "
            "delete it and run again"
        )


def require_blend(path: str | Path, made_of: Ingredients, black: "Black | None" = None) -> dict[str, Any]:
    """Return the attributes of a blend that must be of these stores with these weights.

    Its digest tells the members and their checkpoints. Whether they were predicted anew since then, with other views or
    by other code, is found out by blending the first image of each fold again and, where black counts, the first that
    has any and some others.

    Parameters
    ----------
    path : the blend.
    made_of : its stores, their members, the power of p that is averaged, and the levels of those that vote.
    black : where images are black, and the blend is 0.

    Raises
    ------
    StoreError : if it is of others.
    """
    blended = stores.read(path)
    attributes = per_image.expanded(blended)
    if attributes.get("run") != blend_digest(*made_of, black and black.grey):
        raise _of_others(path, made_of)
    again = _again(path, attributes, made_of, black)
    for row in _sampled(attributes, black):
        image = slice(row, row + 1)
        stored = stores.read_images(blended, image)
        if not _is_near(again.images(image), stored, made_of.sharpen):
            raise _of_another_image(path, attributes["ids"][row], again, stored, image)
    return attributes


def require_whether(
    path: str | Path,
    made_of: Ingredients,
    black: "Black | None" = None,
    value_paths: Sequence[str | Path] = (),
    value_members: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return the attributes of what the members that are asked for presence alone say, and must say still.

    It is checked as a blend is. Its histograms hold no places, so that bytes of a plane are compared in their order.
    What classification heads say is compared for all images.

    Parameters
    ----------
    path : the store.
    made_of, black : as of :func:`require_blend`.
    value_paths, value_members : the stores of classification heads, and name, fold and weight of each.

    Raises
    ------
    StoreError : if it is of others.
    """
    group = stores.read(path)
    attributes = per_image.expanded(group)
    grey = black and black.grey
    paths, members, sharpen, levels = made_of
    if attributes.get("run") != whether_digest(paths, members, value_paths, value_members, sharpen, levels, grey):
        raise _of_others(path, made_of)
    if value_paths:
        _require_values(path, group["value"], Ingredients(list(value_paths), list(value_members), sharpen), attributes)
    again = _again(path, attributes, made_of, black)
    for row in _sampled(attributes, black):
        image = slice(row, row + 1)
        [stored], [planes] = stores.read_images(group["histogram"], image), again.images(image)
        pairs = zip(stored, planes, strict=True)
        if not all(_is_near(np.sort(plane, axis=None), _in_order(counts), sharpen) for counts, plane in pairs):
            raise StoreError(
                f"{path}: of its image {attributes['ids'][row]}, it has not the histograms that the blend of its "
                f"members' stores has{_cleared(black)}; one of these was changed since: delete it and run again"
            )
    return attributes


def _require_values(path: str | Path, values: Any, made_of: Ingredients, attributes: Mapping[str, Any]) -> None:
    """Refuse values that are not the mean of those of the classification heads."""
    again = _again(path, attributes, made_of, None)
    everything = slice(0, len(attributes["ids"]))
    if again is not None and not _is_near(
        again.images(everything), stores.read_images(values, everything), made_of.sharpen
    ):
        raise StoreError(
            f"{path}: its values are not the mean of those of the classification heads, which were predicted anew "
            "since; delete it and run again"
        )


def _again(
    path: str | Path, attributes: Mapping[str, Any], made_of: Ingredients, black: "Black | None"
) -> StoreBlend | None:
    """Return the blend of the stores that one was made of; None where it is of no images."""
    if not attributes["ids"]:
        return None
    paths, members, sharpen, levels = made_of
    folds = list(dict.fromkeys(attributes["fold"]))
    again = StoreBlend.of(
        paths,
        members,
        folds=None if folds == [None] else folds,
        classes=attributes["classes"],
        size=stores.read(paths[0]).shape[2:],
        sharpen=sharpen,
        levels=levels,
        black=black,
    )
    if (again.ids, again.folds) != (attributes["ids"], attributes["fold"]):
        raise StoreError(f"{path}: holds other images than the stores that it is of; delete it and run again")
    return again


def _sampled(attributes: Mapping[str, Any], black: "Black | None") -> list[int]:
    """Return the rows of the images that are blended again; where black counts, some more, since few may have any."""
    fold_of, ids = attributes["fold"], attributes["ids"]
    rows = {fold_of.index(fold) for fold in dict.fromkeys(fold_of)}
    if black is not None and ids:
        rows |= set(np.linspace(0, len(ids) - 1, SAMPLED).astype(int).tolist())
        rows |= set(itertools.islice((row for row, image in enumerate(ids) if black.of(image).any()), 1))
    return sorted(rows)


def _is_near(again: np.ndarray, stored: np.ndarray, sharpen: float | None) -> bool:
    """Return whether values are the same; kinds of processors round ties of powers differently."""
    if again.shape != stored.shape:
        return False
    return bool(np.abs(again.astype(int) - stored).max(initial=0) <= (0 if sharpen is None else 1))


def _in_order(counts: np.ndarray) -> np.ndarray:
    """Return the bytes of a plane in ascending order, by how many pixels have each."""
    return np.repeat(np.arange(256, dtype=np.uint8), counts)


def _cleared(black: "Black | None") -> str:
    return "" if black is None else f", 0 where {black.path} says that it is black"


def _of_others(path: str | Path, made_of: Ingredients) -> StoreError:
    what = "weights or checkpoints" if made_of.levels is None else "weights, checkpoints or levels of their votes"
    return StoreError(
        f"{path}: blended from other members, {what} than those that are there now; delete it and run again"
    )


def _of_another_image(path: str | Path, name: str, again: StoreBlend, stored: np.ndarray, image: slice) -> StoreError:
    """Return the error of an image of a blend, which is of what is black where the members' stores are not to blame."""
    if again.black is not None:
        everywhere = dataclasses.replace(again, black=None).images(image)
        if _is_near(np.where(stored > 0, everywhere, 0), stored, again.sharpen):
            return StoreError(
                f"{path}: its image {name} is not 0 just where {again.black.path} says that it is black, which was "
                "changed since; delete both and run again"
            )
    what = "mean" if again.parts[0].levels is None else "vote"
    return StoreError(
        f"{path}: its image {name} is not the {what} of the members' stores, which were predicted anew since; "
        "delete it and run again"
    )


def require_decision(
    path: str | Path, made_on: Stores, surface: str | Path, classes: Sequence[str], rule: DecisionRule
) -> Decision:
    """Return the decision of an ensemble, which must be what the rule makes of the surface or, further, of the images.

    Raises
    ------
    DamagedFileError : if it is another one.
    """
    decision = Decision.read(path, classes)
    again = decision_of(made_on, rule, classes=classes, surface=read_surface(surface))
    if decision.plain() != again.plain():
        of_images = [made_on.blend, made_on.truth, *filter(None, [made_on.whether])]
        sources = [surface] if rule.is_of_surface or rule.how == "fixed" else of_images
        raise files.damaged(path, f"not the decision that {', '.join(map(str, sources))} and the config's rule lead to")
    return decision


def require_truth(path: str | Path, data: Sequence[str]) -> None:
    """Refuse a truth that is of other images or labels than networks train on.

    Parameters
    ----------
    path : the labels on the submission grid, on which is decided and scored.
    data : digests of the training images and labels.

    Raises
    ------
    StoreError : with both digests.
    """
    own = stores.read(path).attrs.get("data")
    if own not in (None, *data):
        raise StoreError(
            f"{path}: of other images or labels ({_short(own)}) than those that networks train on "
            f"({', '.join(map(_short, data))}); delete it and run again"
        )


def require_scores(scores: pd.DataFrame, images: pd.DataFrame, decision: Decision, made_on: Stores) -> None:
    """Hold the scores, which may come from the surface, against those of single images, which come from the blend.

    Parameters
    ----------
    scores, images : as :mod:`cloudseg.ensemble.score_tables` reads them.
    decision : that of the ensemble.
    made_on : the out-of-fold images; the Dice of the first image of each fold is counted again.

    Raises
    ------
    StoreError : if they tell of different blends.
    """
    honest = "fixed" if decision.how == "fixed" else "nested" if decision.nested else "tuned"
    means = images.groupby(["fold", "class"])["dice"].mean()
    given = scores[(scores["class"] != "all") & scores["fold"].notna()].set_index(["fold", "class"])[honest]
    wrong = [key for key, mean in means.items() if abs(mean - given[key]) > NEARLY]
    out_of_fold = OutOfFold(Blended(made_on.blend, made_on.whether), made_on.truth)
    wrong += [
        row["fold"] for row in _first_images(images) if abs(row["dice"] - _dice(row, decision, out_of_fold)) > NEARLY
    ]
    if wrong:
        raise StoreError(
            f"{made_on.blend}: its images have other scores than the decision came with; delete the surface.zarr "
            "beside it and run again"
        )


def _first_images(images: pd.DataFrame) -> list[dict[str, Any]]:
    first = images.groupby("fold")["image"].transform("first")
    return images[images["image"] == first].to_dict("records")


def _dice(row: Mapping[str, Any], decision: Decision, images: OutOfFold) -> float:
    blended = images.blended
    number, plane = _row_of(blended, row["image"]), blended.classes.index(row["class"])
    image = slice(number, number + 1)
    mask = decision.rule_for(row["fold"]).masks(blended.planes(image)[0], blended.evidence(image))[plane]
    true = images.truth(number)[plane]
    total = int(mask.sum()) + int(true.sum())
    return 2 * int(np.logical_and(mask, true).sum()) / total if total else 1.0


def _row_of(blended: Blended, name: str) -> int:
    if name not in blended.ids:
        raise StoreError(f"{blended.path}: has no image {name}, which has a score; delete it and run again")
    return blended.ids.index(name)


def require_masks(
    path: str | Path, content: Content, blended: Blended, decision: Decision, form: SubmissionForm
) -> None:
    """Make the masks of some images again, and compare them with a submission.

    Parameters
    ----------
    path, content : the submission, and what it holds.
    blended : the test images, with what tells of presence.
    decision : that of the ensemble.
    form : of the submission.

    Raises
    ------
    DamagedFileError : if a row differs, or is of no image or class of the blend.
    """
    names = [[form.name(image, name) for name in blended.classes] for image in blended.ids]
    leaves_out_empty = form.entry.empty == "no row"
    if strangers := content.masks.keys() - itertools.chain(*names):
        raise files.damaged(path, f"{min(strangers)} is of no image and class of {blended.path}")
    asked = [row for row, each in enumerate(names) if not content.masks.keys().isdisjoint(each)]
    for row in sorted({*asked[:SAMPLED], *asked[-SAMPLED:]}):
        image = slice(row, row + 1)
        texts = decision.rule.texts(blended.planes(image), blended.evidence(image))
        for name, text in zip(names[row], map(same_runs, texts), strict=True):
            if content.masks.get(name, "" if leaves_out_empty else text) != text:
                raise files.damaged(path, f"{name} is not the mask that {blended.path} has under decision.yaml")


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "none"
