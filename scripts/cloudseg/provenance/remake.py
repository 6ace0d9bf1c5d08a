"""Make a submission again from its stored models: predict, blend, decide and write, beside the results."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from cloudseg.config.decoders import CLASSIFIER
from cloudseg.config.model import Dataset
from cloudseg.dataset.black import Black, build_black
from cloudseg.dataset.contest import ContestFolder
from cloudseg.dataset.images_table import read_images
from cloudseg.ensemble.blending import blend_stores
from cloudseg.ensemble.decide_blend import Stores, decision_of
from cloudseg.ensemble.decision import Decision, DecisionRule
from cloudseg.ensemble.submission import write_submission
from cloudseg.ensemble.surface import measure
from cloudseg.ensemble.whether import write_whether
from cloudseg.errors import DatasetError
from cloudseg.inference.predict import PredictionJob, made_with, predict
from cloudseg.provenance import here
from cloudseg.provenance.find import Known
from cloudseg.provenance.record import Member, Provenance, Training
from cloudseg.storage import files, per_image, stores
from cloudseg.storage.class_values import values_path

STAMP = "made_with.json"


def remake(
    known: Known,
    names: Sequence[str],
    out: str | Path,
    *,
    scratch: Path,
    device: torch.device,
    codes: dict[str, int],
    root: str | Path = ".",
    threads: int = 1,
) -> list[str]:
    """Write a submission anew from the models in the results, which are only read.

    A stop in the middle leaves the predictions that were made in ``scratch``, and the next call goes on from there.

    Parameters
    ----------
    known : its provenance and the results; nothing may lack there (:func:`cloudseg.provenance.here.lacking`).
    names : of the rows, in their order.
    out : the file to write.
    scratch : folder for the stores.
    device : where networks compute.
    codes : numbers of the code.
    root : the folder of the images here, where they are the user's.
    threads : of what the networks do not compute; the result does not depend on them.

    Returns
    -------
    list of str : what came out otherwise on the way.
    """
    provenance = known.provenance
    begin(scratch, {"sha256": provenance.csv.sha256, "device": device.type, **made_with(codes["prediction"], device)})
    for split in here.splits_needed(provenance):
        for member in provenance.predicted(split):
            predict_member(known, member, split, scratch, device, codes["prediction"])
        black = _black(known, split, scratch, root, threads, codes["dataset"]) if provenance.black else None
        _blend(known, split, scratch, black, threads, codes["ensemble"])
    decision = _decision(known, scratch, threads)
    blended = _stores(known, scratch, "test")
    ids, form = per_image.ids(stores.read(blended.blend)), known.form
    pair_of = {form.name(image, label): (image, label) for image in ids for label in provenance.images.classes}
    rows = [pair_of[name] for name in names]
    write_submission(blended.blend, decision.rule, rows, out, whether=blended.whether, form=form.entry, threads=threads)
    return [f"decided otherwise: {line}" for line in differing_rules(provenance, decision)]


def begin(scratch: Path, stamp: dict[str, Any]) -> None:
    """Make the folder, and empty it if other code, libraries or processors began what lies there."""
    text = json.dumps(stamp, sort_keys=True) + "\n"
    path = scratch / STAMP
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        shutil.rmtree(scratch, ignore_errors=True)
    files.write_text(path, text)


def predict_member(known: Known, member: Member, split: str, scratch: Path, device: torch.device, code: int) -> None:
    """Predict a split with one checkpoint, unless an earlier call has done so."""
    provenance = known.provenance
    if _store_file(scratch, member, split).is_dir():  # only finished stores have their name
        return
    training = training_of(known, member)
    print(f"{member.run}/{member.checkpoint} {split}", flush=True)
    job = PredictionJob(
        checkpoints={member.checkpoint: here.checkpoint_file(known, member.run, member.checkpoint)},
        pixels=here.pixels_file(known, split, training.size),
        outputs=_outputs(known, member, split, scratch),
        recipe=training.recipe_of(member.predictions[split]),
        size=tuple(provenance.images.submission_size),
        folds=None if split == "test" else known.results / "dataset/folds.tsv",
        fold=member.fold,
        threads=provenance.prediction_threads,
        code=code,
        network={"encoder": training.encoder, "decoder": training.decoder},
    )
    predict(job, device)


def _outputs(known: Known, member: Member, split: str, scratch: Path) -> dict[str, Path]:
    """Return the stores that a checkpoint predicts: a head says its values at once with the planes, if there are any.

    Both are made for the first member that asks for one of them. Planes that no member asks for lie there, too.
    """
    planes = _planes_file(scratch, member, split)
    outputs = {member.checkpoint: planes} if training_of(known, member).decoder != CLASSIFIER else {}
    heads = {(each.run, each.checkpoint) for each in known.provenance.classifiers(split)}
    has_values = (member.run, member.checkpoint) in heads
    return outputs | ({f"{member.checkpoint}_values": values_path(planes)} if has_values else {})


def training_of(known: Known, member: Member) -> Training:
    """Return the training of a member's run."""
    return next(each for each in known.provenance.trainings if each.run == member.run)


