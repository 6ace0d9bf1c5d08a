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
from safetensors import safe_open
from safetensors.numpy import save_file
from small_provenance import CODES
from small_stores import CLASSES, SIZE, planes, write

from cloudseg.config.recipe_parts import Pseudo
from cloudseg.dataset.black import Black, build_black
from cloudseg.dataset.images_table import read_images
from cloudseg.ensemble.blending import blend_stores
from cloudseg.ensemble.decide_blend import Stores, decide_blend
from cloudseg.ensemble.decision import Decision, DecisionRule
from cloudseg.ensemble.ingredients import ingredients_of
from cloudseg.ensemble.masking import ImageRule
from cloudseg.ensemble.pseudo_labels import BlendLabels, write_pseudo_labels
from cloudseg.ensemble.score_tables import write_scores
from cloudseg.ensemble.scores import score_parts
from cloudseg.ensemble.selection import Choice, Score, Selection, Step
from cloudseg.ensemble.submission import write_submission
from cloudseg.ensemble.surface import read_surface, write_surface
from cloudseg.ensemble.whether import write_whether
from cloudseg.postprocess import Cut
from cloudseg.provenance.chain import Blend, Ensemble, Labels, provenance_of
from cloudseg.provenance.find import Known
from cloudseg.storage import files, records, stores
from cloudseg.storage.class_values import values_path
from cloudseg.training.data_digest import data_digest

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
WEIGHTS = {"fpn": 2.0, "unet": 1.0, "classifier": 3.0}
PSEUDO = Pseudo(ensemble="teachers", share=0.8)
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
    average : whether its runs keep an average, which is blended in place of the best epoch.
    heads : the decoders whose classification heads say whether a class is there.
    started : whether its runs start from those of the decoder linknet, which are of no member.
    taught : whether its runs train on labels of test images, made by those of the decoder pan, likewise.
    """

    rule: dict = dataclasses.field(default_factory=lambda: RULE)
    whether: tuple[str, ...] = ()
    vote: bool = False
    search: bool = False
    black: bool = False
    sharpen: float | None = None
    full: bool = False
    average: bool = False
    heads: tuple[str, ...] = ()
    started: bool = False
    taught: bool = False

    @property
    def decoders(self) -> tuple[str, ...]:
        """Those of the members."""
        return tuple(dict.fromkeys(("fpn", "unet", *self.heads)))

    @property
    def earlier(self) -> tuple[str, ...]:
        """Those of the runs that the members' go back to."""
        asked = {"linknet": self.started, "pan": self.taught}
        return tuple(name for name, wanted in asked.items() if wanted)

    def checkpoint(self, decoder) -> str:
        """The checkpoint that is blended."""
        return "average" if self.average and decoder == "fpn" else "best"

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
    for number, decoder in enumerate((*asked.earlier, *asked.decoders)):
        for place, fold in enumerate(asked.folds(decoder)):
            _make_run(asked, decoder, fold, 10 * number + place)
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
    write(RESULTS / "dataset/truth.zarr", (CLOUDY["train"] > 140).astype(np.uint8), TRAIN_IDS, data="t" * 64)


def black_store(split):
    return RESULTS / f"dataset/black-{split}-{GREY}.zarr"


