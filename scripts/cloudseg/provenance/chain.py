"""Follow the chain from a submission back to the images, and write down what it was made from."""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

import cloudseg
from cloudseg.config.fold_names import ALL
from cloudseg.config.recipe import Recipe
from cloudseg.config.recipe_parts import Pseudo
from cloudseg.dataset.black import Black
from cloudseg.dataset.labels.submission import SubmissionForm
from cloudseg.ensemble.blended import Blended
from cloudseg.ensemble.decide_blend import Stores
from cloudseg.ensemble.decision import Decision, DecisionRule
from cloudseg.ensemble.ingredients import Ingredients, candidates_of, ingredients_of
from cloudseg.ensemble.score_tables import read_image_scores, read_scores
from cloudseg.ensemble.selection import Selection
from cloudseg.inference.settings import prediction_settings, settings_digest
from cloudseg.provenance import links
from cloudseg.provenance.content import Content, read_content
from cloudseg.provenance.record import (
    FURTHER_VERSION,
    RUNS_VERSION,
    SCHEMA_VERSION,
    BlackFacts,
    BlendFacts,
    DecisionFacts,
    Images,
    Member,
    Prediction,
    Provenance,
    PseudoLabels,
    Role,
    Score,
    SearchFacts,
    Teacher,
    Training,
    Writer,
)
from cloudseg.runtime import checkout
from cloudseg.storage import files, per_image, records, stores
from cloudseg.training.all_images import median_of_best
from cloudseg.training.data_digest import data_digest
from cloudseg.training.finished import differences
from cloudseg.training.record import RunRecord

