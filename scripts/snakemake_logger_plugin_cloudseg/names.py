"""How jobs are called, and what they have found when they have ended: all that is known here of single rules."""

import contextlib
import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cloudseg.terminal import our_name, unsaid_wildcards

RUN = "{decoder} {encoder} {size} {recipe}"
NAMES = {
    "demo": "demo images",
    "fetch": "download of the images",
    "sample": "sample of the images",
    "describe": "a look at a folder",
    "check": "check {split} images",
    "folds": "folds",
    "pixels": "pixels of {split} images at {size}",
    "truth": "true masks",
    "black": "black of {split} images up to {grey}",
    "dataset_sheet": "sheet of images with their labels",
    "augmented": "sheet of augmented images, {recipe}",
    "weights": "initial weights {encoder} {start}",
    "train": f"train {RUN} fold {{fold}}",
    "predict": f"predict {RUN} fold {{fold}} {{split}}",
    "probe_one": f"probe {RUN}",
    "pseudo_labels": "labels of test images for {recipe} {size} fold {fold}",
    "blend": "blend {ensemble} {split}",
    "whether": "presence {ensemble} {split}",
    "search": "search for {ensemble}",
    "surface": "surface {ensemble}",
    "decide": "decide {ensemble}",
    "compare": "compare {ensemble} with its members",
    "submit": "submission of {ensemble}",
    "submission": "submission.csv",
    "provenance": "provenance of {ensemble}",
    "provenance_page": "page of the provenance",
    "pack": "bundle of {ensemble}",
    "segment_images": "masks of new images, shard {shard}",
    "gather_masks": "masks of {prediction}",
    "coco": "COCO objects of {prediction}",
    "png": "PNG masks of {prediction}",
    "overlays": "overlays of {prediction}",
    "masks": "page of masks, {ensemble}",
    "decision": "page of the decision, {ensemble}",
    "explorer": "explorer",
    "labels": "page of doubtful labels",
    "submission_page": "page of the submission",
    "leaderboard": "leaderboard",
    "classifiers": "page of classification heads",
    "curves": "learning curves",
    "job_times": "page of times and memory",
    "shift": "train against test",
    "ablation": "what a decision gains",
    "loading": "time to load images",
    "profile": "where the time of a training goes",
    "quantising": "cost of one byte per probability",
}


def job_name(rule: str, wildcards: Mapping[str, str]) -> str:
    """Return what a person calls a job; for a rule that is not ours its name and the values of its wildcards.

    Examples
    --------
    >>> from cloudseg import terminal
    >>> terminal.register(lambda rule, wildcards: None, [], {"clouds_blend": "blend"})
    >>> job_name("clouds_blend", {"ensemble": "all", "split": "test"})
    'blend all test'
    >>> job_name("map_reads", {"sample": "a", "unit": "1"})
    'map_reads a 1'
    """
    unsaid = unsaid_wildcards(rule)
    said = {name: "" if name in unsaid else value for name, value in wildcards.items()}
    if name := NAMES.get(our_name(rule)):
        return " ".join(name.format(**said).split())
    return " ".join([rule, *wildcards.values()])


def result(rule: str, outputs: Sequence[str]) -> str:
    """Return what a finished job has found, in a few words; nothing for most."""
    find = RESULTS.get(our_name(rule))
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, StopIteration, csv.Error):
        return find(outputs) if find else ""
    return ""


def _trained(outputs: Sequence[str]) -> str:
    history = next(path for path in outputs if Path(path).name == "history.tsv")
    with Path(history).open(encoding="utf-8", newline="") as file:
        dice = [row["valid_dice"] for row in csv.DictReader(file, delimiter="\t")]
    counted = [float(cell) for cell in dice if cell != ""]  # none of a training on all images
    return ", ".join([f"{len(dice)} epochs", *([f"best Dice {max(counted):.4f}"] if counted else [])])


RESULTS: dict[str, Callable[[Sequence[str]], str]] = {"train": _trained}
