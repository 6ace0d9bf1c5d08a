"""The page that shows what a submission was made from, and how to make it again."""

import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from cloudseg.ensemble.plane_scores import PlaneScore
from cloudseg.postprocess import NOTHING
from cloudseg.provenance.record import BlendFacts, Member, Provenance, Training
from cloudseg.report.page import Column, Table, write_page
from cloudseg.texts import in_words, number_of

SHORT = 12  # digits of a digest that are shown
UNKNOWN = "not recorded"
HOW = {
    "fixed": "decided by fixed numbers",
    "nested": "thresholds and minimum sizes of each fold chosen on the other folds",
    "on itself": "thresholds and minimum sizes chosen on the images that are scored",
    "none": "no image is out of fold",
}
ROLES = {"where": "where a class is", "whether": "whether it is there"}
KEYS = {"exclude": "dataset.exclude", "table": "folds.table", "file": "folds.file"}
BY_HEAD = "whether it is there, by its classification head"


def write_provenance_page(provenance: Provenance, out: str | Path) -> None:
    """Write the page.

    Parameters
    ----------
    provenance : of a submission.
    out : the page.
    """
    csv = provenance.csv
    write_page(
        out,
        "provenance.html",
        title="Where the submission comes from",
        lead=f"Ensemble {provenance.ensemble} of the config {provenance.results_name}: {csv.rows:,} rows, "
        f"{csv.filled:,} of them with a mask.",
        score=score_in_words(provenance),
        optimistic=provenance.score.optimistic,
        unscored=unscored_in_words(provenance.unscored),
        digests=_digests(provenance),
        chain=_chain(provenance),
        differences=differences(provenance),
        unrecorded=unrecorded(provenance),
        members=_members(provenance),
        trainings=_trainings(provenance),
        decision=_decision(provenance),
        versions=_versions(provenance),
        commands=commands(provenance),
        config=yaml.safe_dump(provenance.config, sort_keys=False, allow_unicode=True),
        sheet=_sheet(provenance),
    )


def unscored_in_words(unscored: str | None) -> str:
    """Say that some members have no out-of-fold score; nothing where all have one.

    Examples
    --------
    >>> unscored_in_words("2 of 6"), unscored_in_words(None)
    ('2 of 6 members were trained on all images and have no out-of-fold score: the score is that of the others.', '')
    """
    if unscored is None:
        return ""
    return (
        f"{unscored} members were trained on all images and have no out-of-fold score: the score is that of the others."
    )


def score_in_words(provenance: Provenance) -> str:
    """Return the score to expect, and how it came about.

    Examples
    --------
    >>> from types import SimpleNamespace as Value
    >>> score = Value(dice=0.78587, how="fixed", images=51, folds=[0, 1], expected=None)
    >>> score_in_words(Value(score=score))
    'Dice 0.7859 on 51 images of 2 folds that no member has seen: decided by fixed numbers.'
    """
    score = provenance.score
    if score.dice is None:
        return "No score: no image is out of fold for all members."
    images, folds = number_of(score.images, "image"), number_of(len(score.folds), "fold")
    text = f"Dice {score.dice:.4f} on {images} of {folds} that no member has seen: {HOW[score.how]}."
    return text if score.expected is None else f"{text} At the config's class rates: {score.expected:.4f}."


