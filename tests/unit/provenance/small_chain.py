"""A whole chain on disk, small: images, runs with their predictions, an ensemble of them and its submission.

Networks are not trained: checkpoints are a few letters, and probabilities are noise. All else is made as jobs do.
"""

import dataclasses
import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import yaml
from run_records import write_record as write_run
from small_provenance import CODES
from small_stores import CLASSES, SIZE, planes, write

from cloudseg.dataset.black import Black, build_black
from cloudseg.dataset.images_table import read_images
from cloudseg.ensemble.blending import blend_stores
from cloudseg.ensemble.decide_blend import Stores, decide_blend
from cloudseg.ensemble.decision import Decision, DecisionRule
from cloudseg.ensemble.ingredients import ingredients_of
from cloudseg.ensemble.masking import ImageRule
from cloudseg.ensemble.score_tables import write_scores
from cloudseg.ensemble.scores import score_parts
from cloudseg.ensemble.selection import Choice, Score, Selection, Step
from cloudseg.ensemble.submission import write_submission
from cloudseg.ensemble.surface import read_surface, write_surface
from cloudseg.ensemble.whether import write_whether
from cloudseg.postprocess import Cut
from cloudseg.provenance.chain import Blend, Ensemble, provenance_of
from cloudseg.provenance.find import Known
from cloudseg.storage import files, records, stores

RESULTS = Path("results/tiny")
ENSEMBLE = RESULTS / "ensembles/all"
LOGS = RESULTS / "logs"
CLOUDS = Path("clouds")  # the user's images
GREY = 10
RULE = {"how": "fixed", "thresholds": [0.5, 0.45], "min_sizes": [10, 20], "tune_min_sizes": [0, 10, 20]}
MIN_SIZES = [0, 10, 20]
TRAIN_IDS = [f"{name}.jpg" for name in "abcdef"]
TEST_IDS = [f"{number}.jpg" for number in range(5)]
# What there is to be seen in them, 0 to 255: the truth is where it is more than 140; the first image of all has nothing
CLOUDY = {"train": planes(50, 6), "test": planes(51, 5)}
CLOUDY["train"][0] //= 2
# What a search chose: unet takes part out of fold alone
SELECTION = {
    None: Choice(0.5, (Step("fpn", 0.5), Step("fpn", 0.6))),
    0: Choice(0.5, (Step("unet", 0.5, 0.4), Step("fpn", 0.6, 0.5))),
    1: Choice(0.5, (Step("fpn", 0.5, 0.4),)),
}
# Levels at which members vote, and those that each fold is voted on with
VOTES = {None: (100, 120), 0: (90, 140), 1: (130, 110)}


@dataclasses.dataclass(frozen=True)
class Asked:
    """What is asked of the ensemble, as a config would.

    Parameters
    ----------
    rule : how it is decided.
    whether : the decoders whose members say whether a class is there; none where all say both.
    vote, search : as in a config.
    black : whether it counts that images are black.
    sharpen : the power of p that is averaged.
    full : whether the decoder fpn is trained on all images, too.
    """

    rule: dict = dataclasses.field(default_factory=lambda: RULE)
    whether: tuple[str, ...] = ()
    vote: bool = False
    search: bool = False
    black: bool = False
    sharpen: float | None = None
    full: bool = False

    def folds(self, decoder, split="test") -> tuple[int | str, ...]:
        """The folds whose runs say something of a split."""
        return (0, 1, "all") if self.full and (decoder, split) == ("fpn", "test") else (0, 1)

    @property
    def where(self) -> tuple[str, ...]:
        """The decoders whose members say where a class is."""
        return tuple(name for name in ("fpn", "unet") if (name,) != self.whether)


def make(asked):
    """Make the chain in the working directory."""
    _make_images()
    for number, decoder in enumerate(("fpn", "unet")):
        for place, fold in enumerate(asked.folds(decoder)):
            _make_run(decoder, fold, 10 * number + place)
    ensemble = _ensemble(asked)
    _blend(ensemble, asked)
    _decide(ensemble, asked)
    return ensemble


def known_of(ensemble):
    """Return the provenance of an ensemble, written and read again."""
    path = ENSEMBLE / "provenance.json"
    provenance_of(ensemble, CODES).write(path)
    return Known(path, type(provenance_of(ensemble, CODES)).read(path), RESULTS)


def run_name(decoder, fold):
    return f"resnet/{decoder}/64x96/quick/fold{fold}"


