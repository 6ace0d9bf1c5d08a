"""Whether what a submission was made from is here, and what is otherwise here than it was then."""

import dataclasses
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cloudseg.dataset.contents import digest_files
from cloudseg.dataset.contest import Split
from cloudseg.errors import UserError
from cloudseg.provenance.find import Known
from cloudseg.provenance.record import Member, Prediction, Provenance, Training
from cloudseg.storage import files, per_image, stores
from cloudseg.training.record import RunRecord

MOST = 5  # differences of a kind that are named


@dataclasses.dataclass(frozen=True)
class Lacking:
    """What must be there to make a submission again from stored models, and is not.

    Parameters
    ----------
    runs : of which a checkpoint is gone or another one, with the reason.
    other : what else lacks, in words.
    earlier : the runs that those go back to of which a checkpoint is gone or another one; they are needed only where
        networks are trained again.
    """

    runs: Mapping[str, str]
    other: Sequence[str]
    earlier: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __bool__(self) -> bool:
        """Return whether anything lacks."""
        return bool(self.runs or self.other)

    @property
    def to_train(self) -> dict[str, str]:
        """The runs that must be trained to make it from the images, with the reasons."""
        return {**self.runs, **self.earlier}


def splits_needed(provenance: Provenance) -> list[str]:
    """Return the splits that must be predicted: a decision that was chosen needs the out-of-fold images, too."""
    return ["test"] if provenance.decision.rule["how"] == "fixed" else ["test", "valid"]


def members_needed(provenance: Provenance) -> list[Member]:
    """Return the members that must predict; one that a search chose for out-of-fold images alone may not."""
    splits = splits_needed(provenance)
    return [member for member in provenance.members if any(split in member.predictions for split in splits)]


def checkpoint_file(known: Known, run: str, checkpoint: str) -> Path:
    """Return a checkpoint of a run."""
    return known.results / "runs" / run / f"{checkpoint}.safetensors"


def images_of(split: str) -> Split:
    """Return which images are predicted for a split: validation images are training images."""
    return "test" if split == "test" else "train"


def pixels_file(known: Known, split: str, size: str) -> Path:
    """Return the store of the images that are predicted for a split."""
    return known.results / "dataset" / images_of(split) / f"{size}.zarr"


def black_file(known: Known, split: str) -> Path:
    """Return the store of where these images are black."""
    return known.results / "dataset" / f"black-{images_of(split)}-{known.provenance.black.grey}.zarr"


def images_file(known: Known, split: str) -> Path:
    """Return the table of these images."""
    return known.results / "dataset" / f"{images_of(split)}.tsv"


def raw_folder(known: Known, root: str | Path) -> Path:
    """Return the folder of the images: made by the workflow, or where the config here says that the user's lie."""
    provenance = known.provenance
    is_made = provenance.smoke or provenance.config["dataset"]["source"] != "path"
    return known.results / "dataset/raw" if is_made else Path(root)


def lacking(known: Known, root: str | Path = ".") -> Lacking:
    """Find out what lacks. Every checkpoint is read, and its digest compared with that of the one that predicted.

    Parameters
    ----------
    known : the provenance and its results.
    root : the folder of the images here, where they are the user's.
    """
    provenance = known.provenance
    # Members of two roles may share a checkpoint
    needed = {(member.run, member.checkpoint): member.sha256 for member in members_needed(provenance)}
    runs = _without(known, needed)
    earlier = {run: why for run, why in _without(known, _given(provenance)).items() if run not in runs}
    return Lacking(runs, [*_lacking_images(known), *_lacking_black(known, root)], earlier)


def _given(provenance: Provenance) -> dict[tuple[str, str], str]:
    """Return the digests of the checkpoints that trainings go back to, and of all of the runs that are of no member."""
    trained = {training.run: training for training in provenance.all_trainings}
    starts = [(each.start_run, "last") for each in trained.values() if each.start_run]
    teachers = [(teacher.run, teacher.checkpoint) for labels in provenance.pseudo or () for teacher in labels.members]
    earlier = [(each.run, checkpoint) for each in provenance.earlier or () for checkpoint in each.checkpoints]
    # A strange record may not have the digest that its own names ask for
    return {(run, name): trained[run].checkpoints.get(name, "") for run, name in (*starts, *teachers, *earlier)}