PRECISIONS = "torch.float32", "torch.bfloat16", "torch.float16"
PACKAGES = "numpy", "numba", "zarr"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Blend:
    """What members say of the images of a split together, and what the plan says that it is made of.

    Parameters
    ----------
    path : its store: of the blend or, of members that are asked for presence alone, what these leave of theirs.
    stores : of the members that the config's queries select.
    members : name, fold and weight of each; of a search its `candidate`.
    values : the stores of classification heads, where such take part.
    value_members : name, fold and weight of each likewise.
    voters : where members vote, the decision of each, in the order of `stores`.
    black : where images are black, if that counts.
    """

    path: str
    stores: Sequence[str]
    members: Sequence[Mapping[str, Any]]
    values: Sequence[str] = ()
    value_members: Sequence[Mapping[str, Any]] = ()
    voters: Sequence[str] = ()
    black: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Labels:
    """Labels that networks of one fold made of test images, and what the plan says of them.

    Parameters
    ----------
    path : their store.
    stores : of the members that made them.
    asked : `ensemble`, `recipe`, `size` and `fold`, which name them; `settings` and `min_area`, how they are chosen and
        made; and `members`, name, fold and weight of each store.
    """

    path: str
    stores: Sequence[str]
    asked: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What they are called among those of all ensembles."""
        return "{ensemble}/{recipe}/{size}/fold{fold}".format(**self.asked)

    @property
    def teachers(self) -> list[str]:
        """The runs that made them, once each."""
        return list(dict.fromkeys(member["store"].rpartition("/")[0] for member in self.asked["members"]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ensemble:
    """An ensemble whose submission was made: its files, and what the plan says of it.

    Parameters
    ----------
    submission, decision, scores, images, parts, surface : its files.
    truth : the labels on the submission grid.
    blends : by split, the blend that becomes masks.
    whether : by split, what the members say that are asked for presence alone; empty where there are none.
    selection : what a search chose; None where none was asked for.
    runs : per run its `name`, `folder`, `size`, recipe name (`recipe`), what the config asks of its training
        (`wanted`), what prediction needs of its recipe (`prediction`), its pixel store by split (`pixels`) and, of one
        that has seen all images, the names of the runs that say for how many epochs (`folds_before`). Where it starts
        from another run, that one's name (`start_run`); where test images train, too, at which size (`test_size`), and
        the name of their labels (`pseudo`).
    earlier : the runs, of no member, that those go back to, likewise; their `pixels` are of training images alone.
    labels : the labels of test images that any of the runs trains on.
    test_images : the pixel stores, by size, of test images that train or that are labelled.
    weights : by encoder and name, the files of initial weights that are those of another run.
    folds : the table of folds.
    logs : the folder of the logs.
    facts : of the plan: `config_name`, `ensemble`, `smoke`, `rule`, `min_sizes`, `sharpen`, `allow_squeezed`,
        `valid_folds`, `classes`, `submission_size`, `threads`, `config`, `sheet`; and, only where asked for, `search`,
        `black` and `tables`.
    """

    submission: str
    decision: str
    scores: str
    images: str
    parts: str
    surface: str
    truth: str
    blends: Mapping[str, Blend]
    whether: Mapping[str, Blend] = dataclasses.field(default_factory=dict)
    selection: str | None = None
    runs: Sequence[Mapping[str, Any]]
    earlier: Sequence[Mapping[str, Any]] = ()
    labels: Sequence[Labels] = ()
    test_images: Mapping[str, str] = dataclasses.field(default_factory=dict)
    weights: Mapping[str, str] = dataclasses.field(default_factory=dict)
    folds: str
    logs: Path
    facts: Mapping[str, Any]

    @property
    def by_role(self) -> dict[Role, Mapping[str, Blend]]:
        """The blends of each role, by split."""
        return {"where": self.blends} | ({"whether": self.whether} if self.whether else {})

    @property
    def voters(self) -> list[str]:
        """The decisions of members that vote, once each."""
        return list(dict.fromkeys(voter for blend in self.blends.values() for voter in blend.voters))

    @property
    def presence(self) -> dict[str, str | None]:
        """By split, the store that tells of presence; None where the blend does."""
        return {split: self.whether[split].path if self.whether else None for split in self.blends}

    @property
    def rule(self) -> DecisionRule:
        """How the config asks for the blend to be decided."""
        return DecisionRule(**self.facts["rule"])


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
    facts, found = ensemble.facts, _found(ensemble)
    chain = _Chain(ensemble, found.blended)
    members = list(chain.members())
    trainings = [chain.training(run) for run in chain.runs.values()]
    earlier = [chain.training(run) for run in chain.earlier.values()]
    pseudo = [chain.labelled(labels) for labels in chain.labels]
    images = chain.images()
    links.require_truth(ensemble.truth, images.train)
    return Provenance(
        schema_version=_version(ensemble, members, [*trainings, *earlier]),
        config_name=facts["config_name"],
        ensemble=facts["ensemble"],
        smoke=facts["smoke"],
        csv=found.content.facts,
        score=_score(ensemble, found, members, chain),
        decision=DecisionFacts(
            sha256=files.sha256(ensemble.decision),
            plain=_as_json(found.decision.plain()),
            rule=facts["rule"],
            min_sizes=facts["min_sizes"],
        ),
        sharpen=found.sharpen,
        allow_squeezed=facts["allow_squeezed"],
        blends=found.facts_of("where"),
        members=members,
        trainings=trainings,
        prediction_threads=facts["threads"],
        images=images,
        config=facts["config"],
        sheet=facts["sheet"],
        written_by=Writer(
            commit=checkout.commit(),
            codes=dict(codes),
            versions=checkout.versions(PACKAGES) | {"cloudseg": cloudseg.__version__},
        ),
        whether=found.facts_of("whether") if ensemble.whether else None,
        search=_search_facts(ensemble, found.selection),
        black=_black_facts(ensemble),
        earlier=earlier or None,
        pseudo=pseudo or None,
    )


def _version(ensemble: Ensemble, members: Sequence[Member], trainings: Sequence[Training]) -> int:
    """Return the first version whose code understands the record."""
    further = any(member.checkpoint == "average" or member.gives for member in members)
    if further or any(each.fold == ALL or each.is_replicate or each.pseudo for each in trainings):
        return RUNS_VERSION
    return FURTHER_VERSION if _says_more(ensemble) else SCHEMA_VERSION


def _says_more(ensemble: Ensemble) -> bool:
    """Return whether more than one mean, a level and a minimum size is asked for."""
    asked = ensemble.whether, ensemble.selection, ensemble.voters, "black" in ensemble.facts
    return any(asked) or not ensemble.rule.is_of_surface


class _Blended(NamedTuple):
    """A blend, and what it has been found to be made of."""

    attributes: dict[str, Any]
    made_of: Ingredients
    predicted: list[links.Predicted]  # in the order of the stores
    values_predicted: list[links.Predicted]  # likewise, of classification heads


class _Found(NamedTuple):
    """What the files of an ensemble say, after each of their links was looked at."""

    content: Content
    selection: Selection | None
    blended: dict[Role, dict[str, _Blended]]
    decision: Decision
    scores: pd.DataFrame

    @property
    def sharpen(self) -> float | None:
        """The power of p that is averaged."""
        return self.blended["where"]["test"].made_of.sharpen

    def facts_of(self, role: Role) -> dict[str, BlendFacts]:
        """Return the facts of the blends of a role."""
        return {
            split: BlendFacts(run=each.attributes["run"], images=len(each.attributes["ids"]))
            for split, each in self.blended[role].items()
        }


def _found(ensemble: Ensemble) -> _Found:
    """Read the files of an ensemble, each after those that it was made of, so that the first one at fault is named."""
    _refuse_edited(ensemble)
    form = SubmissionForm.of_config(ensemble.facts["config"], ensemble.facts["submission_size"])
    content = read_content(ensemble.submission, [form])
    selection = None
    if ensemble.selection is not None:
        selection = Selection.read(ensemble.selection, candidates_of(ensemble.blends["valid"].members))
    blended = {
        role: {split: _blended(ensemble, role, split) for split in by_split}
        for role, by_split in ensemble.by_role.items()
    }
    rule = ensemble.rule if selection is None else ensemble.rule.of_power(selection.chosen.power)
    made_on = Stores(ensemble.blends["valid"].path, ensemble.truth, ensemble.presence["valid"])
    decision = links.require_decision(ensemble.decision, made_on, ensemble.surface, ensemble.facts["classes"], rule)
    test = Blended(ensemble.blends["test"].path, ensemble.presence["test"])
    links.require_masks(ensemble.submission, content, test, decision, form)
    scores, images = read_scores(ensemble.scores, decision), read_image_scores(ensemble.images, decision)
    links.require_scores(scores, images, decision, made_on)
    return _Found(content, selection, blended, decision, scores)


def _refuse_edited(ensemble: Ensemble) -> None:
    """Refuse files of the user's hand where their jobs' are expected."""
    logs, name = ensemble.logs, ensemble.facts["ensemble"]
    links.refuse_edited(ensemble.submission, logs / "submit" / f"{name}.log")
    for decided in (ensemble.decision, ensemble.scores, ensemble.images, ensemble.parts):
        links.refuse_edited(decided, logs / "decide" / f"{name}.log")
    if ensemble.selection is not None:
        links.refuse_edited(ensemble.selection, logs / "search" / f"{name}.log")
    for voter in ensemble.voters:
        links.refuse_edited(voter, logs / "decide" / f"{Path(voter).parent.name}.log")


def _blended(ensemble: Ensemble, role: Role, split: str) -> _Blended:
    """Return a blend, after blending some of its images again."""
    blend, facts = ensemble.by_role[role][split], ensemble.facts
    made_of = ingredients_of(
        blend.stores,
        blend.members,
        facts["sharpen"],
        split=split,
        classes=facts["classes"],
        selection=ensemble.selection if role == "where" else None,
        voters=blend.voters,
    )
    black = None
    if blend.black is not None:
        black = Black(blend.black)
        links.require_black(black, facts["black"])
    if role == "where":
        attributes = links.require_blend(blend.path, made_of, black)
    else:
        heads = list(blend.values), [dict(member) for member in blend.value_members]
        attributes = links.require_whether(blend.path, made_of, black, *heads)
    return _Blended(attributes, made_of, *map(links.predicted, (made_of.paths, blend.values)))


def _search_facts(ensemble: Ensemble, selection: Selection | None) -> SearchFacts | None:
    if selection is None:
        return None
    return SearchFacts(
        sha256=files.sha256(ensemble.selection), plain=_as_json(selection.plain()), asked=ensemble.facts["search"]
    )


def _black_facts(ensemble: Ensemble) -> BlackFacts | None:
    if "black" not in ensemble.facts:
        return None
    data = {split: stores.read(blend.black).attrs["data"] for split, blend in ensemble.blends.items()}
    return BlackFacts(grey=ensemble.facts["black"], data=data)


def _as_json(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain values as they are read from JSON, with text as keys."""
    return json.loads(json.dumps(plain))