def _make_images():
    for split, names in {"train": TRAIN_IDS, "test": TEST_IDS}.items():
        folder = CLOUDS / f"{split}_images"
        folder.mkdir(parents=True)
        rows = []
        for number, name in enumerate(names):
            image = np.random.default_rng([number, len(split)]).integers(60, 255, (40, 60, 3), dtype=np.uint8)
            image[:, : 16 * (number % 3)] = 0  # the first image has nothing black
            cv2.imwrite(str(folder / name), image)
            digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
            rows.append({"image": name, "split": split, "height": 40, "width": 60, "digest": digest, "labels": "x"})
        files.write_table(pd.DataFrame(rows), RESULTS / f"dataset/{split}.tsv")
        spec = stores.Spec((len(names), 2, 3, 3), "uint8", ("image", "y", "x", "band"))
        writer = stores.Writer(
            RESULTS / f"dataset/{split}/64x96.zarr", {"image": spec}, {"ids": names, "data": split[0] * 64}
        )
        writer.write(slice(0, len(names)), np.zeros(spec.shape, np.uint8), "image")
        writer.finish()
        build_black(
            read_images(RESULTS / f"dataset/{split}.tsv", CLOUDS, split),
            CLOUDS,
            black_store(split),
            split=split,
            grey=GREY,
            size=SIZE,
        )
    files.write_text(RESULTS / "dataset/folds.tsv", "image\tfold\n")
    write(RESULTS / "dataset/truth.zarr", (CLOUDY["train"] > 140).astype(np.uint8), TRAIN_IDS)


def black_store(split):
    return RESULTS / f"dataset/black-{split}-{GREY}.zarr"


def _make_run(decoder, fold, seed):
    folder = RESULTS / "runs" / run_name(decoder, fold)
    digests = {}
    for number, checkpoint in enumerate(("best", "last")):
        files.write_text(folder / f"{checkpoint}.safetensors", f"{decoder} {fold} {checkpoint}\n")
        digests[checkpoint] = files.sha256(folder / f"{checkpoint}.safetensors")
        seen = {"test": (TEST_IDS, CLOUDY["test"])}
        if fold != "all":
            own = slice(3 * fold, 3 * fold + 3)
            seen["valid"] = TRAIN_IDS[own], CLOUDY["train"][own]
        for split, (names, cloudy) in seen.items():
            noise = planes([seed, number, len(split)], len(names))
            block = (0.6 * cloudy + 0.4 * noise).astype(np.uint8)
            write(folder / f"{checkpoint}-{split}.zarr", block, names, run=digests[checkpoint], settings="s" * 64)
    write_run(folder, {"epochs": 4, "batch": 4})
    record = json.loads((folder / "run.json").read_text())
    record |= {"encoder": "resnet", "decoder": decoder, "fold": fold, "sha256": digests}
    if fold == "all":  # for as many epochs as the best of its folds
        record |= {"epochs": {"run": 3, "best": 3, "resumed": []}, "recipe": {"epochs": 3, "batch": 4}}
    files.write_text(folder / "run.json", json.dumps(record) + "\n")


def _members(asked, decoders, split):
    return [
        {
            "store": f"{run_name(decoder, fold)}/best",
            "fold": fold,
            "weight": {"fpn": 2.0, "unet": 1.0}[decoder] / (len(asked.folds(decoder)) if split == "test" else 1),
            **({"candidate": decoder} if asked.search else {}),
        }
        for decoder in decoders
        for fold in asked.folds(decoder, split)
    ]


def _blend_of(asked, split, name, decoders):
    members = _members(asked, decoders, split)
    black = str(black_store("test" if split == "test" else "train"))
    voters = [str(RESULTS / f"ensembles/{each['store'].split('/')[1]}/decision.yaml") for each in members]
    return Blend(
        path=str(ENSEMBLE / name),
        stores=[str(RESULTS / "runs" / f"{each['store']}-{split}.zarr") for each in members],
        members=members,
        voters=voters if asked.vote and decoders == asked.where else [],
        black=black if asked.black else None,
    )


