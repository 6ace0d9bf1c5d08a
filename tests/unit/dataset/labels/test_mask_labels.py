"""Labels in a folder of masks: what is read, and what the check says of masks that are wrong."""

import numpy as np
import pytest
from contest_forms import SHAPE, masks_of, write_images, write_table
from PIL import Image

from cloudseg.config.labels import Layout
from cloudseg.dataset.check import check_dataset, rules
from cloudseg.dataset.contents import digest_contents
from cloudseg.dataset.contest import ContestFolder
from cloudseg.dataset.labels.masks import decode_mask
from cloudseg.dataset.pixels import build_truth
from cloudseg.dataset.sample import make_sample
from cloudseg.storage import stores

CLASSES, TRAIN, TEST = ["Fish", "Sugar"], ["a", "b.1", "c", "d"], ["x"]


class Masks:
    """A data set with masks, and the means to spoil it."""

    def __init__(self, root, **labels):
        self.root, self.entry = root, {"format": "masks", **labels}
        write_images(root / "train_images", [f"{name}.jpg" for name in TRAIN], 0)
        write_images(root / "test_images", [f"{name}.jpg" for name in TEST], 1)
        rows = [[f"{name}.jpg_{label}", "1 1"] for name in TEST for label in CLASSES]
        write_table(root / "sample_submission.csv", "Image_Label,EncodedPixels", rows)
        self.masks = masks_of(TRAIN, CLASSES, 0)
        for name in TRAIN:  # a pixel is of one class
            self.masks[name, "Sugar"] &= ~self.masks[name, "Fish"] & 1
        (root / "train_masks").mkdir()

    def values(self, name, fish=1, sugar=2):
        return self.masks[name, "Fish"] * np.uint16(fish) + self.masks[name, "Sugar"] * np.uint16(sugar)

    def write(self, file, values):
        path = self.root / "train_masks" / file
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(values).save(path)

    @property
    def layout(self):
        return Layout(labels=self.entry)

    def check(self, classes=CLASSES):
        return check_dataset(self.root, classes=classes, size_of_submission=SHAPE, layout=self.layout.params)

    def findings(self):
        return [(finding.rule, str(finding)) for finding in self.check()[1].errors]

    def truth(self, folder):
        images, report = self.check()
        report.raise_for_errors()
        source = ContestFolder(self.root, self.layout)
        build_truth(images, source, folder / "truth.zarr", classes=CLASSES, size=SHAPE)
        return stores.read_images(stores.read(folder / "truth.zarr"), slice(0, len(TRAIN)))

    @property
    def expected(self):
        return [[self.masks[name, label] for label in CLASSES] for name in TRAIN]


@pytest.fixture
def numbered(tmp_path):
    made = Masks(tmp_path / "data")
    for name in TRAIN:
        made.write(f"{name}.png", made.values(name).astype(np.uint8))
    return made


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "gif"])
def test_values_say_the_class(tmp_path, suffix):
    made = Masks(tmp_path / "data")
    for name in TRAIN:
        made.write(f"{name}.{suffix}", made.values(name).astype(np.uint8))
    np.testing.assert_array_equal(made.truth(tmp_path), made.expected)


def test_values_may_be_named_and_large_and_others_ignored(tmp_path):
    made = Masks(tmp_path / "data", values={"Fish": 500, "Sugar": 0}, ignore=[7, 255])
    for name in TRAIN:
        values = made.values(name, 500, 0)
        values[made.masks[name, "Sugar"] + made.masks[name, "Fish"] == 0] = 7
        values[0, 0] = 255
        made.masks[name, "Fish"][0, 0] = made.masks[name, "Sugar"][0, 0] = 0
        made.write(f"{name}.tif", values)
    np.testing.assert_array_equal(made.truth(tmp_path), made.expected)


@pytest.mark.parametrize("pattern", ["{class}/{image}", "{image}_{class}", "{image}/{class}_mask"])
@pytest.mark.parametrize("on", [1, 255, True])
def test_each_class_may_have_a_file_of_its_own(tmp_path, pattern, on):
    made = Masks(tmp_path / "data", files=pattern)
    made.masks = masks_of(TRAIN, CLASSES, 3)  # classes may overlap here
    for (name, label), mask in made.masks.items():
        values = mask.astype(bool) if on is True else mask * np.uint8(on)
        file = pattern.replace("{class}", label).replace("{image}", name)
        if mask.any() or label == "Sugar":  # an empty mask may be left out
            made.write(f"{file}.png", values)
    np.testing.assert_array_equal(made.truth(tmp_path), made.expected)
    assert {finding.rule.title for finding in made.check()[1].findings} <= {rules.ONLY_MASKS.title}


