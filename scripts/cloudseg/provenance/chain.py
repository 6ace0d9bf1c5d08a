"""Follow the chain from a submission back to the images, and write down what it was made from."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

import cloudseg
from cloudseg.config.recipe import Recipe
from cloudseg.ensemble.decision import Decision, DecisionRule
from cloudseg.ensemble.score_tables import read_image_scores, read_scores
from cloudseg.inference.settings import prediction_settings, settings_digest
from cloudseg.provenance import links
from cloudseg.provenance.content import read_content
from cloudseg.provenance.record import (
    SCHEMA_VERSION,
    BlendFacts,
    DecisionFacts,
    Images,
    Member,
    Prediction,
    Provenance,
    Score,
    Training,
    Writer,
)
from cloudseg.runtime import checkout
from cloudseg.storage import files, records, stores
from cloudseg.training.finished import differences
from cloudseg.training.record import RunRecord

PRECISIONS = "torch.float32", "torch.bfloat16", "torch.float16"
PACKAGES = "numpy", "numba", "zarr"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ensemble:
    """An ensemble whose submission was made: its files, and what the plan says of it.

    Parameters
    ----------
    submission, decision, scores, images, parts, surface : its files.
    truth : the labels on the submission grid.
    blends : its store by split.
    stores : by split, the stores that are blended.
    members : by split, name, fold and weight of each of them.
    runs : per run its `name`, `folder`, `size`, recipe name (`recipe`), what the config asks of its training
        (`wanted`), what prediction needs of its recipe (`prediction`), and its pixel store by split (`pixels`).
    folds : the table of folds.
    logs : the folder of the logs.
    facts : of the plan: `config_name`, `ensemble`, `smoke`, `rule`, `min_sizes`, `sharpen`, `allow_squeezed`,
        `valid_folds`, `classes`, `submission_size`, `threads`, `config`, `sheet`.
    """

    submission: str
    decision: str
    scores: str
    images: str
    parts: str
    surface: str
    truth: str
    blends: Mapping[str, str]
    stores: Mapping[str, Sequence[str]]
    members: Mapping[str, Sequence[Mapping[str, Any]]]
    runs: Sequence[Mapping[str, Any]]
    folds: str
    logs: Path
    facts: Mapping[str, Any]


def provenance_of(ensemble: Ensemble, codes: Mapping[str, int]) -> Provenance:
    """Return the provenance of an ensemble's submission.

    Checkpoints are not read again: the digest in a run's record, the one that its training recorded for its outputs,
    and the one that each prediction took of the file that it read must be the same.

    Parameters
    ----------
    ensemble : the ensemble.
    codes : numbers of the code that runs.

    Raises
    ------
    DamagedFileError : if a link of the chain does not hold, with the file and what to do.
    """
    facts = ensemble.facts
    name, classes = facts["ensemble"], facts["classes"]
    links.refuse_edited(ensemble.submission, ensemble.logs / "submit" / f"{name}.log")
    decided = links.refuse_edited(ensemble.decision, ensemble.logs / "decide" / f"{name}.log")
    content = read_content(ensemble.submission)
    decision = links.require_decision(ensemble.decision, ensemble.surface, classes, DecisionRule(**facts["rule"]))
    links.require_masks(ensemble.submission, content, ensemble.blends["test"], decision)
    blended = {
        split: links.require_blend(path, ensemble.stores[split], ensemble.members[split], facts["sharpen"])
        for split, path in ensemble.blends.items()
    }
    scores, images = read_scores(ensemble.scores, decision), read_image_scores(ensemble.images, decision)
    links.require_scores(scores, images, decision, ensemble.blends["valid"], ensemble.truth)
    chain = _Chain(ensemble, {split: predicted for split, (_, predicted) in blended.items()})
    return Provenance(
        schema_version=SCHEMA_VERSION,
        config_name=facts["config_name"],
        ensemble=name,
        smoke=facts["smoke"],
        csv=content.facts,
        score=_score(ensemble, scores, decision),
        decision=DecisionFacts(
            sha256=decided, plain=_plain(decision), rule=facts["rule"], min_sizes=facts["min_sizes"]
        ),
        sharpen=facts["sharpen"],
        allow_squeezed=facts["allow_squeezed"],
        blends={
            split: BlendFacts(run=attributes["run"], images=len(attributes["ids"]))
            for split, (attributes, _) in blended.items()
        },
        members=list(chain.members()),
        trainings=[chain.training(run) for run in ensemble.runs],
        prediction_threads=facts["threads"],
        images=chain.images(),
        config=facts["config"],
        sheet=facts["sheet"],
        written_by=Writer(
            commit=checkout.commit(),
            codes=dict(codes),
            versions=checkout.versions(PACKAGES) | {"cloudseg": cloudseg.__version__},
        ),
    )


def _plain(decision: Decision) -> dict[str, Any]:
    """Return what decision.yaml holds, with text as keys, as JSON has them."""
    plain = decision.plain()
    return plain | ({"nested": {str(fold): cuts for fold, cuts in plain["nested"].items()}} if decision.nested else {})


class _Chain:
    """Reads each file of an ensemble once."""

    def __init__(self, ensemble: Ensemble, predicted: Mapping[str, Sequence[links.Predicted]]) -> None:
        self.ensemble = ensemble
        self.predicted = predicted  # by split, in the order of the stores
        self.runs = {run["name"]: run for run in ensemble.runs}
        self.records = {name: links.read_run(run["folder"]) for name, run in self.runs.items()}
        self._known_settings: dict[str, tuple[str, str, int]] = {}

    @functools.cached_property
    def pixels(self) -> dict[tuple[str, str], dict[str, Any]]:
        """The attributes of each pixel store, by split and size."""
        found = {(split, run["size"]): path for run in self.ensemble.runs for split, path in run["pixels"].items()}
        return {key: stores.read(path).attrs.asdict() for key, path in found.items()}

    @functools.cached_property
    def data(self) -> dict[str, str]:
        """By size, the digest of the training images, their labels and the split, as a training records it."""
        folds = Path(self.ensemble.folds).read_text(encoding="utf-8")
        attributes = {size: found for (split, size), found in self.pixels.items() if split == "train"}
        return {size: files.digest({"pixels": found, "folds": folds}) for size, found in attributes.items()}

    def images(self) -> Images:
        """Return what is known of the images."""
        facts = self.ensemble.facts
        digests = {
            split: sorted({found["data"] for (own, _), found in self.pixels.items() if own == split})
            for split in ("train", "test")
        }
        return Images(
            classes=list(facts["classes"]),
            submission_size=list(facts["submission_size"]),
            train=digests["train"],
            test=digests["test"],
            counts={split: len(found["ids"]) for (split, _), found in self.pixels.items()},
            folds=files.sha256(self.ensemble.folds),
        )

    def members(self) -> Iterator[Member]:
        """Yield the members, in the order in which test images are blended."""
        weights = {
            split: {each["store"]: each["weight"] for each in own} for split, own in self.ensemble.members.items()
        }
        predictions = {split: self._predictions(split) for split in weights}
        for member in self.ensemble.members["test"]:
            store = member["store"]
            run, _, checkpoint = store.rpartition("/")
            yield Member(
                run=run,
                fold=member["fold"],
                checkpoint=checkpoint,
                sha256=self.records[run].sha256[checkpoint],
                weight=member["weight"],
                valid_weight=weights["valid"].get(store),
                predictions={
                    split: predictions[split][store] for split in ("test", "valid") if store in weights[split]
                },
            )

    def _predictions(self, split: str) -> dict[str, Prediction]:
        """Return the predictions of a split by the name of their store."""
        members, paths = self.ensemble.members[split], self.ensemble.stores[split]
        return {
            member["store"]: self._prediction(member["store"], split, path, predicted)
            for member, path, predicted in zip(members, paths, self.predicted[split], strict=True)
        }

    def _prediction(self, store: str, split: str, path: str, predicted: links.Predicted) -> Prediction:
        run, _, checkpoint = store.rpartition("/")
        links.require_checkpoint(path, predicted, checkpoint, self.records[run])
        device, precision, batch = self._settings(run, split, predicted.settings) or (None, None, None)
        return Prediction(
            settings=predicted.settings,
            device=device,
            precision=precision,
            batch=batch,
            made_with=records.read_made_with(Path(path).with_name(f"predict-{split}.log")),
        )

    def _settings(self, run: str, split: str, digest: str) -> tuple[str, str, int] | None:
        """Return the device, precision and batch that a store's digest of its settings is of, if it is of any.

        Its images, views and normalisation are then those that are there now. Most members share their settings.
        """
        recipe = Recipe(**self.runs[run]["prediction"])
        key = files.digest([split, self.runs[run]["size"], self.runs[run]["prediction"], digest])
        if key not in self._known_settings:
            pixels = self.pixels["test" if split == "test" else "train", self.runs[run]["size"]]
            for device, precision, batch in _candidates(self.records[run], recipe):
                settings = prediction_settings(
                    pixels,
                    recipe,
                    tuple(self.ensemble.facts["submission_size"]),
                    precision=precision,
                    threads=self.ensemble.facts["threads"],
                    device=device,
                )
                if settings_digest(settings, batch) == digest:
                    self._known_settings[key] = device, precision, batch
                    break
        return self._known_settings.get(key)

    def training(self, run: Mapping[str, Any]) -> Training:
        """Return the facts of a training."""
        record = self.records[run["name"]]
        otherwise = differences(record, run["wanted"])
        if record.data != self.data[run["size"]]:
            otherwise.append("images, labels or folds: others than those that are there now")
        return Training(
            run=run["name"],
            encoder=record.encoder,
            decoder=record.decoder,
            size=run["size"],
            recipe_name=run["recipe"],
            fold=record.fold,
            recipe=record.recipe,
            start=Path(record.weights.path).stem,
            start_sha256=record.weights.sha256,
            data=record.data,
            seed=record.seed,
            threads=record.threads,
            code=record.code,
            precision=record.precision,
            batch=record.batch.model_dump(mode="json"),
            devices=[f"{device.device} {device.name}" for device in record.devices],
            processor=record.processor,
            versions=record.versions,
            commit=record.commit,
            parameters=record.parameters,
            epochs=record.epochs.run,
            best_epoch=record.epochs.best,
            seconds=record.seconds,
            checkpoints=record.sha256,
            otherwise=otherwise,
            prediction_recipe=run["prediction"],
        )


def _candidates(record: RunRecord, recipe: Recipe) -> Iterator[tuple[str, str, int]]:
    """Yield device, precision and batch of a prediction, likely ones first: as it was trained, the batch not halved."""
    devices = dict.fromkeys([*(device.device for device in record.devices), "cpu", "cuda"])
    precisions = dict.fromkeys([f"torch.{record.precision}", *PRECISIONS])
    whole = recipe.micro_batch or recipe.batch
    for times in range(whole.bit_length()):
        for device in devices:
            for precision in precisions:
                yield device, precision, whole >> times


def _score(ensemble: Ensemble, scores: pd.DataFrame, decision: Decision) -> Score:
    whole = scores[(scores["class"] == "all") & scores["fold"].isna()]
    checkpoints = {member["store"].rpartition("/")[2] for member in ensemble.members["test"]}
    optimistic = (
        ["the checkpoints named best were chosen on the images that are scored"] if "best" in checkpoints else []
    )
    expected = files.read_table(ensemble.parts, dtype={"class": str, "fold": str})
    expected = expected[(expected["class"] == "all") & (expected["fold"] == "all")]["expected"]
    if whole.empty:
        how = "none"
    elif decision.how == "fixed":
        how = "fixed"
    else:
        how = "nested" if decision.has_honest_score else "on itself"
    if how == "on itself":
        optimistic.append("thresholds and minimum sizes were chosen on the images that are scored")
    column = {"fixed": "fixed", "nested": "nested", "on itself": "tuned"}.get(how)
    return Score(
        dice=None if column is None else float(whole[column].iloc[0]),
        how=how,
        optimistic=optimistic if column else [],
        images=decision.n_images,
        folds=list(ensemble.facts["valid_folds"]),
        expected=float(expected.iloc[0]) if len(expected) and expected.notna().all() else None,
    )