def differences(provenance: Provenance) -> list[str]:
    """Say what differs between the members, and between them and what made the submission.

    Returns
    -------
    list of str : empty where all trainings are alike in what should not differ.
    """
    trainings = provenance.all_trainings
    looked_at: dict[str, Callable[[Training], str]] = {
        "commits": lambda each: each.commit or UNKNOWN,
        "numbers of the training's code": lambda each: str(each.code),
        "processors or GPUs": lambda each: ", ".join([*each.devices, *filter(None, [each.processor])]),
        "kinds of arithmetic": lambda each: each.precision,
        "images, labels or folds": lambda each: f"{each.size} {each.data[:SHORT]}",
        "seeds": lambda each: str(each.seed),
        **{
            f"versions of {name}": lambda each, name=name: each.versions.get(name, UNKNOWN)
            for name in dict.fromkeys(name for each in trainings for name in each.versions)
        },
    }
    lines = []
    for what, value in looked_at.items():
        # A replicate has its own seed, as it should
        values = Counter(value(each) for each in trainings if what != "seeds" or not each.is_replicate)
        if what == "images, labels or folds":
            values = Counter(value(each) for each in trainings if not _trains_on_test(each))
            # Each size has a store, and a digest, of its own
            sizes = Counter(key.split()[0] for key in values)
            values = Counter({key: count for key, count in values.items() if sizes[key.split()[0]] > 1})
        if len(values) > 1:
            named = "; ".join(f"{_short(key)} ({count})" for key, count in values.most_common())
            lines.append(f"{len(values)} {what} among the trainings: {named}.")
    otherwise = [each for each in trainings if each.otherwise]
    for each in otherwise[:5]:
        lines.append(f"{each.run} was trained otherwise than the config says now: {', '.join(each.otherwise)}.")
    if len(otherwise) > 5:
        lines.append(f"{len(otherwise) - 5} more were, too.")
    dirty = [each for each in trainings if (each.commit or "").endswith("-dirty")]
    if dirty:
        lines.append(f"{len(dirty)} of {len(trainings)} trainings ran code with changes that no commit has (-dirty).")
    unknown = [each for each in provenance.all_predictions if each.device is None]
    if unknown:
        lines.append(
            f"{len(unknown)} predictions cannot be confirmed: their stores name settings that are not those of the "
            "images and recipes that are there now."
        )
    return lines


def _trains_on_test(training: Training) -> bool:
    """Return whether test images train, too, so that its images and labels are others than those of the rest."""
    return training.pseudo is not None or training.recipe.get("brightness") is not None


def unrecorded(provenance: Provenance) -> list[str]:
    """Say what jobs of earlier code did not record."""
    silent = sum(each.processor is None for each in provenance.all_trainings)
    predictions = provenance.all_predictions
    unknown = sum(each.made_with is None for each in predictions)
    lines = [f"the kind of processor of {silent} of {len(provenance.all_trainings)} trainings"] if silent else []
    return lines + ([f"what made {unknown} of {len(predictions)} predictions"] if unknown else [])


def commands(provenance: Provenance) -> list[tuple[str, str]]:
    """Return what to type to look at the submission, and to make it again: what for, and the command."""
    smoke = " smoke=true" if provenance.smoke else ""
    path = f"results/{provenance.results_name}/ensembles/{provenance.ensemble}/submission.csv"
    call = f"snakemake reproduce --config csv={shlex.quote(path)}"
    return [
        ("From the stored models: predict, blend, decide and write it again, and compare the bytes", call),
        ("From the images, where models are gone: train them again first", f"{call} train=true"),
        ("That all files are as their jobs left them", f"snakemake verify{' --config' + smoke if smoke else ''}"),
    ]


def _short(digest: str) -> str:
    """Return a digest or a commit as it is shown, the mark of changes included."""
    kept, mark, _ = digest.partition("-dirty")
    is_digest = len(kept) >= 40 and all(letter in "0123456789abcdef" for letter in kept)
    return f"{kept[:SHORT]}{mark}" if is_digest else digest


def _short_column(head: str, digests: Sequence[str | None], **more: Any) -> Column:
    return Column(head, [_short(each or "") for each in digests], whole=[each or "" for each in digests], **more)


def _digests(provenance: Provenance) -> Table:
    csv = provenance.csv
    rows = {
        "the file, byte by byte": csv.sha256,
        "its masks, however the file is written": csv.content,
        "the names of its rows, in order": csv.names,
    }
    return Table(
        [Column("what", list(rows)), Column("SHA-256", list(rows.values()))],
        "The first one tells whether a file is this one; the second one also where somebody saved it anew.",
    )


