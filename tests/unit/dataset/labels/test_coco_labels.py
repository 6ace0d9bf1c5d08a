"""Labels in a COCO file: what is read, held against pycocotools, and what the check says of files that are wrong."""

import json

import cv2
import numpy as np
import pytest
from contest_forms import SHAPE, masks_of, runs, write_images, write_table
from pycocotools import mask as coco
from pycocotools.coco import COCO

from cloudseg.config.labels import Layout
from cloudseg.dataset.check import check_dataset, rules
from cloudseg.dataset.contents import digest_contents
from cloudseg.dataset.contest import ContestFolder
from cloudseg.dataset.labels.coco import draw_segmentation, unpacked_counts
from cloudseg.dataset.pixels import build_truth
from cloudseg.dataset.sample import make_sample
from cloudseg.storage import stores

CLASSES, TRAIN, TEST = ["Fish", "Sugar"], ["a.jpg", "b.jpg", "c.jpg", "d.jpg"], ["x.jpg"]
STAR = [30.5, 2, 34, 14.25, 50, 15, 36, 22, 41, 38, 30, 27, 18, 38, 24, 22, 8, 15, 26, 14]


def counts_of(mask):
    """Write COCO's uncompressed run lengths pixel by pixel."""
    counts, place = [], 0
    for start, length in runs(mask.T.ravel()):
        counts += [start - place, length]
        place = start + length
    return [*counts, mask.size - place]


class Coco:
    """A data set with a COCO file, and the means to spoil it."""

    def __init__(self, root):
        self.root = root
        write_images(root / "train_images", TRAIN, 0)
        write_images(root / "test_images", TEST, 1)
        rows = [[f"{name}_{label}", "1 1"] for name in TEST for label in CLASSES]
        write_table(root / "sample_submission.csv", "Image_Label,EncodedPixels", rows)
        images = [
            {"id": 10 + n, "file_name": f"train/{name}", "height": SHAPE[0], "width": SHAPE[1]}
            for n, name in enumerate(TRAIN)
        ]
        categories = [{"id": 7, "name": "Sugar"}, {"id": 3, "name": "Fish"}, {"id": 9, "name": "Shark"}]
        masks = masks_of(TRAIN, CLASSES, 4)
        packed = coco.encode(np.asfortranarray(masks["b.jpg", "Fish"]))
        segmentations = [
            (10, 3, [STAR, [1, 1, 6, 1, 6, 7, 1, 7]]),  # a polygon in two pieces
            (10, 3, [[40, 20, 60, 20, 60, 40, 40, 40]]),  # and another object
            (11, 3, {"size": list(SHAPE), "counts": packed["counts"].decode()}),
            (11, 7, {"size": list(SHAPE), "counts": counts_of(masks["b.jpg", "Sugar"])}),
            (12, 7, [[0, 0, 60.5, 0, 60.5, 40.5, 0, 40.5]]),
            (12, 9, [[1, 1, 6, 1, 6, 7]]),
        ]
        self.content = {
            "images": images,
            "categories": categories,
            "annotations": [
                {"id": n, "image_id": image, "category_id": category, "segmentation": segmentation, "iscrowd": 0}
                for n, (image, category, segmentation) in enumerate(segmentations, 1)
            ],
        }
        self.write()

    def write(self):
        (self.root / "annotations.json").write_text(json.dumps(self.content))

    @property
    def layout(self):
        return Layout(labels={"format": "coco"})

    @property
    def folder(self):
        return ContestFolder(self.root, self.layout)

    def check(self, classes=CLASSES):
        return check_dataset(self.root, classes=classes, size_of_submission=SHAPE, layout=self.layout.params)

    def findings(self):
        return [(finding.rule, str(finding)) for finding in self.check()[1].errors]

    def spoil(self, number=1, **annotation):
        self.content["annotations"][number - 1] |= annotation
        self.write()
        return self.findings()


@pytest.fixture
def made(tmp_path):
    return Coco(tmp_path / "data")