class _Taken(NamedTuple):
    """A store that is blended for the images of a split."""

    member: dict[str, Any]
    prediction: Prediction
    levels: list[int] | None


class _Chain:
    """Reads each file of an ensemble once."""

    def __init__(self, ensemble: Ensemble, blended: Mapping[Role, Mapping[str, _Blended]]) -> None:
        self.ensemble = ensemble
        self.blended = blended
        taken = {member["store"].rpartition("/")[0] for member in self._blended_members()}
        self.runs = {run["name"]: run for run in ensemble.runs if run["name"] in taken}  # of a search, those it chose
        self._named = {run["name"]: run for run in (*ensemble.runs, *ensemble.earlier)}
        self._labels = {labels.name: labels for labels in ensemble.labels}
        earlier = self._gone_back_to()
        self.earlier = {name: run for name, run in self._named.items() if name in earlier}
        self.records = {name: links.read_run(run["folder"], name) for name, run in (self.runs | self.earlier).items()}
        self._known_settings: dict[str, tuple[str, str, int]] = {}

    def _blended_members(self) -> Iterator[Mapping[str, Any]]:
        for role, by_split in self.blended.items():
            for split, each in by_split.items():
                yield from (*each.made_of.members, *self.ensemble.by_role[role][split].value_members)

    def _gone_back_to(self) -> set[str]:
        """Return the names of the runs that those of the members go back to, without these."""
        found, left = set(self.runs), list(self.runs)
        while left:
            run = self._named[left.pop()]
            before = {*run.get("folds_before", ()), *([run["start_run"]] if "start_run" in run else ())}
            before |= {*(self._labels[run["pseudo"]].teachers if "pseudo" in run else ())}
            left += before - found
            found |= before
        return found - set(self.runs)

    @property
    def labels(self) -> list[Labels]:
        """The labels that any of the runs trains on."""
        taken = {run.get("pseudo") for run in (self.runs | self.earlier).values()}
        return [labels for name, labels in self._labels.items() if name in taken]

    @functools.cached_property
    def pixels(self) -> dict[tuple[str, str], dict[str, Any]]:
        """The attributes of each pixel store, by split and size."""
        runs = (self.runs | self.earlier).values()
        found = {("test", size): path for size, path in self.ensemble.test_images.items()}
        found |= {(split, run["size"]): path for run in runs for split, path in run["pixels"].items()}
        return {key: stores.read(path).attrs.asdict() for key, path in found.items()}

    def _data(self, run: Mapping[str, Any]) -> str:
        """Return the digest of what a run trains on, as a training records it."""
        test = run.get("test_size") and self.ensemble.test_images[run["test_size"]]
        pseudo = self._labels[run["pseudo"]].path if "pseudo" in run else None
        return self._digest(run["pixels"]["train"], test, pseudo)

    @functools.cached_property
    def _digest(self) -> Callable[[str, str | None, str | None], str]:
        """Return what makes the digest of some stores, once each."""
        folds = self.ensemble.folds
        return functools.cache(lambda pixels, test, pseudo: data_digest(pixels, folds, test=test, pseudo=pseudo))

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
            counts={split: per_image.image_count(found) for (split, _), found in self.pixels.items()},
            folds=files.sha256(self.ensemble.folds),
            tables=facts.get("tables"),
        )

    def members(self) -> Iterator[Member]:
        """Yield the members, role after role, in the order in which test images are blended; heads behind planes."""
        for role, by_split in self.ensemble.by_role.items():
            said = role if self.ensemble.whether else None
            taken = {split: self._taken(role, split) for split in ("test", "valid")}
            yield from _members_of(by_split["test"].members, taken, self.records, said)
            heads = {split: self._heads(role, split) for split in ("test", "valid")}
            yield from _members_of(by_split["test"].value_members, heads, self.records, said, gives="values")

    def _taken(self, role: Role, split: str) -> dict[str, _Taken]:
        """Return the stores that are blended for a split, by their names."""
        blended = self.blended[role][split]
        paths, members, _, levels = blended.made_of
        each = zip(paths, members, blended.predicted, levels or [None] * len(paths), strict=True)
        return {
            member["store"]: _Taken(member, self._prediction(member["store"], split, path, own), votes)
            for path, member, own, votes in each
        }

    def _heads(self, role: Role, split: str) -> dict[str, _Taken]:
        """Return the stores of classification heads that are blended for a split, by their names."""
        blend = self.ensemble.by_role[role][split]
        each = zip(blend.values, blend.value_members, self.blended[role][split].values_predicted, strict=True)
        return {
            member["store"]: _Taken(member, self._prediction(member["store"], split, path, own), None)
            for path, member, own in each
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
            made_with=records.read_made_with(Path(path).with_name(prediction_log(checkpoint, split))),
        )

    def _settings(self, run: str, split: str, digest: str) -> tuple[str, str, int] | None:
        """Return the device, precision and batch that a store's digest of its settings is of, if it is of any.

        Its images, views and normalisation are then those that are there now. Most members share their settings.
        """
        asked = self._named[run]
        recipe = Recipe(**asked["prediction"])
        key = files.digest([split, asked["size"], asked["prediction"], digest])
        if key not in self._known_settings:
            pixels = self.pixels["test" if split == "test" else "train", asked["size"]]
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
        if "start_run" in run:
            self._require_start(run, record)
        otherwise = differences(record, run["wanted"])
        if record.data != self._data(run):
            otherwise.append("images, labels or folds: others than those that are there now")
        otherwise += [*self._other_grid(record), *self._other_epochs(run, record)]
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
            start_run=run.get("start_run"),
            epochs_of=run.get("folds_before"),
            pseudo=run.get("pseudo"),
        )

    def heeds_validation(self, name: str) -> bool:
        """Whether the last epoch of a run, or of one that it starts from, depends on the images of its fold."""
        start = self._named[name].get("start_run")
        try:
            heeds = Recipe(**self.records[name].recipe).heeds_validation
        except ValueError:  # the record of another version
            heeds = False
        return heeds or (start is not None and self.heeds_validation(start))

    def _require_start(self, run: Mapping[str, Any], record: RunRecord) -> None:
        """Refuse initial weights that are not those that the run trained from, nor of the run that they come from."""
        name = f"{record.encoder}/{run['wanted']['start']}"
        path, start = self.ensemble.weights[name], self._named[run["start_run"]]["folder"]
        links.refuse_edited(path, self.ensemble.logs / "weights" / f"{name}.log")
        links.require_start(path, record, Path(start) / "last.safetensors", self.records[run["start_run"]])

    def labelled(self, labels: Labels) -> PseudoLabels:
        """Return the facts of labels of test images, after some of them were made again."""
        asked, facts = labels.asked, self.ensemble.facts
        attributes = links.require_labels(
            labels.path,
            labels.stores,
            asked["members"],
            Pseudo(**asked["settings"]),
            classes=facts["classes"],
            grid=tuple(facts["submission_size"]),
            min_area=asked["min_area"],
        )
        predicted = zip(asked["members"], labels.stores, links.predicted(labels.stores), strict=True)
        return PseudoLabels(
            **{name: asked[name] for name in ("ensemble", "recipe", "size", "fold", "settings", "min_area")},
            run=attributes["run"],
            images=len(attributes["ids"]),
            members=[self._teacher(*each) for each in predicted],
        )

    def _teacher(self, member: Mapping[str, Any], path: str, predicted: links.Predicted) -> Teacher:
        run, _, checkpoint = member["store"].rpartition("/")
        return Teacher(
            run=run,
            fold=member["fold"],
            checkpoint=checkpoint,
            sha256=self.records[run].sha256[checkpoint],
            weight=member["weight"],
            prediction=self._prediction(member["store"], "test", path, predicted),
        )

    def _other_grid(self, record: RunRecord) -> list[str]:
        """Say that the loss of a training was counted on another submission grid than there is now, if it was."""
        size = list(self.ensemble.facts["submission_size"])
        return [f"loss_size {record.loss_size} -> {size}"] if record.loss_size not in (None, size) else []

    def _other_epochs(self, run: Mapping[str, Any], record: RunRecord) -> list[str]:
        """Say that a training on all images took another number of epochs than its folds ask for now, if it did."""
        best = [self.records[name].epochs.best for name in run.get("folds_before", ())]
        epochs = median_of_best(Recipe(**run["wanted"]["recipe"]), best) if best else record.epochs.run
        return [f"epochs {record.epochs.run} -> {epochs}"] if record.epochs.run != epochs else []