def _without(known: Known, checkpoints: Mapping[tuple[str, str], str]) -> dict[str, str]:
    """Return the runs of which a checkpoint is gone or has another digest, with the reason."""
    paths = [str(checkpoint_file(known, *key)) for key in checkpoints]
    runs: dict[str, str] = {}
    for path, ((run, _), then), digest in zip(paths, checkpoints.items(), digest_files(paths), strict=True):
        if not digest:
            runs.setdefault(run, f"{path} is not there")
        elif digest != then:
            reason = f"{path} is not the file of then (SHA-256 {digest[:12]}, not {then[:12]})"
            runs.setdefault(run, reason)
    return runs


def _lacking_images(known: Known) -> Iterator[str]:
    provenance = known.provenance
    needed = {member.run for member in members_needed(provenance)}
    sizes = sorted({training.size for training in provenance.trainings if training.run in needed})
    for split in splits_needed(provenance):
        digests = provenance.images.test if split == "test" else provenance.images.train
        for size in sizes:
            yield from _other_data(pixels_file(known, split, size), digests)
    if "valid" in splits_needed(provenance):
        folds = known.results / "dataset/folds.tsv"
        if not folds.is_file() or files.sha256(folds) != provenance.images.folds:
            yield f"{folds}: {'other folds than then' if folds.is_file() else 'is not there'}"
        yield from _other_data(known.results / "dataset/truth.zarr", provenance.images.train)


def _other_data(path: Path, digests: Sequence[str]) -> Iterator[str]:
    """Yield why a store of images or labels is not one of then; of a store without a digest nothing is known."""
    try:
        data = stores.read(path).attrs.get("data")
    except UserError as error:
        yield str(error)
        return
    if data not in (None, *digests):
        known = ", ".join(digest[:12] for digest in digests)
        yield f"{path}: of other images or labels than then (data {data[:12]}, not {known})"


def _lacking_black(known: Known, root: str | Path) -> Iterator[str]:
    """Yield why it is not known where images are black: their stores are made anew where only those are gone."""
    black = known.provenance.black
    for split in splits_needed(known.provenance) if black else []:
        path = black_file(known, split)
        if not path.exists():
            made_of = images_file(known, split), raw_folder(known, root)
            gone = [str(each) for each in made_of if not each.exists()]
            if gone:
                yield f"{path} is not there, nor what it is made of: {', '.join(gone)}"
            continue
        try:
            attributes = stores.read(path).attrs
        except UserError as error:
            yield str(error)
            continue
        if (attributes["data"], attributes["grey"]) != (black.data.get(split), black.grey):
            yield f"{path}: of other images than then, or another grey value; delete it, and it is made anew"


def training_seconds(provenance: Provenance, runs: Mapping[str, str]) -> float:
    """Return how many seconds the trainings of some runs took."""
    return sum(training.seconds for training in provenance.all_trainings if training.run in runs)


def doubts(provenance: Provenance, here: Mapping[str, Any], codes: Mapping[str, int], device: str) -> list[str]:
    """Say why the same bytes may not come out here.

    Parameters
    ----------
    provenance : of the submission.
    here : what predictions here are made with, as stores record it.
    codes : numbers of the code here.
    device : ``cpu`` or ``cuda``, where networks would compute.
    """
    predictions = [each for member in provenance.members for each in member.predictions.values()]
    lines = list(_other_code(provenance, predictions, codes))
    for name in sorted(here.keys() - {"code", "numcodecs"}):
        then = {str(each.made_with[name]) for each in predictions if each.made_with and name in each.made_with}
        now = str(here[name])
        if not then:  # trainings record the number of a release alone, without the build behind `+`
            then, now = _of_trainings(provenance.trainings, name), now.partition("+")[0]
        if not then:
            lines.append(f"{name}: not recorded then, {now} here")
        elif others := sorted(then - {now}):
            lines.append(f"{name}: {', '.join(others)} then, {now} here")
    if others := sorted({each.device for each in predictions if each.device} - {device}):
        lines.append(f"predicted on {', '.join(others)} then, on {device} here: last bits differ")
    if unknown := sum(each.device is None for each in predictions):
        lines.append(f"{unknown} predictions were made with settings that their stores do not tell")
    return lines


def _other_code(provenance: Provenance, predictions: Sequence[Prediction], codes: Mapping[str, int]) -> Iterator[str]:
    written_by = provenance.written_by.codes
    then = {
        "prediction": {each.made_with["code"] for each in predictions if each.made_with} or {written_by["prediction"]},
        "ensemble": {written_by["ensemble"]},
    }
    for stage, numbers in then.items():
        if others := sorted(numbers - {codes[stage]}):
            yield f"code of the {stage}: {', '.join(map(str, others))} then, {codes[stage]} here"


