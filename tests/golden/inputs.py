"""Images, tables and probabilities that are the same bytes on every machine: whole numbers alone decide them."""

import csv
import functools
import json
import shutil
from pathlib import Path

import numpy as np

CLASSES = ["Fish", "Flower", "Gravel"]
HEIGHT, WIDTH = 140, 210
COUNTS = {"train": 12, "test": 4}

Box = tuple[int, int, int, int]  # top, left, bottom, right


def write_own(folder: Path) -> None:
    """Write a working directory with a data set, its config and its sheet."""
    for path in (Path(__file__).parent / "own").iterdir():
        shutil.copy(path, folder / path.name)
    root = folder / "images"
    root.mkdir()
    rows: dict[str, list[list[str]]] = {split: [] for split in COUNTS}
    for name, (image, boxes) in scenes().items():
        split = name.rstrip("0123456789.jpg")
        (root / f"{split}_images").mkdir(exist_ok=True)
        write_jpeg(root / f"{split}_images" / name, image)
        rows[split] += [
            [f"{name}_{label}", "" if box is None else run_lengths(box)]
            for label, box in zip(CLASSES, boxes, strict=True)
        ]
    write_csv(root / "train.csv", rows["train"])
    write_csv(root / "sample_submission.csv", [[name, "1 1"] for name, _ in rows["test"]])


@functools.cache
def scenes() -> dict[str, tuple[np.ndarray, list[Box | None]]]:
    """Return each image, (height, width, 3) of uint8, and the box of each class that it holds."""
    rng = np.random.default_rng(2019)
    return {
        f"{split}{number:02d}.jpg": scene(rng, number) for split, count in COUNTS.items() for number in range(count)
    }


def scene(rng: np.random.Generator, number: int) -> tuple[np.ndarray, list[Box | None]]:
    image = rng.integers(0, 60, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    boxes: list[Box | None] = []
    for place in range(len(CLASSES)):
        box = None
        if number % 4 != place:
            top, left = int(rng.integers(0, HEIGHT // 2)), int(rng.integers(0, WIDTH // 2))
            box = (top, left, top + int(rng.integers(20, HEIGHT // 2)), left + int(rng.integers(30, WIDTH // 2)))
            image[box[0] : box[2], box[1] : box[3], place] += 150
        boxes.append(box)
    return image, boxes


def run_lengths(box: Box) -> str:
    """Write a box as the contest does: column after column, from 1."""
    top, left, bottom, right = box
    return " ".join(f"{column * HEIGHT + top + 1} {bottom - top}" for column in range(left, right))


def write_jpeg(path: Path, image: np.ndarray) -> None:
    import cv2

    assert cv2.imwrite(str(path), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])


def write_csv(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([["Image_Label", "EncodedPixels"], *rows])


def fix_safetensors(path: Path) -> None:
    """Give all tensors of a safetensors file numbers that no training decides, and drop the checksum of the others."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + size]), bytearray(data[8 + size :])
    for name, about in header.items():
        if name == "__metadata__":
            about |= {key: json.dumps(without_checksum(json.loads(text))) for key, text in about.items()}
            continue
        first, end = about["data_offsets"]
        dtype = {"F32": np.float32, "I64": np.int64}[about["dtype"]]
        values = np.arange((end - first) // dtype().itemsize) % 17
        fixed = np.ones_like(values) if name.endswith("running_var") or dtype is np.int64 else (values - 8) / 64
        body[first:end] = fixed.astype(dtype).tobytes()
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(body))


def without_checksum(about: dict) -> dict:
    return {key: value for key, value in about.items() if key != "checksum"}


def fix_probabilities(path: Path, seed: int) -> None:
    """Give a store of probabilities values that no network decides: higher in the boxes, with noise, fine and coarse.

    It says that it is complete without a digest, as the first stores did.
    """
    import zarr

    document = json.loads((path / "zarr.json").read_text())
    document["attributes"] |= {"complete": True, "run": f"{seed:064x}"}
    (path / "zarr.json").write_text(json.dumps(document))
    array = zarr.open(path, mode="r+")
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 2, (*array.shape[:2], 5, 5), dtype=np.uint8).repeat(14, axis=2).repeat(21, axis=3)
    block = rng.integers(0, 90, array.shape, dtype=np.uint8) + coarse * np.uint8(40)
    for row, name in enumerate(array.attrs["ids"]):
        for place, box in enumerate(scenes()[name][1]):
            if box is not None:
                top, left, bottom, right = (edge // 2 for edge in box)  # half as high and wide as the image
                block[row, place, top:bottom, left:right] += 110
    array[:] = block