def _members_of(
    members: Sequence[Mapping[str, Any]],
    taken: Mapping[str, Mapping[str, _Taken]],
    runs: Mapping[str, RunRecord],
    role: Role | None,
    gives: str | None = None,
) -> Iterator[Member]:
    """Yield the members that are blended for some split.

    Parameters
    ----------
    members : all that the plan has, in their order.
    taken : by split, the stores that are blended, by their names.
    runs : the record of each run.
    role, gives : of all of them.
    """
    for member in members:
        own = {split: each[member["store"]] for split, each in taken.items() if member["store"] in each}
        if not own:
            continue
        run, _, checkpoint = member["store"].rpartition("/")
        weights = {split: each.member["weight"] for split, each in own.items()}
        levels = {split: each.levels for split, each in own.items() if each.levels is not None}
        yield Member(
            run=run,
            fold=member["fold"],
            checkpoint=checkpoint,
            sha256=runs[run].sha256[checkpoint],
            weight=weights.get("test"),
            valid_weight=weights.get("valid"),
            predictions={split: each.prediction for split, each in own.items()},
            role=role,
            levels=levels or None,
            gives=gives,
        )


def prediction_log(checkpoint: str, split: str) -> str:
    """Return the name of the log of the job that predicts a split with a checkpoint, in the folder of its run."""
    return f"predict-average-{split}.log" if checkpoint == "average" else f"predict-{split}.log"