def _chain(provenance: Provenance) -> Table:
    images, blends = provenance.images, provenance.blends
    predicted = Counter(
        _made_by(each.made_with) for member in provenance.members for each in member.predictions.values()
    )
    trained = Counter(f"code {each.code}" for each in provenance.all_trainings)
    ensemble = f"code {provenance.written_by.codes['ensemble']}"
    height, width = images.submission_size
    rows = [
        ("training images and labels", number_of(images.counts["train"], "image"), ", ".join(images.train), ""),
        ("test images", number_of(images.counts["test"], "image"), ", ".join(images.test), ""),
        ("folds", "table of folds", images.folds, ""),
        *((f"your {KEYS[name]}", "what it says", digest, "") for name, digest in (images.tables or {}).items()),
        ("networks", _trained(provenance), "", _most(trained)),
        ("predictions", number_of(len(provenance.members), "member"), "", _most(predicted)),
        *_further_links(provenance, ensemble),
        ("blend, out of fold", _images_of(blends["valid"], provenance), blends["valid"].run, ensemble),
        ("blend, test", _images_of(blends["test"], provenance), blends["test"].run, ensemble),
        ("decision", provenance.decision.plain["how"], provenance.decision.sha256, ensemble),
        ("submission", f"{provenance.csv.rows:,} rows on {height}x{width}", provenance.csv.sha256, ensemble),
    ]
    links, what, digests, made_with = zip(*rows, strict=True)
    return Table(
        [Column("link", links), Column("what", what), _short_column("digest", digests), Column("made with", made_with)],
        "Checked when this record was written: checkpoints by the digests that training and prediction recorded, "
        "blends, masks and labels of test images by making some again, the decision by choosing it again, scores by "
        "the Dice of single images.",
    )


def _trained(provenance: Provenance) -> str:
    """Return how many networks were trained, and how many of them for the others alone."""
    earlier = len(provenance.earlier or ())
    return f"{len(provenance.all_trainings)} trained{f', {earlier} of them for the others' if earlier else ''}"


def _images_of(blend: BlendFacts, provenance: Provenance) -> str:
    """Return how many images a blend has, and what it is where it is no mean."""
    images = number_of(blend.images, "image")
    return images if provenance.levels("test") is None else f"{images}, a vote of the members' masks"


