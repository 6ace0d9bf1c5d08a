"""Measure how seconds and memory of each step grow with the number of images.

    python tests/benchmarks/growth.py [--images 1000 10000 100000] [--steps blend submit] [--picture growth.svg]

Makes small images, with labels, a tiny network that has learned nothing and predictions of test images, and runs each
step in a process of its own, as the script of its rule does. A run of 100 images, before the others, says what a step
takes without any: only what is more grows. A step is linear if its exponent is at most 1.1, and its memory flat if an
image more takes at most 64 bytes; else the table says how many. The exit status is 1 if a step is not linear, or takes
more than 2 KiB an image. 100,000 images take 40 minutes and 6 GB of disk, 10,000 four minutes.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

CLASSES = ["Fish", "Flower", "Gravel", "Sugar"]
SIZE = (32, 48)  # pixels of an image, of its planes and of the submission
FOLDS, MEMBERS, THREADS = 2, 12, 2
MIN_SIZES = [0, 10, 20, 40, 80]
BASE = 100
MOST_EXPONENT, FLAT, MOST_BYTES = 1.1, 64, 2048
NORM = {"mean": [0.5] * 3, "std": [0.25] * 3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--steps", nargs="+", choices=STEPS, help="only these; those before them run unmeasured")
    parser.add_argument("--picture", type=Path, help="an SVG to draw")
    parser.add_argument("--folder", type=Path, help="keeps what is made, and takes what an earlier call made")
    parser.add_argument("--only-step", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only_step:
        step, folder = arguments.only_step
        if step == "verify":
            write_record(Path(folder))
        print(json.dumps(measured(STEPS.get(step, make_images), Path(folder))))
        return
    steps = arguments.steps or list(STEPS)
    with tempfile.TemporaryDirectory() as temporary:
        rows = list(measure(arguments.folder or Path(temporary), [BASE, *sorted(arguments.images)], steps))
    table = pd.DataFrame(rows)
    growths = [growth(step, table[table["step"] == step]) for step in steps]
    print(as_text(table, growths))
    if arguments.picture:
        draw(table, arguments.picture)
    sys.exit(0 if all(each["linear"] and each["bytes"] <= MOST_BYTES for each in growths) else 1)


# Measuring


def measure(folder: Path, counts: Sequence[int], steps: Sequence[str]) -> Iterator[dict]:
    """Yield what each step takes for each number of images."""
    for count in counts:
        place = folder / str(count)
        place.mkdir(parents=True, exist_ok=True)
        for step in ["images", *STEPS]:
            if step not in steps and (place / f"{step}.done").exists():
                continue
            command = [sys.executable, __file__, "--only-step", step, str(place)]
            for _ in range(2 if count == BASE else 1):  # the first time, kernels may be compiled
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            (place / f"{step}.done").touch()
            if step in steps:
                found = json.loads(done.stdout.splitlines()[-1])
                print(f"{count:>9,} {step:8} {found['seconds']:8.1f} s {found['mb']:8.0f} MB", file=sys.stderr)
                yield {"step": step, "images": count, **found}
            if not any(later in steps for later in [*STEPS][[*STEPS].index(step) + 1 if step in STEPS else 0 :]):
                break


def measured(work: Callable[[Path], None], folder: Path) -> dict[str, float]:
    """Return processor seconds and wall seconds of some work, and the peak of its process in MB."""
    started, computing = time.perf_counter(), time.process_time()
    work(folder)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "seconds": time.process_time() - computing,
        "wall": time.perf_counter() - started,
        # Not ru_maxrss, in which a process inherits the peak of the one that started it
        "mb": int(status["VmHWM"].split()[0]) * 1024 / 1e6,
    }


def growth(step: str, rows: pd.DataFrame) -> dict:
    """Return the exponent of the seconds, and the bytes that an image adds to the peak of memory."""
    base, more = rows.iloc[0], rows.iloc[1:]
    images, seconds = (more[name].to_numpy(float) - base[name] for name in ("images", "seconds"))
    last = more.iloc[-2:]
    exponent = math.nan
    if len(more) > 1:
        # Where all that a step does is start, a difference may be below the noise
        exponent = np.diff(np.log(np.maximum(seconds[-2:], 0.01)))[0] / np.diff(np.log(images[-2:]))[0]
    first = last.iloc[0] if len(last) > 1 else base
    added = (last.iloc[-1]["mb"] - first["mb"]) * 1e6 / (last.iloc[-1]["images"] - first["images"])
    linear = not exponent > MOST_EXPONENT
    return {"step": step, "exponent": exponent, "bytes": max(added, 0.0), "linear": linear}


def as_text(table: pd.DataFrame, growths: Sequence[dict]) -> str:
    """Return the table: per step seconds and MB of each number of images, and how they grow."""
    counts = sorted(table["images"].unique())
    head = [
        "step",
        *(f"{count:,}: s" for count in counts),
        "exponent",
        *(f"{count:,}: MB" for count in counts),
        "grows",
    ]
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 2) + " --- |"]
    for each in growths:
        rows = table[table["step"] == each["step"]].sort_values("images")
        memory = "flat" if each["bytes"] <= FLAT else f"{each['bytes']:,.0f} bytes an image"
        words = f"{'linear' if each['linear'] else 'MORE THAN LINEAR'}, {memory}"
        seconds = [f"{value:.1f}" for value in rows["seconds"]]
        cells = [each["step"], *seconds, f"{each['exponent']:.2f}", *(f"{mb:.0f}" for mb in rows["mb"]), words]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw seconds, which are a straight line where they are linear, and memory over the number of images."""
    import altair as alt

    from cloudseg.report.charts import Chart

    def lines(column: str, title: str, kind: str) -> alt.Chart:
        axes = {
            "x": alt.X("images", scale=alt.Scale(type="log"), title="images"),
            "y": alt.Y(column, scale=alt.Scale(type=kind), title=title),
        }
        colour = alt.Color("step", sort=list(STEPS), scale=alt.Scale(scheme="tableau20"))
        return alt.Chart(table, width=300, height=300).mark_line(point=True).encode(**axes, color=colour)

    both = lines("seconds", "processor seconds", "log") | lines("mb", "peak memory, MB", "linear")
    Chart(both, "growth", "Growth").write_svg(path)


