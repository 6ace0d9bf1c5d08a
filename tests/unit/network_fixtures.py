"""Small inputs that the tests of the network share."""

import numpy as np
import pandas as pd

from cloudseg import stores

RECIPE = {
    **{"batch": 4, "epochs": 3, "learning_rate": 1e-3, "weight_decay": 0.01, "warmup": 1, "clip": 1},
    **{"patience": 0, "best_by": "dice", "loss": {"bce": 1, "dice": 1}, "precision": "float32"},
    "augmentation": [{"name": "HorizontalFlip", "p": 0.5}, {"name": "RandomBrightnessContrast", "p": 0.5}],
    "normalise": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
}


def write_pixels(path, *, train=10, test=3, size=(32, 48), classes=("a", "b"), dtype="uint8", seed=0):
    """Write a pixel store of random blocks: a class is where the image is bright, in one channel each."""
    rng = np.random.default_rng(seed)
    shape = (*size, 3)

    def scene():
        coarse = rng.integers(0, 2, (size[0] // 8, size[1] // 8, 3), dtype=np.uint8)
        bright = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
        noise = rng.integers(0, 60, shape, dtype=np.uint8)
        mask = sum(bright[..., c % 3].astype(dtype) << np.dtype(dtype).type(c) for c in range(len(classes)))
        return bright * 150 + noise, mask

    images, masks = zip(*(scene() for _ in range(train)), strict=True)
    specs = {
        "train/image": stores.Spec((train, *shape), "uint8", ("image", "y", "x", "channel")),
        "train/mask": stores.Spec((train, *size), dtype, ("image", "y", "x")),
        "test/image": stores.Spec((test, *shape), "uint8", ("image", "y", "x", "channel")),
    }
    blocks = {
        "train/image": np.stack(images),
        "train/mask": np.stack(masks).astype(dtype),
        "test/image": np.stack([scene()[0] for _ in range(test)]),
    }
    attrs = {
        "ids": {
            "train": [f"train{number}.jpg" for number in range(train)],
            "test": [f"test{number}.jpg" for number in range(test)],
        },
        "classes": list(classes),
    }
    writer = stores.Writer(path, specs, attrs)
    for name, block in blocks.items():
        for rows in writer.missing(name):
            writer.write(rows, block[rows], name)
    writer.finish()
    return blocks


def write_folds(path, count=10, folds=2):
    """Write a fold table whose order is not the store's."""
    numbers = list(range(count))[::-1]
    table = pd.DataFrame(
        {"image": [f"train{number}.jpg" for number in numbers], "fold": [number % folds for number in numbers]}
    )
    table.to_csv(path, sep="\t", index=False)
    return table