def test_masks_are_those_of_pycocotools(made, tmp_path, capsys):
    images, report = made.check()
    report.raise_for_errors()
    assert [(finding.rule, str(finding)) for finding in report.findings] == [
        (rules.OTHER_CATEGORY, "annotations.json: Shark (1 annotations)")
    ]
    build_truth(images, made.folder, tmp_path / "truth.zarr", classes=CLASSES, size=SHAPE)
    truth = stores.read_images(stores.read(tmp_path / "truth.zarr"), slice(0, len(TRAIN)))
    theirs = COCO(str(made.root / "annotations.json"))
    for row, name in enumerate(TRAIN):
        for number, label in enumerate(CLASSES):
            found = theirs.getAnnIds(imgIds=[10 + row], catIds=theirs.getCatIds(catNms=[label]))
            expected = np.zeros(SHAPE, np.uint8)
            for annotation in theirs.loadAnns(found):
                expected |= theirs.annToMask(annotation)
            np.testing.assert_array_equal(truth[row, number], expected)
            assert images[label][row] == expected.sum(), name


def test_a_pixel_is_in_a_polygon_if_its_middle_is():
    mask = draw_segmentation([STAR], SHAPE)
    corners = np.array(STAR, np.float32).reshape(-1, 2)
    for y, x in np.ndindex(SHAPE):
        distance = cv2.pointPolygonTest(corners, (x + 0.5, y + 0.5), measureDist=True)
        if abs(distance) > 1:  # on the border, pycocotools rounds
            assert mask[y, x] == (distance > 0)


def test_compressed_run_lengths_are_those_of_pycocotools():
    rng = np.random.default_rng(0)
    for share in (0, 0.01, 0.5, 0.99, 1):
        mask = (rng.random((50, 70)) < share).astype(np.uint8)
        packed = coco.encode(np.asfortranarray(mask))
        assert unpacked_counts(packed["counts"].decode()) == counts_of(mask)[: None if mask[-1, -1] == 0 else -1]
        segmentation = {"size": [50, 70], "counts": packed["counts"].decode()}
        np.testing.assert_array_equal(draw_segmentation(segmentation, (50, 70)), mask)


SEGMENTATIONS = {
    "short": ([[1, 1, 5, 5]], "annotation 1: expected x and y of three corners or more, got 4 numbers in polygon 1"),
    "odd": ([STAR, [1, 1, 5, 5, 9, 9, 1]], "got 7 numbers in polygon 2"),
    "text": ([["1", 2, 3, 4, 5, 6]], "expected a list of numbers as polygon 1"),
    "flat": ([1, 1, 5, 1, 5, 5], "expected a list of numbers as polygon 1, got 1"),
    "none": (None, "expected polygons or run lengths, got None"),
    "no polygon": ([], "expected polygons or run lengths, got []"),
    "outside": ([[70, 1, 80, 1, 80, 9]], "polygon 1 reaches outside of the image (x 70 to 80, y 1 to 9)"),
    "swapped": ([[1, 50, 30, 50, 30, 59]], "y 50 to 59); are x and y, or height and width, swapped?"),
    "negative": ([[-9, 1, 5, 1, 5, 5]], "polygon 1 reaches outside of the image (x -9 to 5, y 1 to 5)"),
    "size": ({"size": [10, 10], "counts": [100]}, "annotation 1: its run lengths are of 10x10"),
    "axes": ({"size": [60, 40], "counts": [2400]}, "its run lengths are of 60x40; are its axes swapped?"),
    "few": ({"size": [40, 60], "counts": [5, 5]}, "run lengths of 10 pixels, and the image has 2400"),
    "packed": ({"size": [40, 60], "counts": "12 3"}, "'12 3' is no text of compressed run lengths"),
    "broken": ({"size": [40, 60], "counts": "12o"}, "'12o' breaks off within a number"),
    "empty": ({"size": [40, 60], "counts": ""}, "run lengths of 0 pixels"),
    "no size": ({"counts": [2400]}, "expected the size [height, width] of run lengths, got None"),
    "less than none": ({"size": [40, 60], "counts": [2500, -100]}, "expected the counts of run lengths"),
}


@pytest.mark.parametrize("fault", SEGMENTATIONS)
def test_outlines_that_are_wrong_are_named_with_their_annotation(made, fault):
    segmentation, message = SEGMENTATIONS[fault]
    ((rule, text),) = made.spoil(segmentation=segmentation)
    assert rule is (rules.OTHER_SIZE if fault in ("size", "axes") else rules.BAD_ANNOTATION)
    assert text.startswith("annotations.json: a.jpg")
    assert message in text


