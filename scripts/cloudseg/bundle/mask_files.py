"""The masks of `masks.csv` in the forms that other programs read, each as large as its image."""

import contextlib
import csv
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cloudseg.bundle.folder import DECODED_BYTES
from cloudseg.bundle.gather import images_of
from cloudseg.dataset.decoding import decoding_bytes, load_image
from cloudseg.dataset.resizing import resize_mask
from cloudseg.errors import DatasetError
from cloudseg.postprocess import decode_rle
from cloudseg.postprocess.arguments import in_order
from cloudseg.report.pictures import jpeg, outlined
from cloudseg.runtime.job_progress import counting
from cloudseg.runtime.memory import OVERHEAD, MemoryBudget
from cloudseg.storage.files import atomic, remove


@dataclass(frozen=True)
class ImageMasks:
    """The masks of one image.

    Parameters
    ----------
    file : the image.
    texts : the run-length text of each class.
    grid : height and width of what the texts are of.
    """

    file: Path
    texts: Mapping[str, str]
    grid: tuple[int, int]

    @cached_property
    def image(self) -> np.ndarray:
        """The image itself, uint8 (H, W, 3)."""
        return load_image(self.file)

    @property
    def masks(self) -> dict[str, np.ndarray]:
        """The masks by class, uint8 0 and 1, as large as the image: a pixel is in where half of it is covered."""
        size = self.image.shape[:2]
        return {label: resize_mask(decode_rle(text, self.grid), size) for label, text in self.texts.items()}


@dataclass(frozen=True)
class MaskTable:
    """The masks of a folder of images.

    Parameters
    ----------
    path : `masks.csv`, with a row for each class of an image.
    images : the folder.
    classes : names, in the order of the rows.
    grid : height and width of what the run lengths are of.
    threads : images that are read and written at the same time.
    """

    path: str | Path
    images: str | Path
    classes: Sequence[str]
    grid: tuple[int, int]
    threads: int = 1

    def each(self, work: Callable[[ImageMasks], Any]) -> Iterator[Any]:
        """Yield what some work makes of the masks of each image, in their order.

        Raises
        ------
        DamagedFileError : if the table is not whole.
        DatasetError : if two images would have masks of the same name.
        """
        file_of: dict[str, str] = {}
        budget = MemoryBudget(OVERHEAD + DECODED_BYTES)

        def within_budget(image: ImageMasks) -> Any:
            with budget.take(decoding_bytes(image.file)):
                return work(image)

        def images(file: Any) -> Iterator[ImageMasks]:
            for name, rows in images_of(file, self.path, self.classes):
                other = file_of.setdefault(Path(name).stem, name)
                if other != name:
                    raise DatasetError(f"{self.images}: {other} and {name} differ in their suffix alone; rename one")
                texts = dict(zip(self.classes, (text for _, text in rows), strict=True))
                yield ImageMasks(Path(self.images, name), texts, self.grid)

        csv.field_size_limit(2**31 - 1)
        with Path(self.path).open(newline="", encoding="utf-8") as file, counting(0, "images") as done:
            for made in in_order(within_budget, images(file), self.threads):
                done(1)
                yield made


def write_pngs(table: MaskTable, out: str | Path) -> None:
    """Write each mask as a PNG of 0 and 255, `CLASS/IMAGE.png`, one without a pixel as well."""
    with _whole_folder(out) as folder:
        for label in table.classes:
            Path(folder, label).mkdir()

        def write(image: ImageMasks) -> None:
            for label, mask in image.masks.items():
                cv2.imwrite(str(Path(folder, label, f"{image.file.stem}.png")), 255 * mask)

        for _ in table.each(write):
            pass


def write_overlays(table: MaskTable, out: str | Path) -> None:
    """Write each image with the outlines of its masks as a JPEG, `IMAGE.jpg`."""
    with _whole_folder(out) as folder:

        def write(image: ImageMasks) -> None:
            drawn = outlined(image.image, np.stack(list(image.masks.values())))
            Path(folder, f"{image.file.stem}.jpg").write_bytes(jpeg(drawn))

        for _ in table.each(write):
            pass


@contextlib.contextmanager
def _whole_folder(out: str | Path) -> Iterator[Path]:
    """Yield a folder that gets its name when the block ends: what a kill leaves is not taken for the user's own."""
    part = Path(f"{out}.part")
    remove(part)
    part.mkdir(parents=True)
    yield part
    remove(out)
    part.replace(out)


def write_coco(table: MaskTable, out: str | Path) -> None:
    """Write each component of a mask as an object of COCO: run lengths, box and area, in pixels of its image.

    Pixels that touch at a corner are of one component. The file grows image by image, so that memory does not.
    """
    categories = [{"id": number, "name": label} for number, label in enumerate(table.classes, 1)]
    number_of_object = count(1)
    with (
        atomic(out) as temporary,
        temporary.open("w", encoding="utf-8") as file,
        tempfile.TemporaryFile("w+", dir=temporary.parent, encoding="utf-8") as images,
    ):
        file.write(f'{{"categories": {json.dumps(categories)},\n"annotations": [')
        first_object = True
        for number, (entry, objects) in enumerate(table.each(_coco_objects), 1):
            images.write(("" if number == 1 else ",") + "\n" + json.dumps({"id": number, **entry}))
            for each in objects:
                plain = {"id": next(number_of_object), "image_id": number, **each}
                file.write(("" if first_object else ",") + "\n" + json.dumps(plain))
                first_object = False
        file.write('\n],\n"images": [')
        images.seek(0)
        shutil.copyfileobj(images, file)
        file.write("\n]}\n")


def _coco_objects(image: ImageMasks) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the entry of an image and of each of its objects, without their numbers."""
    from pycocotools import mask as coco

    height, width = image.image.shape[:2]
    objects = []
    for category, mask in enumerate(image.masks.values(), 1):
        labels, components, boxes, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        drawn = np.zeros(mask.shape, np.uint8, order="F")
        for label in range(1, labels):
            left, top, wide, high, _ = boxes[label]
            box = np.s_[top : top + high, left : left + wide]
            drawn[box] = components[box] == label
            encoded = coco.encode(drawn)
            drawn[box] = 0
            objects.append(
                {
                    "category_id": category,
                    "iscrowd": 0,
                    "area": int(coco.area(encoded)),
                    "bbox": coco.toBbox(encoded).tolist(),
                    "segmentation": {"size": [height, width], "counts": encoded["counts"].decode()},
                }
            )
    return {"file_name": image.file.name, "height": height, "width": width}, objects