def _of_trainings(trainings: Sequence[Training], name: str) -> set[str]:
    """Return what trainings recorded of a library or the processor, where predictions recorded nothing."""
    if name == "processor":
        return {each.processor for each in trainings if each.processor}
    package = name.replace("_", "-")
    return {each.versions[package] for each in trainings if package in each.versions}


def changed_since(known: Known, config: Mapping[str, Any], commit: str | None) -> list[str]:
    """Say what was changed since, and does not count for making the same bytes from the stored models."""
    provenance = known.provenance
    lines = [*_other_labels(known)]
    for run, differing in _other_trainings(provenance, known.results):
        path = known.results / "runs" / run / "run.json"
        lines.append(f"{path} does not say any more what it said: {_few(differing)}")
    if config.get("name") == provenance.config_name and (differing := apart(provenance.config, config)):
        lines.append(f"the config {provenance.config_name} is another one now: {_few(differing)}")
    if commit != provenance.written_by.commit:
        lines.append(f"commit: {_short(provenance.written_by.commit)} then, {_short(commit)} here")
    return lines


def trained_otherwise(provenance: Provenance, results: Path) -> list[str]:
    """Say how trainings that were made again differ from those of then, but for what changes no byte.

    And which of them took the fastest algorithms, by which no two trainings have the same bits.
    """
    changes_nothing = {"seconds", "commit"}
    fastest = [run for run, record in _trained(provenance, results) if record.deterministic is False]
    return [
        *(
            f"{run} was trained otherwise: {_few(differing)}"
            for run, differing in _other_trainings(provenance, results, changes_nothing)
        ),
        *(
            f"{run} was trained without `deterministic: true`: two such trainings differ in last bits"
            for run in fastest
        ),
    ]


def _trained(provenance: Provenance, results: Path) -> Iterator[tuple[str, RunRecord]]:
    """Yield the records that are there of the trainings of a submission."""
    for training in provenance.all_trainings:
        try:
            record = RunRecord.read(results / "runs" / training.run / "run.json")
        except (OSError, ValueError):
            continue
        yield training.run, record


def _other_trainings(
    provenance: Provenance, results: Path, left_out: Container[str] = ()
) -> Iterator[tuple[str, list[str]]]:
    """Yield the runs whose records in a folder of results say otherwise than then, and how."""
    known = {training.run: training for training in provenance.all_trainings}
    for run, record in _trained(provenance, results):
        pair = known[run], record
        then, now = ({name: fact for name, fact in facts_of(each).items() if name not in left_out} for each in pair)
        if differing := apart(then, now):
            yield run, differing


def _other_labels(known: Known) -> Iterator[str]:
    """Say which labels of test images are there and others than then; what is gone is made anew where it is needed."""
    for labels in known.provenance.pseudo or ():
        file = f"{labels.recipe}/{labels.size}-fold{labels.fold}.zarr"
        path = known.results / "ensembles" / labels.ensemble / "pseudo" / file
        if path.exists():
            try:
                stores.verify(path)
                attributes = stores.read(path).attrs
            except UserError as error:
                yield str(error)
                continue
            if (attributes["run"], per_image.image_count(attributes)) != (labels.run, labels.images):
                yield f"{path}: labels of others, or by others, than then"


def facts_of(record: Training | RunRecord) -> dict[str, Any]:
    """Return what both forms of a training's record say."""
    names = ("encoder", "decoder", "fold", "recipe", "seed", "threads", "code", "data", "precision", "versions")
    facts = {name: getattr(record, name) for name in (*names, "commit", "processor", "seconds", "parameters")}
    start = record.start_sha256 if isinstance(record, Training) else record.weights.sha256
    return _flat(facts | {"initial weights": start[:12]})


def apart(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say which plain values differ, those of mappings within by their path, and how.

    Examples
    --------
    >>> apart({"level": 128, "presence": {"at_least": 7}}, {"level": 128, "presence": {"at_least": 9}, "high": 200})
    ['presence.at_least 7 -> 9', 'high nothing -> 200']
    """
    then, now = _flat(then), _flat(now)
    names = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    return [f"{name} {_in_words(then.get(name))} -> {_in_words(now.get(name))}" for name in names]


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping):
        inner = [_flat(item, f"{name}.{key}" if name else str(key)) for key, item in value.items()]
        return {key: item for part in inner for key, item in part.items()}
    return {name: list(value) if isinstance(value, tuple) else value}


def _in_words(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _few(lines: Sequence[str]) -> str:
    more = f" and {len(lines) - MOST} more" if len(lines) > MOST else ""
    return ", ".join(lines[:MOST]) + more


def _short(commit: str | None) -> str:
    return "none" if commit is None else commit[:12] + ("-dirty" if commit.endswith("-dirty") else "")