def _planes_file(scratch: Path, member: Member, split: str) -> Path:
    return scratch / "runs" / member.run / f"{member.checkpoint}-{split}.zarr"


def _store_file(scratch: Path, member: Member, split: str) -> Path:
    planes = _planes_file(scratch, member, split)
    return values_path(planes) if member.gives == "values" else planes


def _stores(known: Known, scratch: Path, split: str) -> Stores:
    """Return the stores that a split is blended into, beside the truth, which only out-of-fold images have."""
    whether = scratch / f"{split}-whether.zarr" if known.provenance.whether else None
    return Stores(scratch / f"{split}.zarr", known.results / "dataset/truth.zarr", whether)


def _black(known: Known, split: str, scratch: Path, root: str | Path, threads: int, code: int) -> Black:
    """Return where images are black, made anew if that is gone from the results."""
    provenance, path = known.provenance, here.black_file(known, split)
    if not path.exists():
        path, raw, images = scratch / path.name, here.raw_folder(known, root), here.images_of(split)
        folder = ContestFolder(raw, Dataset.model_validate(provenance.config["dataset"]).layout)
        build_black(
            read_images(here.images_file(known, split), folder, images),
            folder,
            path,
            split=images,
            grey=provenance.black.grey,
            size=tuple(provenance.images.submission_size),
            threads=threads,
            code=code,
        )
        if stores.read(path).attrs["data"] != provenance.black.data.get(split):
            raise DatasetError(f"{raw}: other {images} images than then, so it is not known where those were black")
    return Black(path)


def _blend(known: Known, split: str, scratch: Path, black: Black | None, threads: int, code: int) -> None:
    """Blend the members of each role."""
    provenance, out = known.provenance, _stores(known, scratch, split)
    options: dict[str, Any] = {
        "folds": None if split == "test" else provenance.score.folds,
        "classes": provenance.images.classes,
        "size": tuple(provenance.images.submission_size),
        "sharpen": provenance.sharpen,
        "black": black,
        "allow_squeezed": True,  # it was blended then
        "threads": threads,
        "code": code,
    }
    planes = _to_blend(provenance.blended(split), scratch, split)
    blend_stores(*planes, out.blend, levels=provenance.levels(split), **options)
    if out.whether is not None:
        planes = _to_blend(provenance.blended(split, "whether"), scratch, split)
        value_paths, value_members = _to_blend(provenance.classifiers(split), scratch, split)
        write_whether(*planes, out.whether, value_paths=value_paths, value_members=value_members, **options)


def _to_blend(members: Sequence[Member], scratch: Path, split: str) -> tuple[list[Path], list[dict[str, Any]]]:
    """Return the stores of some members, and name, fold and weight of each."""
    return [_store_file(scratch, member, split) for member in members], [member.in_blend(split) for member in members]


def _decision(known: Known, scratch: Path, threads: int) -> Decision:
    """Return the decision, chosen anew where it was chosen."""
    provenance = known.provenance
    rule, classes = DecisionRule(**provenance.decision.rule), provenance.images.classes
    if provenance.search is not None:
        rule = rule.of_power(provenance.sharpen)
    if rule.how == "fixed":
        return Decision(rule.how, 0, rule.fixed(classes), sharpen=rule.sharpen)
    made_on = _stores(known, scratch, "valid")
    surface = measure(
        made_on.blend,
        made_on.truth,
        folds=provenance.score.folds,
        min_sizes=provenance.decision.min_sizes,
        threads=threads,
    )
    return decision_of(made_on, rule, classes=classes, surface=surface, threads=threads)


def differing_rules(provenance: Provenance, decision: Decision) -> Iterator[str]:
    """Yield the classes that are decided otherwise than then, and how."""
    then, now = provenance.decision.plain["classes"], decision.plain()["classes"]
    for name in then:
        if apart := here.apart(_of_bytes(then[name]), _of_bytes(now[name])):
            yield f"{name}: {', '.join(apart)}"


def _of_bytes(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rule of a class as `decision.yaml` has it, without thresholds, which are for the reader."""
    return {
        name: _of_bytes(value) if isinstance(value, Mapping) else value
        for name, value in plain.items()
        if name not in ("threshold", "sharpened")
    }