def _candidates(record: RunRecord, recipe: Recipe) -> Iterator[tuple[str, str, int]]:
    """Yield device, precision and batch of a prediction, likely ones first: as it was trained, the batch not halved."""
    devices = dict.fromkeys([*(device.device for device in record.devices), "cpu", "cuda"])
    precisions = dict.fromkeys([f"torch.{record.precision}", *PRECISIONS])
    whole = recipe.micro_batch or recipe.batch
    for times in range(whole.bit_length()):
        for device in devices:
            for precision in precisions:
                yield device, precision, whole >> times


def _score(ensemble: Ensemble, found: _Found, members: Sequence[Member], chain: _Chain) -> Score:
    scores, decision = found.scores, found.decision
    whole = scores[(scores["class"] == "all") & scores["fold"].isna()]
    expected = files.read_table(ensemble.parts, dtype={"class": str, "fold": str})
    expected = expected[(expected["class"] == "all") & (expected["fold"] == "all")]["expected"]
    if whole.empty:
        how = "none"
    elif decision.how == "fixed":
        how = "fixed"
    else:
        how = "nested" if decision.has_honest_score else "on itself"
    column = {"fixed": "fixed", "nested": "nested", "on itself": "tuned"}.get(how)
    return Score(
        dice=None if column is None else float(whole[column].iloc[0]),
        how=how,
        optimistic=list(_optimistic(ensemble, found, members, chain)) if column else [],
        images=decision.n_images,
        folds=list(ensemble.facts["valid_folds"]),
        expected=float(expected.iloc[0]) if len(expected) and expected.notna().all() else None,
    )


