"""Ultralytics' instance segmentation on two cores: every contour of a mask is an object, its confidence a probability.

The format says no holes, so those of the labels are filled. It starts from nothing: its pretrained weights come from a
hub alone. The training ends by its own `time`, which scales its schedule.
"""

import argparse
import json
import os
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

CLASSES = ["Fish", "Flower", "Gravel", "Sugar"]
SIZE, LONG_SIDE = (192, 288), 288


def write_image(source, target):
    image = cv2.imread(str(source))
    cv2.imwrite(str(target), cv2.resize(image, SIZE[::-1], interpolation=cv2.INTER_AREA))
    return image.shape[:2]


def contours_of(runs, shape):
    """Yield the outlines of a mask as numbers from 0 to 1, x and y in turn."""
    flat = np.zeros(shape[0] * shape[1], np.uint8)
    numbers = [int(number) for number in str(runs).split()] if isinstance(runs, str) else []
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        flat[start - 1 : start - 1 + length] = 1
    found, _ = cv2.findContours(flat.reshape(shape, order="F"), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    for contour in found:
        outline = cv2.approxPolyDP(contour, 2, closed=True)[:, 0]
        if len(outline) >= 3:
            yield (outline / shape[::-1]).ravel()


def convert(data, folder):
    """Write the data set as Ultralytics reads it, and return the names of the validation images."""
    table = pd.read_csv(data / "train.csv")
    table[["image", "label"]] = table.Image_Label.str.rsplit("_", n=1, expand=True)
    runs = table.pivot(index="image", columns="label", values="EncodedPixels")
    names = np.random.default_rng(0).permutation(runs.index)
    held = len(names) // 5
    for split, members in (("val", names[:held]), ("train", names[held:])):
        (folder / "images" / split).mkdir(parents=True)
        (folder / "labels" / split).mkdir(parents=True)
        for name in members:
            stem = Path(name).stem
            shape = write_image(data / "train_images" / name, folder / "images" / split / f"{stem}.png")
            lines = [
                " ".join([str(index), *(f"{number:.5f}" for number in outline)])
                for index, label in enumerate(CLASSES)
                for outline in contours_of(runs.loc[name, label], shape)
            ]
            (folder / "labels" / split / f"{stem}.txt").write_text("\n".join(lines))
    (folder / "images" / "test").mkdir()
    for path in (data / "test_images").iterdir():
        write_image(path, folder / "images" / "test" / f"{path.stem}.png")
    classes = "\n".join(f"  {index}: {name}" for index, name in enumerate(CLASSES))
    (folder / "clouds.yaml").write_text(f"path: {folder}\ntrain: images/train\nval: images/val\nnames:\n{classes}\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=1200)
    arguments = parser.parse_args()
    began = time.monotonic()
    out = arguments.out.absolute()
    os.environ |= {"YOLO_OFFLINE": "true", "YOLO_CONFIG_DIR": str(out)}
    convert(arguments.data, out / "dataset")
    import torch
    from ultralytics import YOLO

    torch.set_num_threads(2)
    seen = 0

    def count(trainer):
        nonlocal seen
        seen += len(trainer.train_loader.dataset)

    model = YOLO("yolo26n-seg.yaml")
    model.add_callback("on_train_epoch_end", count)
    model.train(
        data=out / "dataset/clouds.yaml",
        time=(arguments.seconds - (time.monotonic() - began)) / 3600,
        imgsz=LONG_SIDE,
        batch=8,
        device="cpu",
        workers=1,
        cache="ram",
        overlap_mask=False,  # classes do overlap
        amp=False,
        plots=False,
        project=out / "runs",
    )
    trained = time.monotonic()
    model = YOLO(model.trainer.best)
    for split, folder in (("valid", "val"), ("test", "test")):
        (out / split).mkdir()
        results = model.predict(
            out / "dataset/images" / folder, imgsz=LONG_SIDE, conf=0.01, device="cpu", stream=True, verbose=False,
            retina_masks=True, save_txt=True, save_conf=True, project=out / "predicted", name=split,
        )  # fmt: skip
        for result in results:
            planes = np.zeros((len(CLASSES), 350, 525), np.float32)
            if result.masks is not None:
                objects = zip(result.masks.data.numpy(), result.boxes.cls.int(), result.boxes.conf, strict=True)
                for mask, label, confidence in objects:
                    large = cv2.resize(mask.astype(np.float32), (525, 350), interpolation=cv2.INTER_LINEAR)
                    planes[label] = np.maximum(planes[label], float(confidence) * (large > 0.5))
            np.save(out / split / f"{Path(result.path).stem}.npy", np.rint(255 * planes).astype(np.uint8))
    # What the comparison asks for beyond a script
    facts = {"seconds": trained - began, "seen": seen, "predicting": time.monotonic() - trained}
    facts["bytes"] = sum(path.stat().st_size for path in (out / "predicted/test/labels").iterdir())
    (out / "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