def test_one_class_may_be_255(tmp_path):
    made = Masks(tmp_path / "data")
    for name in TRAIN:
        made.write(f"{name}.png", made.masks[name, "Fish"] * np.uint8(255))
    write_table(made.root / "sample_submission.csv", "Image_Label,EncodedPixels", [["x.jpg_Fish", ""]])
    images, report = made.check(["Fish"])
    report.raise_for_errors()
    assert images["Fish"].dropna().tolist() == [made.masks[name, "Fish"].sum() for name in TRAIN]


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "LA", "I;16"])
def test_masks_of_every_kind_are_decoded(tmp_path, mode):
    values = np.arange(6, dtype=np.uint8).reshape(2, 3)
    image = Image.fromarray(values)
    if mode == "P":
        image.putpalette([250, 0, 0] * 256)
    elif mode == "I;16":
        image = Image.fromarray(values.astype(np.uint16))
    else:
        image = image.convert(mode)
    image.save(tmp_path / "mask.png")
    assert decode_mask((tmp_path / "mask.png").read_bytes()).tolist() == values.tolist()


def test_the_numbers_of_a_palette_count_if_it_has_colours(tmp_path):
    numbers = np.array([[0, 1, 1]], np.uint8)
    for palette, expected in (([0, 0, 0, 250, 0, 0], [0, 1, 1]), ([0, 0, 0, 255, 255, 255], [0, 255, 255])):
        image = Image.frombytes("P", (3, 1), numbers.tobytes())
        image.putpalette(palette)
        image.save(tmp_path / "mask.png")
        assert decode_mask((tmp_path / "mask.png").read_bytes()).tolist() == [expected]


def coloured(made):
    made.write("a.png", np.zeros((*SHAPE, 3), np.uint8) + np.array([1, 0, 0], np.uint8))


def strange(made):
    values = made.values("a").astype(np.uint8)
    values[0, :3] = 9
    made.write("a.png", values)


def transposed(made):
    made.write("a.png", made.values("a").astype(np.uint8).T.copy())


def in_two_formats(made):
    made.write("a.tif", made.values("a").astype(np.uint8))


def cut_short(made):
    path = made.root / "train_masks/a.png"
    path.write_bytes(path.read_bytes()[:-40])