# What is measured


def make_images(folder: Path) -> None:
    """Write as many training and test images as the folder's name says, their tables, a network and test.zarr."""
    count = int(folder.name)
    raw = folder / "raw"
    for split in ("train", "test"):
        (raw / f"{split}_images").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    digests = write_photos(raw, count, rng)
    names = [f"test{number:07}.jpg" for number in range(count)]
    facts = {"image": names, "split": "test", "height": SIZE[0], "width": SIZE[1], "digest": digests, "labels": ""}
    pd.DataFrame(facts | dict.fromkeys(CLASSES)).to_csv(folder / "test.tsv", sep="\t", index=False, lineterminator="\n")
    with (raw / "sample_submission.csv").open("w") as file:
        file.write("Image_Label,EncodedPixels\n")
        file.writelines(f"{name}_{label},1 1\n" for name in names for label in CLASSES)
    write_network(folder / "network.safetensors")
    write_test_blend(folder / "test.zarr", names, rng)


def write_photos(raw: Path, count: int, rng: np.random.Generator) -> list[str]:
    """Write the images of both splits and train.csv; return the digest of each image."""
    import hashlib

    import cv2

    digests = []
    with (raw / "train.csv").open("w") as file:
        file.write("Image_Label,EncodedPixels\n")
        for number in range(count):
            coarse = rng.integers(0, 256, (SIZE[0] // 8, SIZE[1] // 8, 3), dtype=np.uint8)
            data = cv2.imencode(".jpg", coarse.repeat(8, axis=0).repeat(8, axis=1))[1].tobytes()
            photo = raw / f"train_images/train{number:07}.jpg"
            photo.write_bytes(data)
            test = raw / f"test_images/test{number:07}.jpg"
            test.unlink(missing_ok=True)
            os.link(photo, test)
            digests.append(hashlib.sha256(data).hexdigest())
            for label in CLASSES:
                first = int(rng.integers(1, 400))
                runs = " ".join(f"{first + SIZE[0] * column} 12" for column in range(10)) if first % 2 else ""
                file.write(f"{photo.name}_{label},{runs}\n")
    return digests


def write_network(path: Path) -> None:
    import torch

    from cloudseg.models.checkpoint_file import write_state
    from cloudseg.models.segmenter import build_model

    torch.manual_seed(0)
    model = build_model("tu-test_resnet", "linknet", len(CLASSES))
    about = {"encoder": "tu-test_resnet", "decoder": "linknet", "classes": CLASSES}
    write_state(model.network.state_dict(), path, about)


def write_test_blend(path: Path, names: Sequence[str], rng: np.random.Generator) -> None:
    """Write predictions of the test images: smooth planes, of which there are 256."""
    import cv2

    from cloudseg.storage import stores

    coarse = rng.random((256, len(CLASSES), 5, 8), np.float32)
    drawn = [[cv2.resize(plane, SIZE[::-1], interpolation=cv2.INTER_CUBIC) for plane in image] for image in coarse]
    planes = (np.clip(np.array(drawn), 0, 1) * 255).astype(np.uint8)
    spec = stores.Spec((len(names), len(CLASSES), *SIZE), "uint8", ("image", "class", "y", "x"))
    attrs = {"ids": list(names), "classes": CLASSES, "fold": [None] * len(names), "run": "made"}
    writer = stores.Writer(path, {"": spec}, attrs)
    for rows in writer.missing():
        writer.write(rows, planes[np.arange(rows.start, rows.stop) % len(planes)])
    writer.finish()


def check(folder: Path) -> None:
    from cloudseg.dataset.check import check_dataset
    from cloudseg.storage.files import write_table

    images, report = check_dataset(
        folder / "raw", classes=CLASSES, size_of_submission=SIZE, splits=["train"], workers=THREADS, memory=4 * 10**9
    )
    report.raise_for_errors()
    write_table(images, folder / "train.tsv")


def folds(folder: Path) -> None:
    from cloudseg.dataset.folds import make_folds
    from cloudseg.dataset.images_table import read_images
    from cloudseg.storage.files import write_table

    images = read_images(folder / "train.tsv")
    write_table(make_folds(images, classes=CLASSES, count=FOLDS, seed=0), folder / "folds.tsv")


def pixels(folder: Path) -> None:
    from cloudseg.dataset.images_table import read_images
    from cloudseg.dataset.pixels import build_pixels

    size = f"{SIZE[0]}x{SIZE[1]}"
    images = read_images(folder / "train.tsv", folder / "raw", "train")
    options = {"split": "train", "size": size, "classes": CLASSES, "threads": THREADS, "memory": 4 * 10**9}
    build_pixels(images, folder / "raw", folder / "pixels.zarr", **options)


def truth(folder: Path) -> None:
    from cloudseg.dataset.images_table import read_images
    from cloudseg.dataset.pixels import build_truth

    images = read_images(folder / "train.tsv", folder / "raw", "train")
    options = {"classes": CLASSES, "size": SIZE, "threads": THREADS, "memory": 4 * 10**9}
    build_truth(images, folder / "raw", folder / "truth.zarr", **options)


def predict(folder: Path) -> None:
    import cloudseg.inference.predict as prediction
    from cloudseg.config.recipe import Recipe

    for fold in range(FOLDS):
        job = prediction.PredictionJob(
            checkpoints={"last": folder / "network.safetensors"},
            pixels=folder / "pixels.zarr",
            outputs={"last": member(folder, fold)},
            recipe=Recipe(batch=64, epochs=1, normalise=NORM, precision="float32"),
            size=SIZE,
            folds=folder / "folds.tsv",
            fold=fold,
        )
        prediction.predict(job)


def member(folder: Path, fold: int) -> Path:
    return folder / f"fold{fold}.zarr"


def blend(folder: Path) -> None:
    from cloudseg.ensemble.blending import blend_stores

    # The stores of one network, as if they were of twelve
    of_fold = [fold for fold in range(FOLDS) for _ in range(MEMBERS)]
    blend_stores(
        [member(folder, fold) for fold in of_fold],
        [{"store": f"{number}", "fold": fold, "weight": 1.0} for number, fold in enumerate(of_fold)],
        folder / "valid.zarr",
        folds=range(FOLDS),
        classes=CLASSES,
        size=SIZE,
        allow_squeezed=True,
        threads=THREADS,
    )


def surface(folder: Path) -> None:
    from cloudseg.ensemble.surface import write_surface

    options = {"folds": range(FOLDS), "min_sizes": MIN_SIZES, "threads": THREADS}
    write_surface(folder / "valid.zarr", folder / "truth.zarr", folder / "surface.zarr", **options)


def decide(folder: Path) -> None:
    import yaml

    from cloudseg.ensemble.decide_blend import Stores, decide_blend
    from cloudseg.ensemble.decision import DecisionRule
    from cloudseg.ensemble.score_tables import write_scores
    from cloudseg.ensemble.scores import score_parts
    from cloudseg.ensemble.surface import read_surface
    from cloudseg.storage.files import write_table, write_text

    rule = DecisionRule("tune", [0.5] * len(CLASSES), [20] * len(CLASSES), MIN_SIZES)
    decided = Stores(folder / "valid.zarr", folder / "truth.zarr")
    found = decide_blend(decided, rule, classes=CLASSES, surface=read_surface(folder / "surface.zarr"), threads=THREADS)
    write_scores(found.scores, folder / "scores.tsv")
    write_table(found.images, folder / "images.tsv")
    write_scores(score_parts(found.images), folder / "parts.tsv")
    write_text(folder / "decision.yaml", yaml.safe_dump(found.decision.plain(), sort_keys=False))


def submit(folder: Path) -> None:
    from cloudseg.dataset.contest import ContestFolder
    from cloudseg.ensemble.masking import ImageRule
    from cloudseg.ensemble.submission import write_submission
    from cloudseg.postprocess import Cut

    rule = ImageRule.of_cuts(dict.fromkeys(CLASSES, Cut(128, 20)))
    sample = ContestFolder(folder / "raw").submission_rows(CLASSES)
    write_submission(folder / "test.zarr", rule, sample, folder / "submission.csv", threads=THREADS)


def masks(folder: Path) -> None:
    from cloudseg.ensemble.decision import Decision
    from cloudseg.ensemble.score_tables import read_image_scores
    from cloudseg.report.masks_page import MaskSource, OutOfFold, Photos, Submitted, submitted_pixels, write_masks_page

    decision = Decision.read(folder / "decision.yaml", CLASSES)
    valid, test = (MaskSource(folder / f"{split}.zarr", decision) for split in ("valid", "test"))
    photos = {split: Photos(folder / "raw", split, folder / f"{split}.tsv", SIZE) for split in ("train", "test")}
    write_masks_page(
        OutOfFold(photos["train"], valid, None, folder / "truth.zarr"),
        Submitted(photos["test"], test),
        scores=read_image_scores(folder / "images.tsv", decision),
        pixels=submitted_pixels(folder / "submission.csv", test.blended.ids, CLASSES),
        ensemble="all",
        member="",
        seed=0,
        page=folder / "masks.html",
        sheet=folder / "masks.svg",
    )


def outputs(folder: Path) -> list[str]:
    """Return what the steps before `verify` have made."""
    made = ["train.tsv", "folds.tsv", "truth.zarr", "pixels.zarr", "valid.zarr", "surface.zarr", "test.zarr"]
    made += ["submission.csv", "images.tsv", *(member(folder, fold).name for fold in range(FOLDS))]
    return [str(folder / name) for name in made]


def write_record(folder: Path) -> None:
    """Write what jobs record of their outputs, against which these are verified."""
    from cloudseg.storage import records

    records.write_record(folder / "results" / "all.log", outputs(folder))


def verify(folder: Path) -> None:
    import cloudseg.studies.verify as study

    found = study.verify(outputs(folder), folder / "results", threads=THREADS)
    if not found.healthy or found.unmade:
        sys.exit(study.report(found, removed=False))


STEPS = {
    work.__name__: work
    for work in (check, folds, pixels, truth, predict, blend, surface, decide, submit, masks, verify)
}

if __name__ == "__main__":
    main()