def _make_run(asked, decoder, fold, seed):
    folder = RESULTS / "runs" / run_name(decoder, fold)
    digests = {}
    average = ["average"] if asked.checkpoint(decoder) == "average" else []
    for number, checkpoint in enumerate(("best", "last", *average)):
        path = folder / f"{checkpoint}.safetensors"
        if decoder == "linknet":
            write_network(path, seed + number)
        else:
            files.write_text(path, f"{decoder} {fold} {checkpoint}\n")
        digests[checkpoint] = files.sha256(path)
        seen = {"test": (TEST_IDS, CLOUDY["test"])}
        if fold != "all":
            own = slice(3 * fold, 3 * fold + 3)
            seen["valid"] = TRAIN_IDS[own], CLOUDY["train"][own]
        for split, (names, cloudy) in seen.items():
            noise = planes([seed, number, len(split)], len(names))
            block = (0.6 * cloudy + 0.4 * noise).astype(np.uint8)
            out = folder / f"{checkpoint}-{split}.zarr"
            made_of = {"run": digests[checkpoint], "settings": "s" * 64}
            if decoder != "classifier":
                write(out, block, names, **made_of)
            if decoder in asked.heads:
                write_values(values_path(out), block.max(axis=(2, 3)), names, **made_of)
    write_run(folder, {"epochs": 4, "batch": 4})
    record = json.loads((folder / "run.json").read_text())
    record |= {"encoder": "resnet", "decoder": decoder, "fold": fold, "sha256": digests}
    record |= {"data": _data(asked, decoder, fold), "weights": _weights(asked, decoder, fold)}
    if fold == "all":  # for as many epochs as the best of its folds
        record |= {"epochs": {"run": 3, "best": 3, "resumed": []}, "recipe": {"epochs": 3, "batch": 4}}
    if average:
        record["recipe"]["average"] = {"epochs": 2, "of": "best", "decay": None}
    files.write_text(folder / "run.json", json.dumps(record) + "\n")
    records.write_record(folder / "train.log", sorted(folder.glob("*.safetensors")))