FAULTS = {
    "colours": (
        coloured,
        rules.BAD_MASK,
        "a.png: a.jpg (40x60): expected one value per pixel, got colours",
    ),
    "values": (strange, rules.BAD_MASK, "expected the values 0, 1 (Fish), 2 (Sugar), got 9 in 3 pixels"),
    "axes": (
        transposed,
        rules.OTHER_SIZE,
        "a.png: a.jpg (40x60): the mask is 60x40; are its axes swapped?",
    ),
    "size": (lambda made: made.write("a.png", np.ones((10, 15), np.uint8)), rules.OTHER_SIZE, "the mask is 10x15"),
    "stranger": (
        lambda made: made.write("e.png", made.values("a").astype(np.uint8)),
        rules.MASK_WITHOUT_IMAGE,
        "train_masks/e.png: the mask of 'a.jpg' would be train_masks/a.png",
    ),
    "two": (
        in_two_formats,
        rules.TWO_FORMATS,
        "train_images/a.jpg: train_masks/a.png, train_masks/a.tif",
    ),
    "text": (
        lambda made: (made.root / "train_masks/a.png").write_text("no picture"),
        rules.BAD_MASK,
        "neither PNG, TIFF, BMP nor GIF (it begins with b'no pictu')",
    ),
    "short": (cut_short, rules.BAD_MASK, "cannot be decoded"),
    "empty": (lambda made: (made.root / "train_masks/a.png").write_bytes(b""), rules.BAD_MASK, "neither PNG"),
    "float": (
        lambda made: (made.write("a.tif", np.zeros(SHAPE, np.float32)), (made.root / "train_masks/a.png").unlink()),
        rules.BAD_MASK,
        "expected whole numbers",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_masks_that_are_wrong_are_named(numbered, fault):
    spoil, rule, message = FAULTS[fault]
    spoil(numbered)
    findings = numbered.findings()
    assert [found for found, _ in findings] == [rule]
    assert message in findings[0][1]


def test_all_faults_are_said_at_once(numbered):
    numbered.write("a.png", numbered.values("a").astype(np.uint8).T.copy())
    numbered.write("b.1.png", np.full(SHAPE, 9, np.uint8))
    numbered.write("other.png", np.zeros(SHAPE, np.uint8))
    assert {rule.title for rule, _ in numbered.findings()} == {
        rule.title for rule in (rules.OTHER_SIZE, rules.BAD_MASK, rules.MASK_WITHOUT_IMAGE)
    }


def test_a_file_of_a_class_has_two_values(tmp_path):
    made = Masks(tmp_path / "data", files="{class}/{image}")
    made.write("Fish/a.png", np.full(SHAPE, 2, np.uint8))
    made.write("Sugar/a.png", np.arange(60, dtype=np.uint8) % 2 * 254 + np.eye(40, 60, dtype=np.uint8))
    texts = [text for rule, text in made.findings() if rule is rules.BAD_MASK]
    assert "expected the values 0 and 1 or 255, got 2 in 2400 pixels" in texts[0]
    assert "train_masks/Sugar/a.png" in texts[1]


def test_an_image_without_a_mask_is_a_warning(numbered):
    (numbered.root / "train_masks/a.png").unlink()
    _, report = numbered.check()
    report.raise_for_errors()
    assert [str(finding) for finding in report.warnings] == ["train_images/a.jpg: no mask"]


def test_images_that_differ_by_their_suffix_alone_cannot_be_told_apart(numbered):
    write_images(numbered.root / "train_images", ["a.png"], 5)
    assert [text for rule, text in numbered.findings() if rule is rules.SAME_ID] == ["train_images/a.png: also a.jpg"]


def test_a_missing_folder_is_an_error(numbered):
    numbered.entry["folder"] = "labels"
    assert numbered.findings()[0][1] == "labels: no such folder"


def test_a_changed_mask_is_noticed_and_one_of_no_image_too(numbered):
    folder = ContestFolder(numbered.root, numbered.layout)
    before, images = digest_contents(folder, "train"), numbered.check()[0]
    numbered.write("a.png", np.zeros(SHAPE, np.uint8))
    after = digest_contents(folder, "train")
    assert before != after
    assert (numbered.check()[0]["labels"] != images["labels"]).sum() == 1
    numbered.write("e.png", np.zeros(SHAPE, np.uint8))
    assert digest_contents(folder, "train") != after


def test_a_mask_that_is_another_than_the_one_that_was_checked_is_refused(numbered, tmp_path):
    images, _ = numbered.check()
    numbered.write("a.png", np.ones(SHAPE, np.uint8))
    with pytest.raises(ValueError, match=r"the labels of 'a\.jpg' are not those that were checked"):
        build_truth(
            images, ContestFolder(numbered.root, numbered.layout), tmp_path / "t.zarr", classes=CLASSES, size=SHAPE
        )


def test_a_smoke_run_takes_the_masks_of_its_images(numbered, tmp_path):
    options = {"classes": CLASSES, "images": {"train": 2, "test": 1}, "layout": numbered.layout.params}
    assert make_sample(numbered.root, tmp_path / "raw", **options).startswith("2 of 4 train images")
    sample = ContestFolder(tmp_path / "raw", numbered.layout)
    assert [path.stem for path in sorted(sample.labels.iterdir())] == [
        name.removesuffix(".jpg") for name in sample.list_images("train")
    ]
    numbered.write("stranger.png", np.ones(SHAPE, np.uint8))
    said = make_sample(numbered.root, tmp_path / "all", **options)
    assert said.startswith("all images, since the tables or folders need mending first")
    assert (tmp_path / "all/train_masks/stranger.png").is_file()


def test_links_of_a_sample_never_reach_into_the_users_folder(tmp_path):
    made = Masks(tmp_path / "data", folder="train_images/masks")
    made.write("../train_images/masks/stranger.png", np.ones(SHAPE, np.uint8))
    before = sorted(made.root.rglob("*"))
    make_sample(made.root, tmp_path / "raw", classes=CLASSES, images={"train": 2, "test": 1}, layout=made.layout.params)
    assert sorted(made.root.rglob("*")) == before
