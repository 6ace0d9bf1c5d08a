"""Small inputs that the tests of the network share."""

import numpy as np
import pandas as pd

from cloudseg.config.recipe import Recipe
from cloudseg.models.weights import initial_weights
from cloudseg.storage import files, stores
from cloudseg.training.job import TrainingJob
from cloudseg.training.record import RunRecord

TRAINED = {"best": "best.safetensors", "last": "last.safetensors", "history": "history.tsv", "run": "run.json"}


def small_recipe(**keys):
    """Return the recipe of the tests of the network, with other values for some keys."""
    usual = {
        "batch": 4,
        "epochs": 3,
        "precision": "float32",
        "validation": {"threshold": 0.5, "min_area": 0.01},
        "augmentation": [{"name": "HorizontalFlip", "p": 0.5}, {"name": "RandomBrightnessContrast", "p": 0.5}],
        "normalise": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
    }
    return Recipe(**usual | keys)


def small_training(inputs, out, *, job=None, **recipe):
    """Return a training of the files that :func:`write_training_inputs` wrote; `job` has other arguments of it."""
    out.mkdir(exist_ok=True)
    usual = {"encoder": "tu-test_resnet", "decoder": "linknet", "fold": 0, "seed": 3}
    outputs = TRAINED | ({"average": "average.safetensors"} if recipe.get("average") else {})
    return TrainingJob(
        pixels=inputs / "pixels.zarr",
        folds=inputs / "folds.tsv",
        weights=inputs / "weights.safetensors",
        recipe=small_recipe(**recipe),
        outputs={name: out / file for name, file in outputs.items()},
        **usual | (job or {}),
    )


FROG = [  # what the forum's kit did on a canvas of 700x1050
    {"name": "HorizontalFlip", "p": 0.5},
    {"name": "VerticalFlip", "p": 0.5},
    {
        "name": "OneOf",
        "p": 1,
        "transforms": [
            {"name": "NoOp", "p": 1},
            {
                "name": "Sequential",
                "p": 1,
                "transforms": [
                    {"name": "RandomCrop", "height": 630, "width": 925, "p": 1},
                    {"name": "Resize", "height": 700, "width": 1050, "p": 1},
                ],
            },
            {"name": "Rotate", "limit": 30, "border_mode": 0, "fill": 0, "fill_mask": 0, "p": 1},
        ],
    },
]


def write_pixels(path, *, train=10, test=3, size=(32, 48), classes=("a", "b"), dtype="uint8", seed=0, enlarged=1):
    """Write a pixel store of training images, and one of test images beside it (:func:`pixels_of_test`).

    They hold random blocks: a class is where the image is bright, in one channel each. ``enlarged`` repeats each pixel
    that often along both axes, and nothing else changes.
    """
    rng = np.random.default_rng(seed)
    shape = (*size, 3)

    def scene():
        coarse = rng.integers(0, 2, (size[0] // 8, size[1] // 8, 3), dtype=np.uint8)
        bright = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
        noise = rng.integers(0, 60, shape, dtype=np.uint8)
        mask = sum(bright[..., c % 3].astype(dtype) << np.dtype(dtype).type(c) for c in range(len(classes)))
        return bright * 150 + noise, mask

    def enlarge(pixels):
        return pixels.repeat(enlarged, axis=1).repeat(enlarged, axis=2)

    images, masks = zip(*(scene() for _ in range(train)), strict=True)
    blocks = {"image": enlarge(np.stack(images)), "mask": enlarge(np.stack(masks).astype(dtype))}
    write_store(path, blocks, [f"train{number}.jpg" for number in range(train)], classes)
    test_images = {"image": enlarge(np.stack([scene()[0] for _ in range(test)]))}
    write_store(pixels_of_test(path), test_images, [f"test{number}.jpg" for number in range(test)], classes)
    return blocks


def pixels_of_test(path):
    """Return where :func:`write_pixels` puts the test images of a store."""
    return path.with_name(f"test-{path.name}")


def write_store(path, blocks, ids, classes):
    dims = ("image", "y", "x", "channel")
    specs = {name: stores.Spec(block.shape, str(block.dtype), dims[: block.ndim]) for name, block in blocks.items()}
    writer = stores.Writer(path, specs, {"ids": ids, "classes": list(classes)})
    for name, block in blocks.items():
        for rows in writer.missing(name):
            writer.write(rows, block[rows], name)
    writer.finish()


def write_training_inputs(folder, *, train=10):
    """Write the pixels, folds and initial weights of a training; return their folder."""
    write_pixels(folder / "pixels.zarr", train=train)
    write_folds(folder / "folds.tsv", count=train)
    initial_weights("tu-test_resnet", "none", folder / "weights.safetensors", seed=1)
    return folder


def result(out):
    """Return what must be the same when a training was stopped: its weights, and its history without times."""
    history = pd.read_csv(out / "history.tsv", sep="\t", dtype=str, keep_default_na=False)
    history = history.drop(columns="seconds").to_dict("records")
    return [files.sha256(path) for path in sorted(out.glob("*.safetensors"))], history


def write_folds(path, count=10, folds=2):
    """Write a fold table whose order is not the store's."""
    numbers = list(range(count))[::-1]
    table = pd.DataFrame(
        {"image": [f"train{number}.jpg" for number in numbers], "fold": [number % folds for number in numbers]}
    )
    table.to_csv(path, sep="\t", index=False)
    return table


def run_record(**known):
    """Return the record of a training of which some things are known."""
    return RunRecord(
        encoder="e",
        decoder="fpn",
        fold=0,
        seed=1,
        threads=1,
        data="d",
        weights={"path": "a/imagenet.safetensors", "sha256": "w"},
        workers=0,
        pixels="pixels.zarr",
        canvas_pixels=None,
        folds="folds.tsv",
        images={"train": 8, "valid": 4},
        parameters=1,
        precision="float32",
        batch={"images": 4, "devices": 1, "at_once": 4, "pieces": 1, "too_much": []},
        epochs={"run": 4, "best": 2, "resumed": []},
        seconds=1.5,
        images_per_second=None,
        devices=[{"device": "cpu", "name": "CPU", "peak_memory_mib": 300, "busy": None}],
        versions={"python": "3.11"},
        commit=None,
        **known,
    )