def write_network(path, seed):
    """Write a network of a few numbers, with an encoder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    names = "encoder.conv.weight", "encoder.norm.num_batches_tracked", "decoder.weight"
    save_file({name: random.integers(0, 99, (2, 3)).astype(np.float32) for name in names}, path)


def write_values(path, values, ids, **attrs):
    """Write what a classification head says."""
    spec = stores.Spec(values.shape, "uint8", ("image", "class"))
    writer = stores.Writer(path, {"": spec}, {"ids": ids, "classes": CLASSES, **attrs})
    writer.write(slice(0, len(ids)), values)
    writer.finish()


def _weights(asked, decoder, fold):
    """Write the initial weights of a run where they are those of another one, and return what its record says."""
    if not (asked.started and decoder == "fpn"):
        return {"path": "imagenet.safetensors", "sha256": "0"}
    start = weights_file(fold)
    with safe_open(RESULTS / "runs" / run_name("linknet", fold) / "last.safetensors", "numpy") as network:
        state = {name: network.get_tensor(name) for name in network.keys()}  # noqa: SIM118
    if fold == 0:  # of a run: start, the encoder alone
        state = {name.removeprefix("encoder."): value for name, value in state.items() if name.startswith("encoder.")}
    start.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, start)
    records.write_record(LOGS / "weights/resnet" / f"{start.stem}.log", [start])
    return {"path": str(start), "sha256": files.sha256(start)}


def weights_file(fold):
    """Return the initial weights of a run of the decoder fpn."""
    kind = "run" if fold == 0 else "network"
    return RESULTS / f"weights/resnet/{kind}-linknet-64x96-quick-fold{fold}.safetensors"


def labels_store(fold):
    """Return the labels of test images that the runs of the decoder fpn train on."""
    return RESULTS / f"ensembles/teachers/pseudo/quick/64x96-fold{fold}.zarr"


def labels_of(fold):
    """Return what the plan says of them."""
    members = [{"store": f"{run_name('pan', fold)}/last", "fold": fold, "weight": 1.0}]
    return Labels(
        path=str(labels_store(fold)),
        stores=[str(RESULTS / "runs" / f"{each['store']}-test.zarr") for each in members],
        asked={
            "ensemble": "teachers",
            "recipe": "quick",
            "size": "64x96",
            "fold": fold,
            "settings": PSEUDO.model_dump(mode="json"),
            "min_area": 0.01,
            "members": members,
        },
    )


def labels_again(fold):
    """Return what makes them."""
    labels = labels_of(fold)
    how = {"classes": CLASSES, "grid": SIZE, "size": (2, 3), "min_area": 0.01}
    return BlendLabels.of(labels.stores, labels.asked["members"], PSEUDO, **how)


def _data(asked, decoder, fold):
    """Return the digest of what a run trains on, after its labels of test images were made."""
    further = {}
    if asked.taught and decoder == "fpn":
        write_pseudo_labels(labels_again(fold), labels_store(fold))
        further = {"test": pixels_store("test"), "pseudo": labels_store(fold)}
    return data_digest(pixels_store("train"), RESULTS / "dataset/folds.tsv", **further)


def pixels_store(split):
    """Return the images of a split."""
    return str(RESULTS / f"dataset/{split}/64x96.zarr")


def _members(asked, decoders, split):
    return [
        {
            "store": f"{run_name(decoder, fold)}/{asked.checkpoint(decoder)}",
            "fold": fold,
            "weight": WEIGHTS[decoder] / (len(asked.folds(decoder)) if split == "test" else 1),
            **({"candidate": decoder} if asked.search else {}),
        }
        for decoder in decoders
        for fold in asked.folds(decoder, split)
    ]


def _blend_of(asked, split, name, decoders):
    members = _members(asked, decoders, split)
    heads = _members(asked, asked.heads, split) if name.endswith("-whether.zarr") else []
    black = str(black_store("test" if split == "test" else "train"))
    voters = [str(RESULTS / f"ensembles/{each['store'].split('/')[1]}/decision.yaml") for each in members]
    return Blend(
        path=str(ENSEMBLE / name),
        stores=[str(RESULTS / "runs" / f"{each['store']}-{split}.zarr") for each in members],
        members=members,
        values=[str(values_path(RESULTS / "runs" / f"{each['store']}-{split}.zarr")) for each in heads],
        value_members=[each | {"gives": "values"} for each in heads],
        voters=voters if asked.vote and decoders == asked.where else [],
        black=black if asked.black else None,
    )


def _ensemble(asked):
    rows = [
        {"encoder": "resnet", "decoder": name, "size": "64x96", "recipe": "quick", "folds": 2}
        for name in (*asked.earlier, *asked.decoders)
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
        runs=[_asked_of(asked, decoder, fold) for decoder in asked.decoders for fold in asked.folds(decoder)],
        earlier=[_asked_of(asked, decoder, fold) for decoder in asked.earlier for fold in (0, 1)],
        labels=[labels_of(fold) for fold in (0, 1)] if asked.taught else [],
        test_images={"64x96": pixels_store("test")} if asked.taught else {},
        weights={f"resnet/{weights_file(fold).stem}": str(weights_file(fold)) for fold in (0, 1) if asked.started},
        folds=str(RESULTS / "dataset/folds.tsv"),
        logs=LOGS,
        facts=facts,
    )


def _asked_of(asked, decoder, fold):
    """Return what the plan says of a run."""
    started, taught = (flag and decoder == "fpn" for flag in (asked.started, asked.taught))
    recipe = {"epochs": 4, "batch": 4}
    if asked.checkpoint(decoder) == "average":
        recipe["average"] = {"epochs": 2, "of": "best"}
    splits = ("train",) if decoder in asked.earlier else ("train", "test")
    further = {
        "folds_before": [run_name(decoder, each) for each in (0, 1)] if fold == "all" else [],
        "start_run": run_name("linknet", fold) if started else None,
        "test_size": "64x96" if taught else None,
        "pseudo": labels_of(fold).name if taught else None,
    }
    start = weights_file(fold).stem if started else "imagenet"
    return {
        "name": run_name(decoder, fold),
        "folder": str(RESULTS / "runs" / run_name(decoder, fold)),
        "size": "64x96",
        "recipe": "quick",
        "wanted": {"recipe": recipe, "seed": 2019, "threads": 1, "code": 2, "start": start},
        "prediction": {"batch": 4},
        "pixels": {split: pixels_store(split) for split in splits},
        **{name: value for name, value in further.items() if value},
    }


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
            if blend.values:
                how |= {"value_paths": blend.values, "value_members": blend.value_members}
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
    files.write_text(ensemble.decision, yaml.safe_dump(decision.plain(), sort_keys=False))
    decided = [ensemble.decision, ensemble.scores, ensemble.images, ensemble.parts]
    records.write_record(LOGS / "decide/all.log", decided)
    rows = [(image, name) for image in TEST_IDS for name in CLASSES]
    write_submission(test, decision.rule, rows, ensemble.submission, whether=ensemble.presence["test"])
    records.write_record(LOGS / "submit/all.log", [ensemble.submission])