ENTRIES = {
    "image": (lambda c: c["annotations"][0].update(image_id=99), rules.NO_SUCH_ID, "annotation 1: image_id 99"),
    "category": (lambda c: c["annotations"][1].update(category_id=4), rules.NO_SUCH_ID, "annotation 2: category_id 4"),
    "file": (lambda c: c["images"][3].update(file_name="e.jpg"), rules.NO_SUCH_IMAGE, "image 13, 'e.jpg'"),
    "id": (lambda c: c["images"][1].update(id=10), rules.SAME_COCO_ID, "image 10 ('b.jpg')"),
    "name": (lambda c: c["images"][1].update(file_name="a.jpg"), rules.SAME_COCO_ID, "image 11 ('a.jpg')"),
    "class": (lambda c: c["categories"][1].update(name="Fihs"), rules.NO_SUCH_CATEGORY, "Fish (nearest: Fihs)"),
    "entry": (lambda c: c["annotations"].append(["?"]), rules.BAD_ENTRY, "entry 6 of annotations, ['?']"),
    "key": (lambda c: c["images"][0].pop("file_name"), rules.BAD_ENTRY, "entry 0 of images, {'id': 10"),
    "list id": (lambda c: c["annotations"][0].update(image_id=[1]), rules.BAD_ENTRY, "entry 0 of annotations"),
    "no images": (lambda c: c["images"].clear(), rules.BAD_COCO, "no image in its list `images`"),
    "no list": (lambda c: c.pop("categories"), rules.BAD_COCO, "no list categories (it has annotations, images)"),
}


@pytest.mark.parametrize("fault", ENTRIES)
def test_entries_that_are_wrong_are_named(made, fault):
    spoil, rule, message = ENTRIES[fault]
    spoil(made.content)
    made.write()
    found = [text for each, text in made.findings() if each.title == rule.title]
    assert found
    assert message in found[0]


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '{"images": 3}', "\ud800", "[" * 100_000])
def test_what_is_no_coco_file_is_one_finding(made, text):
    (made.root / "annotations.json").write_text(text, errors="surrogatepass")
    found = [str(finding) for finding in made.check()[1].errors if finding.rule is rules.BAD_COCO]
    assert len(found) == 1


def test_all_faults_are_said_at_once(made):
    made.content["annotations"][1]["category_id"] = 4
    made.content["images"][3]["file_name"] = "e.jpg"
    findings = made.spoil(segmentation=[[1, 1]])
    assert {rule.title for rule, _ in findings} == {
        rule.title for rule in (rules.NO_SUCH_ID, rules.NO_SUCH_IMAGE, rules.BAD_ANNOTATION)
    }


def test_an_image_that_the_file_does_not_name_is_a_warning_and_one_without_annotations_is_not(made):
    del made.content["images"][3]
    made.write()
    _, report = made.check()
    report.raise_for_errors()
    assert [str(finding) for finding in report.warnings] == ["train_images/d.jpg: no entry"]


def test_a_file_of_all_images_may_name_those_of_the_test_folder(made):
    made.content["images"].append({"id": 50, "file_name": "x.jpg"})
    made.content["annotations"].append({"id": 9, "image_id": 50, "category_id": 3, "segmentation": [STAR]})
    made.write()
    assert made.findings() == []


def test_a_missing_file_is_an_error(made):
    (made.root / "annotations.json").unlink()
    assert made.findings()[0][1] == "annotations.json: no such file"


def test_only_the_labels_that_were_edited_have_another_digest(made):
    before, contents = made.check()[0], digest_contents(made.folder, "train")
    made.spoil(segmentation=[STAR])
    assert (made.check()[0]["labels"] != before["labels"]).tolist()[:4] == [True, False, False, False]
    assert digest_contents(made.folder, "train") != contents


def test_a_smoke_run_takes_the_entries_of_its_images(made, tmp_path):
    options = {"classes": CLASSES, "images": {"train": 3, "test": 1}, "layout": made.layout.params}
    assert make_sample(made.root, tmp_path / "raw", **options).startswith("3 of 4 train images")
    images, report = check_dataset(
        tmp_path / "raw", classes=CLASSES, size_of_submission=SHAPE, layout=made.layout.params
    )
    report.raise_for_errors()
    whole = made.check()[0].set_index("image")
    for image in images[images["split"] == "train"].itertuples():
        assert (image.Fish, image.labels) == (whole["Fish"][image.image], whole["labels"][image.image])
    made.spoil(image_id=99)
    said = make_sample(made.root, tmp_path / "all", **options)
    assert said.startswith("all images, since the tables or folders need mending first (annotations.json: annotation 1")
