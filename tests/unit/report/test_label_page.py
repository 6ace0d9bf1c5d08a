"""The page of doubtful labels: the worst as pictures, hostile names as text, and nothing out of fold."""

import base64
import re
from functools import partial

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from small_stores import write

from cloudseg.postprocess import Cut
from cloudseg.report.label_page import draw, write_label_page
from cloudseg.studies.alignment import AS_IT_IS, TRANSPOSED, Look
from cloudseg.studies.label_faults import COLUMNS, FLIPS, rank_labels

CLASSES = ["</script><script>alert(1)</script>", "<b>Fish</b> & 'chips'"]
SIZE = (20, 30)


store = partial(write, classes=CLASSES)


def look(best=AS_IT_IS):
    names = [AS_IT_IS, *FLIPS, TRANSPOSED, "8 % further left"]
    return Look("images", {name: np.full(5, 0.9 if name == best else 0.5) for name in names}, 50)


@pytest.fixture
def written(tmp_path):
    def write(images=3, looks=(look(),), along_rows=False):  # noqa: B008  # it is only read
        ids = [f"{number}.jpg" for number in range(images)]
        folder = tmp_path / "train_images"
        folder.mkdir()
        for name in ids:
            Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(folder / name)
        masks = np.zeros((images, 2, *SIZE), np.uint8)
        masks[:, 0, 5:15, 5:15] = 1
        blend = store(tmp_path / "valid.zarr", (200 * masks[:, ::-1]).astype(np.uint8), ids, fold=[0] * images)
        paths = {"blend": blend, "truth": store(tmp_path / "truth.zarr", masks, ids), "root": tmp_path}
        table = rank_labels(paths["blend"], paths["truth"]).table
        cuts = dict.fromkeys(CLASSES, Cut(128, 0))
        write_label_page(table, looks, along_rows, tmp_path / "labels.html", cuts=cuts, **paths)
        return (tmp_path / "labels.html").read_text()

    return write


def test_the_worst_labels_are_drawn_and_names_are_text(written):
    page = written()
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    assert len(pictures) == 6
    assert all(cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), 1) is not None for data in pictures)
    assert "<script>alert" not in page and "<b>Fish" not in page
    assert "&lt;b&gt;Fish" in page
    assert "verdict bad" not in page and "the labels lie where they should" in page


@pytest.mark.parametrize("fault", [*FLIPS, TRANSPOSED, "8 % further left"])
def test_a_fault_of_the_whole_data_set_is_called_out(fault, written):
    page = written(looks=[look(fault)])
    assert "verdict bad" in page and f"the whole data set fit better {fault}" in page


def test_no_image_out_of_fold_and_nothing_to_tell(written):
    page = written(images=0, looks=[Look("images", {}, 0), Look("predictions", {}, 0)], along_rows=None)
    assert "No image is out of fold" in page and "<img" not in page
    assert "0 images are too few to tell from images" in page
    assert list(pd.DataFrame(columns=COLUMNS)) == COLUMNS


def test_a_label_is_outlined_and_a_prediction_filled():
    label, seen = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    label[5:15, 5:15], seen[5:15, 18:28] = 1, 1
    drawn = draw(np.zeros((*SIZE, 3), np.uint8), label, seen, "#ff0000")
    scale = drawn.shape[1] // SIZE[1]
    assert drawn[10 * scale, 10 * scale].tolist() == [0, 0, 0]  # inside of the outline alone
    assert drawn[10 * scale, 5 * scale].tolist() == [255, 0, 0]
    assert 80 < drawn[10 * scale, 23 * scale, 0] < 200
