"""Make a submission again from its stored models: predict, blend, decide and write, beside the results."""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from cloudseg.config.recipe import Recipe
from cloudseg.dataset.contest import split_label
from cloudseg.ensemble.blending import blend_stores
from cloudseg.ensemble.deciding import decide
from cloudseg.ensemble.decision import DecisionRule
from cloudseg.ensemble.submission import write_submission
from cloudseg.ensemble.surface import measure
from cloudseg.inference.predict import PredictionJob, made_with, predict
from cloudseg.postprocess import Cut
from cloudseg.provenance.find import Known
from cloudseg.provenance.here import checkpoint_file, pixels_file, splits_needed
from cloudseg.provenance.record import Member, Prediction, Provenance, Training
from cloudseg.storage import files, stores

STAMP = "made_with.json"


def remake(
    known: Known,
    names: Sequence[str],
    out: str | Path,
    *,
    scratch: Path,
    device: torch.device,
    codes: dict[str, int],
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
    threads : of what the networks do not compute; the result does not depend on them.

    Returns
    -------
    list of str : what came out otherwise on the way.
    """
    provenance = known.provenance
    begin(scratch, {"sha256": provenance.csv.sha256, "device": device.type, **made_with(codes["prediction"], device)})
    for split in splits_needed(provenance):
        for member in provenance.blended(split):
            predict_member(known, member, split, scratch, device, codes["prediction"])
        _blend(provenance, split, scratch, threads, codes["ensemble"])
    cuts = _cuts(known, scratch, threads)
    test = _blend_file(scratch, "test")
    ids = set(stores.read(test).attrs["ids"])
    rows = [split_label(name, ids, provenance.images.classes) for name in names]
    write_submission(test, cuts, rows, out, threads=threads)
    return [f"decided otherwise: {line}" for line in differing_cuts(provenance, cuts)]


def begin(scratch: Path, stamp: dict[str, Any]) -> None:
    """Make the folder, and empty it if other code, libraries or processors began what lies there."""
    text = json.dumps(stamp, sort_keys=True) + "\n"
    path = scratch / STAMP
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        shutil.rmtree(scratch, ignore_errors=True)
    files.write_text(path, text)


def predict_member(known: Known, member: Member, split: str, scratch: Path, device: torch.device, code: int) -> None:
    """Predict a split with one checkpoint, unless an earlier call has done so."""
    out = _store_file(scratch, member, split)
    if out.is_dir():  # only finished stores have their name
        return
    provenance = known.provenance
    training = next(each for each in provenance.trainings if each.run == member.run)
    print(f"{member.run}/{member.checkpoint} {split}", flush=True)
    job = PredictionJob(
        checkpoints={member.checkpoint: checkpoint_file(known, member)},
        pixels=pixels_file(known, split, training.size),
        outputs={member.checkpoint: out},
        recipe=recipe_of(training, member.predictions[split]),
        size=tuple(provenance.images.submission_size),
        folds=None if split == "test" else known.results / "dataset/folds.tsv",
        fold=member.fold,
        threads=provenance.prediction_threads,
        code=code,
        network={"encoder": training.encoder, "decoder": training.decoder},
    )
    predict(job, device)


def recipe_of(training: Training, prediction: Prediction) -> Recipe:
    """Return the recipe of a prediction, with the arithmetic and the batch that it had: `auto` may mean others here."""
    recipe = Recipe(**training.prediction_recipe)
    if prediction.device is None:
        return recipe
    words = {"torch.float32": "float32", "torch.bfloat16": "bf16", "torch.float16": "fp16"}
    return recipe.model_copy(update={"precision": words[prediction.precision], "micro_batch": prediction.batch})


def _store_file(scratch: Path, member: Member, split: str) -> Path:
    return scratch / "runs" / member.run / f"{member.checkpoint}-{split}.zarr"


def _blend_file(scratch: Path, split: str) -> Path:
    return scratch / f"{split}.zarr"


def _blend(provenance: Provenance, split: str, scratch: Path, threads: int, code: int) -> None:
    blend_stores(
        [_store_file(scratch, member, split) for member in provenance.blended(split)],
        provenance.blend_members(split),
        _blend_file(scratch, split),
        folds=None if split == "test" else provenance.score.folds,
        classes=provenance.images.classes,
        size=tuple(provenance.images.submission_size),
        sharpen=provenance.sharpen,
        allow_squeezed=True,  # it was blended then
        threads=threads,
        code=code,
    )


def _cuts(known: Known, scratch: Path, threads: int) -> dict[str, Cut]:
    """Return the decision, chosen anew where it was chosen."""
    provenance = known.provenance
    rule, classes = DecisionRule(**provenance.decision.rule), provenance.images.classes
    if rule.how == "fixed":
        return rule.fixed_cuts(classes)
    surface = measure(
        _blend_file(scratch, "valid"),
        known.results / "dataset/truth.zarr",
        folds=provenance.score.folds,
        min_sizes=provenance.decision.min_sizes,
        threads=threads,
    )
    decision, _ = decide(*surface, classes=classes, rule=rule)
    return dict(decision.cuts)


def differing_cuts(provenance: Provenance, cuts: dict[str, Cut]) -> Iterator[str]:
    """Yield the classes that are decided otherwise than then."""
    for name, then in provenance.decision.plain["classes"].items():
        cut = cuts[name]
        if (cut.level, cut.min_size) != (then["level"], then["min_size"]):
            yield f"{name}: level {then['level']} -> {cut.level}, min_size {then['min_size']} -> {cut.min_size}"