def _ensemble(asked):
    rows = [
        {"encoder": "resnet", "decoder": name, "size": "64x96", "recipe": "quick", "folds": 2}
        for name in ("fpn", "unet")
    ]
    facts = {
        "config_name": "tiny",
        "ensemble": "all",
        "smoke": False,
        "rule": asked.rule,
        "min_sizes": MIN_SIZES,
        "sharpen": asked.sharpen,
        "allow_squeezed": False,
        "valid_folds": [0, 1],
        "classes": CLASSES,
        "submission_size": list(SIZE),
        "threads": 1,
        "config": {"name": "tiny", "dataset": {"source": "path", "root": "clouds"}},
        "sheet": rows,
        **({"search": {"steps": 2, "least_gain": 0.0001, "sharpen": [1, 0.5]}} if asked.search else {}),
        **({"black": GREY} if asked.black else {}),
    }
    wanted = {"recipe": {"epochs": 4, "batch": 4}, "seed": 2019, "threads": 1, "code": 2, "start": "imagenet"}
    pixels = {split: str(RESULTS / f"dataset/{split}/64x96.zarr") for split in ("train", "test")}
    runs = [
        {
            "name": run_name(decoder, fold),
            "folder": str(RESULTS / "runs" / run_name(decoder, fold)),
            "size": "64x96",
            "recipe": "quick",
            "wanted": wanted,
            "prediction": {"batch": 4},
            "pixels": pixels,
            **({"folds_before": [run_name(decoder, each) for each in (0, 1)]} if fold == "all" else {}),
        }
        for decoder in ("fpn", "unet")
        for fold in asked.folds(decoder)
    ]
    splits = ("valid", "test")
    names = {
        "submission": "csv",
        "decision": "yaml",
        "scores": "tsv",
        "images": "tsv",
        "parts": "tsv",
        "surface": "zarr",
    }
    return Ensemble(
        **{name: str(ENSEMBLE / f"{name}.{ending}") for name, ending in names.items()},
        truth=str(RESULTS / "dataset/truth.zarr"),
        blends={split: _blend_of(asked, split, f"{split}.zarr", asked.where) for split in splits},
        whether={
            split: _blend_of(asked, split, f"{split}-whether.zarr", asked.whether) for split in splits if asked.whether
        },
        selection=str(ENSEMBLE / "selection.yaml") if asked.search else None,
        runs=runs,
        folds=str(RESULTS / "dataset/folds.tsv"),
        logs=LOGS,
        facts=facts,
    )


def _write_yaml(path, plain, log):
    files.write_text(path, yaml.safe_dump(plain, sort_keys=False))
    records.write_record(log, [path])


def voting_decision():
    rules = {
        fold: ImageRule.of_cuts({name: Cut(level, 0) for name, level in zip(CLASSES, levels, strict=True)})
        for fold, levels in VOTES.items()
    }
    return Decision("tune", 6, rules.pop(None), rules)


def selection():
    choices = dict(SELECTION)
    scores = dict.fromkeys(("chosen", "mean", "single"), Score(0.6, 0.5))
    return Selection(("fpn", "unet"), 6, 1, choices.pop(None), choices, scores)


def _blend(ensemble, asked):
    if asked.vote:
        for decoder in asked.where:
            path = RESULTS / f"ensembles/{decoder}/decision.yaml"
            _write_yaml(path, voting_decision().plain(), LOGS / f"decide/{decoder}.log")
    if asked.search:
        _write_yaml(ensemble.selection, selection().plain(), LOGS / "search/all.log")
    for role, by_split in ensemble.by_role.items():
        for split, blend in by_split.items():
            made_of = ingredients_of(
                blend.stores,
                blend.members,
                asked.sharpen,
                split=split,
                classes=CLASSES,
                selection=ensemble.selection if role == "where" else None,
                voters=blend.voters,
            )
            how = {"folds": None if split == "test" else [0, 1], "classes": CLASSES, "size": SIZE}
            how |= {"sharpen": made_of.sharpen, "levels": made_of.levels}
            write_it = blend_stores if role == "where" else write_whether
            write_it(made_of.paths, made_of.members, blend.path, black=blend.black and Black(blend.black), **how)


def _decide(ensemble, asked):
    valid, test = (ensemble.blends[split].path for split in ("valid", "test"))
    write_surface(valid, ensemble.truth, ensemble.surface, folds=[0, 1], min_sizes=MIN_SIZES)
    rule = DecisionRule(**asked.rule)
    rule = rule.of_power(SELECTION[None].power) if asked.search else rule
    decision, scores, images = decide_blend(
        Stores(valid, ensemble.truth, ensemble.presence["valid"]),
        rule,
        classes=CLASSES,
        surface=read_surface(ensemble.surface),
    )
    write_scores(scores, ensemble.scores)
    files.write_table(images, ensemble.images)
    write_scores(score_parts(images), ensemble.parts)
    _write_yaml(ensemble.decision, decision.plain(), LOGS / "decide/all.log")
    rows = [(image, name) for image in TEST_IDS for name in CLASSES]
    write_submission(test, decision.rule, rows, ensemble.submission, whether=ensemble.presence["test"])
    records.write_record(LOGS / "submit/all.log", [ensemble.submission])