def _further_links(provenance: Provenance, ensemble: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield the links that only some ensembles have."""
    for labels in provenance.pseudo or ():
        made_by = f"{number_of(labels.images, 'test image')}, by {number_of(len(labels.members), 'checkpoint')}"
        yield f"labels {labels.name}", f"{made_by} of the ensemble {labels.ensemble}", labels.run, ensemble
    if provenance.black is not None:
        what = f"0 where all bands of an image are at most {provenance.black.grey}"
        yield "black", what, ", ".join(sorted(provenance.black.data.values())), ""
    if provenance.search is not None:
        plain = provenance.search.plain
        power = plain["all"]["power"]
        chosen = f"{len(plain['all']['counts'])} of {number_of(len(plain['candidates']), 'candidate')} chosen"
        yield "search", f"{chosen}, p to the power {1 if power is None else power}", provenance.search.sha256, ensemble
    for split, name in (("valid", "out of fold"), ("test", "test")):
        if provenance.whether is not None:
            facts = provenance.whether[split]
            yield f"whether a class is there, {name}", number_of(facts.images, "image"), facts.run, ensemble


def _made_by(made_with: dict[str, Any] | None) -> str:
    if made_with is None:
        return UNKNOWN
    names = {"segmentation_models_pytorch": "smp"}
    told = {names.get(name, name): value for name, value in made_with.items() if name != "numcodecs"}
    return ", ".join(f"{name} {value}" for name, value in told.items() if len(str(value)) < 40)


def _most(values: Counter) -> str:
    if len(values) == 1:
        return next(iter(values))
    return "; ".join(f"{value} ({count})" for value, count in values.most_common(3))


def _members(provenance: Provenance) -> Table:
    members = provenance.members
    predictions = [next(iter(member.predictions.values())) for member in members]
    return Table(
        [
            Column("network", [member.run for member in members]),
            Column("checkpoint", [member.checkpoint for member in members]),
            Column("says", [BY_HEAD if member.gives else ROLES.get(member.role) for member in members]),
            Column("% of the blend", _shares(members, "test"), digits=2, bar=True),
            # A search weighs members otherwise for each fold; else the column above says it all
            Column(
                "% out of fold", _shares(members, "valid") if provenance.search else [None for _ in members], digits=2
            ),
            Column("votes from level", [_votes(member, "test") for member in members], help="of each class; 0 to 255"),
            Column("out of fold from level", [_votes(member, "valid") for member in members]),
            _short_column("SHA-256 of the checkpoint", [member.sha256 for member in members]),
            Column("predicted on", [each.device or "not confirmed" for each in predictions]),
            Column("precision", [(each.precision or "").removeprefix("torch.") for each in predictions]),
            Column("images at once", [each.batch for each in predictions]),
            Column("prediction made with", [_made_by(each.made_with) for each in predictions]),
        ],
        _about_members(provenance),
    )


def _about_members(provenance: Provenance) -> str:
    lines = [
        "One row per checkpoint whose probabilities of the test images are blended. A run's folder ends with the fold "
        "that it has not seen."
    ]
    if provenance.unscored is not None:
        lines.append(
            "The run foldall has seen all images; it shares the weight of its experiment as one more fold does."
        )
    if provenance.search is not None:
        lines.append(
            "Weights were searched for: those of test images on all folds, and those of the images of a fold, of which "
            "only members that have not seen it are blended, on the others. Without a share, a member was not chosen."
        )
    if provenance.levels("test") is not None:
        lines.append("Masks are counted in place of probabilities: a member votes for a pixel from its own level on.")
    if provenance.whether is not None:
        lines.append(
            "Members say where a class is or whether it is there; shares are of the members that say the same."
        )
    if provenance.classifiers("test"):
        lines.append("Classification heads have shares among themselves; the decision says what they weigh together.")
    return " ".join(lines)


def _shares(members: Sequence[Member], split: str) -> list[float | None]:
    """Return what each member weighs, in percent: of the members that say the same of a test image, or of a fold's."""

    def group(member: Member) -> tuple[Any, ...]:
        return member.role, member.gives, None if split == "test" else member.fold

    weights = [member.weight if split == "test" else member.valid_weight for member in members]
    totals: Counter[tuple[Any, ...]] = Counter()
    for member, weight in zip(members, weights, strict=True):
        totals[group(member)] += weight or 0
    return [
        None if weight is None else 100 * weight / totals[group(member)]
        for member, weight in zip(members, weights, strict=True)
    ]


def _votes(member: Member, split: str) -> str | None:
    levels = (member.levels or {}).get(split)
    return None if levels is None else ", ".join(map(str, levels))


def _trainings(provenance: Provenance) -> Table:
    trainings = provenance.all_trainings
    seconds = sum(each.seconds for each in trainings)
    return Table(
        [
            Column("network", [each.run for each in trainings]),
            Column("fold", [each.fold for each in trainings]),
            Column("taken for", [_taken_for(each, provenance) for each in trainings]),
            Column("starts from", [each.start_run for each in trainings]),
            Column("labels of test images", [each.pseudo for each in trainings]),
            Column("epochs", [each.epochs for each in trainings]),
            Column("best epoch", [each.best_epoch for each in trainings]),
            Column("seconds", [each.seconds for each in trainings], digits=1, bar=True),
            Column("M parameters", [each.parameters / 1e6 for each in trainings], digits=1),
            Column("device", [_counted(each.devices) for each in trainings]),
            Column("processor", [each.processor or UNKNOWN for each in trainings]),
            Column("precision", [each.precision for each in trainings]),
            Column("seed", [str(each.seed) for each in trainings]),
            Column("code", [str(each.code) for each in trainings], help="number of the training's code (CODE)"),
            _short_column("commit", [each.commit or UNKNOWN for each in trainings]),
            Column(
                "initial weights", [each.start for each in trainings], whole=[each.start_sha256 for each in trainings]
            ),
            _short_column("images, labels, folds", [each.data for each in trainings]),
            Column("torch", [each.versions.get("torch", UNKNOWN) for each in trainings]),
        ],
        f"{number_of(len(trainings), 'training')} took {in_words(seconds)} in all.",
    )


def _taken_for(training: Training, provenance: Provenance) -> str | None:
    """Return what a network gave where it is of no member; None where it is of one."""
    if training.run in provenance.run_names:
        return None
    gives = {
        "weights": [each.start_run for each in provenance.all_trainings],
        "labels": [teacher.run for labels in provenance.pseudo or () for teacher in labels.members],
        "epochs": [run for each in provenance.all_trainings for run in each.epochs_of or ()],
    }
    return ", ".join(name for name, runs in gives.items() if training.run in runs)


def _counted(names: Sequence[str]) -> str:
    return ", ".join(f"{count} x {name}" if count > 1 else name for name, count in Counter(names).items())


def _decision(provenance: Provenance) -> Table:
    plain = provenance.decision.plain
    rows = [("all images", name, cut) for name, cut in plain["classes"].items()]
    for fold, cuts in plain.get("nested", {}).items():
        rows += [(f"fold {fold}, to score it", name, cut) for name, cut in cuts.items()]
    cuts = [row[2] for row in rows]
    return Table(
        [
            Column("for", [row[0] for row in rows]),
            Column("class", [row[1] for row in rows]),
            Column("counts from", [_presence(cut) for cut in cuts]),
            Column("and pixels of the top level", [_plane_min(cut) for cut in cuts]),
            Column("level", [_level(cut) for cut in cuts], help="of 0 to 255; what decides"),
            Column("probability", [None if "steps" in cut else cut["threshold"] for cut in cuts]),
            Column("sharpened", [None if "steps" in cut else cut.get("sharpened") for cut in cuts]),
            Column("minimum size, pixels", [cut["min_size"] for cut in cuts]),
            Column("with a pixel of level", [cut.get("high") for cut in cuts]),
            Column("holes", ["filled" if cut.get("fill_holes") else None for cut in cuts]),
        ],
        " ".join(["A pixel is in from its level on; components below the minimum size go.", *_best(plain)]),
    )


def _presence(cut: dict[str, Any]) -> str | None:
    """Return from which score on a plane counts."""
    presence = cut.get("presence")
    if presence is None:
        return None
    score = PlaneScore.read(presence["score"])
    threshold = presence.get("threshold")
    numerator = f"numerator {presence['at_least']:,}"
    return f"{score}: {numerator if threshold is None else f'{threshold:.4f} ({numerator})'}"


def _plane_min(cut: dict[str, Any]) -> str | None:
    top = cut.get("plane_min")
    return None if top is None else f"{number_of(top['area'], 'pixel')} from level {top['level']} on"


def _level(cut: dict[str, Any]) -> Any:
    levels = [level for _, level in cut.get("steps", []) if level != NOTHING]
    return f"{min(levels)} to {max(levels)}, by the score of the plane" if levels else cut["level"]


def _best(plain: dict[str, Any]) -> Iterator[str]:
    if plain.get("best") == "always":
        yield "The class with the highest score of an image always counts."
    elif plain.get("best") == "if_empty":
        yield "Where no class of an image counts, the one with the highest score does."


def _versions(provenance: Provenance) -> Table:
    found: dict[tuple[str, str, str], int] = Counter()
    for training in provenance.all_trainings:
        found.update(("trainings", name, version) for name, version in training.versions.items())
    for member in provenance.members:
        for each in member.predictions.values():
            found.update(("predictions", name, str(version)) for name, version in (each.made_with or {}).items())
    written = provenance.written_by
    found.update(("this record", name, version) for name, version in written.versions.items())
    found[("this record", "commit", written.commit or UNKNOWN)] += 1
    rows = sorted(found.items())
    return Table(
        [
            Column("of", [key[0] for key, _ in rows]),
            Column("what", [key[1] for key, _ in rows]),
            _short_column("version", [key[2] for key, _ in rows]),
            Column("how many", [count for _, count in rows]),
        ],
    )


def _sheet(provenance: Provenance) -> Table:
    heads = dict.fromkeys(head for row in provenance.sheet for head in row)
    return Table([Column(head, [row.get(head) for row in provenance.sheet]) for head in heads])
