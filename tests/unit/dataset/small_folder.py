"""A small data set without a fault."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from cloudseg.dataset.check import check_dataset, rules

CLASSES = ["Fish", "Sugar"]
SHAPE = (40, 60)


def jpeg(seed: int, mode: str = "RGB", size: tuple[int, int] = SHAPE) -> bytes:
    noise = np.random.default_rng(seed).integers(1, 255, (*size, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(file, "jpeg")
    return file.getvalue()


class Folder:
    """A small data set without a fault, and the means to spoil it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for split, names in (("train", ["a.jpg", "b_c.jpg", "d.jpg"]), ("test", ["x.jpg", "y.jpg"])):
            (root / f"{split}_images").mkdir(parents=True)
            for name in names:
                (root / f"{split}_images" / name).write_bytes(jpeg(sum(name.encode())))
        self.train = ["a.jpg_Fish,1 3 9 2", "a.jpg_Sugar,", "b_c.jpg_Fish,", "b_c.jpg_Sugar,2400 1"]
        self.train += ["d.jpg_Fish,1 2400", "d.jpg_Sugar,40 2 42 1"]
        self.sample = ["x.jpg_Fish,1 1", "x.jpg_Sugar,1 1", "y.jpg_Fish,1 1", "y.jpg_Sugar,1 1"]

    def run(self, classes=CLASSES, workers=2):
        for name, rows in (("train.csv", self.train), ("sample_submission.csv", self.sample)):
            if rows is not None:
                text = "\n".join(["Image_Label,EncodedPixels", *rows, ""])
                (self.root / name).write_text(text, encoding="utf-8")
        return check_dataset(self.root, classes=classes, size_of_submission=(10, 15), workers=workers)

    def findings(self, **options) -> list[tuple[rules.CheckRule, str]]:
        _, report = self.run(**options)
        return [(finding.rule, str(finding)) for finding in report.findings]