def _optimistic(ensemble: Ensemble, found: _Found, members: Sequence[Member], chain: _Chain) -> Iterator[str]:
    """Say what was chosen on the very images that are scored."""
    on_them = "chosen on the images that are scored"
    if "best" in {member.checkpoint for member in members}:
        yield f"the checkpoints named best were {on_them}"
    averaged = [chain.records[member.run].recipe["average"] for member in members if member.checkpoint == "average"]
    if any(average["of"] == "best" for average in averaged):
        yield f"the epochs that are averaged were {on_them}"
    if any(chain.heeds_validation(member.run) for member in members if member.checkpoint != "best"):
        yield f"when trainings end, or lower their rate, was {on_them}"
    if found.selection is not None:
        if not found.selection.nested:
            yield f"members and their weights were {on_them}"
        if len(ensemble.facts["search"]["sharpen"]) > 1:
            yield f"the power of p that is averaged was {on_them}"
    votes = ensemble.blends["valid"]
    for voter, member in zip(votes.voters, votes.members, strict=False):  # no voters where means are taken
        decision = Decision.read(voter, ensemble.facts["classes"])
        if decision.how != "fixed" and member["fold"] not in decision.nested:
            yield f"levels of members that vote were {on_them}"
            break
    if found.decision.how != "fixed" and not found.decision.nested:
        yield f"thresholds and minimum sizes were {on_them}"
