"""The page of masks: what is seen is what is scored and submitted, whatever classes are called and however many."""

import base64
import csv
import io
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from browser import CHROMIUM, MISSING, browser, errors, overflow, show
from made_ensemble import ODD, SIZE, make
from PIL import Image

from cloudseg.config.labels import CLOUDS
from cloudseg.dataset.labels.submission import SubmissionForm
from cloudseg.errors import DatasetError, StoreError
from cloudseg.postprocess import decode_rle
from cloudseg.report import layers
from cloudseg.report.choices import out_of_fold_choices, submitted_choices
from cloudseg.report.masks_page import MaskSource, OutOfFold, Photos, Submitted, submitted_pixels, write_masks_page
from cloudseg.storage import stores

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason=MISSING)


class Articles(HTMLParser):
    """Collect, per image of the page, the layers of its tiles: {(split, image): {kind: {class: (pixels, bytes)}}}."""

    def __init__(self):
        super().__init__()
        self.found, self._layers = {}, {}

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        if tag == "article":
            self._article = self.found.setdefault((named["data-split"], named["data-image"]), {})
        elif tag == "div" and named.get("class", "").startswith("stack"):
            self._layers = self._article.setdefault(named["class"].split()[1], {})
        elif tag == "img":
            self._layers[int(named["data-class"])] = (int(named["data-pixels"]), named["src"])


def decoded(address):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))


def written(made, member=None):
    valid, test = MaskSource(made / "valid.zarr", made.decision), MaskSource(made / "test.zarr", made.decision)
    best = None if member is None else MaskSource(made.members[member].store, made.decision)
    write_masks_page(
        OutOfFold(Photos(made / "raw", "train", made / "train.tsv", SIZE), valid, best, made / "truth.zarr"),
        Submitted(Photos(made / "raw", "test", made / "test.tsv", SIZE), test),
        scores=made.scores,
        pixels=submitted_pixels(made / "submission.csv", test.blended.ids, made.classes, SubmissionForm(CLOUDS, SIZE)),
        ensemble="all",
        member="" if member is None else f"m{member}",
        seed=1,
        page=made / "page.html",
        sheet=made / "sheet.svg",
    )
    page = Articles()
    page.feed((made / "page.html").read_text(encoding="utf-8"))
    return page.found


def test_masks_on_the_page_are_those_that_are_scored_and_submitted(tmp_path):
    made = make(tmp_path, ["Fish", "Flower"])
    found = written(made, member=1)
    with (tmp_path / "submission.csv").open(newline="") as file:
        texts = dict(list(csv.reader(file))[1:])
    assert {image for split, image in found if split == "train"} == set(made.scores["image"])
    scores = made.scores.set_index(["image", "class"])
    for (split, image), tiles in found.items():
        for number, name in enumerate(made.classes):
            pixels, address = tiles["final"].get(number, (0, None))
            drawn = None if address is None else decoded(address)
            if split == "train":
                row = scores.loc[(image, name)]
                assert pixels == row["kept"]
                assert (0 if drawn is None else np.isin(drawn, layers.KEPT).sum()) == row["kept"]
                assert (0 if drawn is None else np.isin(drawn, layers.TRUE).sum()) == row["truth"]
                assert tiles["truth"].get(number, (0, None))[0] == row["truth"]
            else:
                mask = decode_rle(texts[f"{image}_{name}"], SIZE)
                assert pixels == mask.sum()
                assert np.array_equal(np.zeros(SIZE, bool) if drawn is None else drawn != layers.OUT, mask != 0)


def test_the_members_mask_is_its_own(tmp_path):
    made = make(tmp_path, ["Fish"])
    found = written(made, member=2)
    store = stores.read(made.members[2].store)
    for row, image in enumerate(store.attrs["ids"]):
        cut = made.decision.rule_for(store.attrs["fold"][row]).classes["Fish"].cut
        mask = cut.mask(stores.read_images(store, slice(row, row + 1))[0, 0])
        assert found["train", image]["member"].get(0, (0, None))[0] == mask.sum()


def test_dice_in_text_is_that_of_the_scores(tmp_path):
    made = make(tmp_path, ["Fish", "Flower"])
    written(made)
    text = (tmp_path / "page.html").read_text()
    for image, scores in made.scores.groupby("image"):
        article = text.split(f'data-image="{image}"')[1].split("</article>")[0]
        assert f"Dice {scores['dice'].mean():.3f} over all classes, fold {scores['fold'].iloc[0]}" in article
        for row in scores.itertuples():
            cells = re.search(rf"{row[3]}</td>\s*<td>([\d,]+)</td>\s*<td>([\d,]+)</td>\s*<td>([\d.]+)</td>", article)
            if row.truth or row.kept:
                assert cells.groups() == (f"{row.truth:,}", f"{row.kept:,}", f"{row.dice:.3f}")
            else:
                assert cells is None


def test_photos_that_were_exchanged_are_refused_and_images_that_are_not_there(tmp_path):
    made = make(tmp_path, ["Fish"])
    path = tmp_path / "raw/train_images/2_a.jpg"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(DatasetError, match=r"2_a\.jpg: not the file that was checked"):
        Photos(made / "raw", "train", made / "train.tsv", SIZE).of("2_a.jpg")
    with pytest.raises(StoreError, match=r"expected the image z\.jpg"):
        MaskSource(made / "valid.zarr", made.decision).planes_and_masks("z.jpg")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"folds": (), "how": "fixed"}, "No out-of-fold images"),
        ({"folds": (0, 0)}, "there is one fold: their Dice is optimistic.\nLook"),
        ({"absent": ["Fish", "Flower"]}, "images that no network"),
        ({"folds": (0,), "tests": 1, "members": 1}, "Test images, evenly spread"),
        ({"tests": 0}, "There are no test images"),
    ],
)
def test_odd_runs_have_a_page_and_a_sheet(tmp_path, options, says):
    made = make(tmp_path, ["Fish", "Flower"], **options)
    written(made)
    assert says in (tmp_path / "page.html").read_text()
    ElementTree.parse(tmp_path / "sheet.svg")  # noqa: S314  # our own file


@needs_browser
def test_odd_names_are_text_many_classes_fit_and_a_button_shows_one_alone(tmp_path):
    classes = [*ODD, *(f"class {number}" for number in range(60))]
    made = make(tmp_path, classes, folds=(0, 1), members=2, tests=2)
    written(made, member=0)
    assert (tmp_path / "page.html").stat().st_size < 4e6
    for width in (1280, 400):
        with browser(width) as driver:
            show(driver, tmp_path / "page.html")
            assert driver.title == "Masks of all"
            assert errors(driver) == []
            assert overflow(driver) == 0
            buttons = driver.find_elements("css selector", ".classes button")
            assert [each.text for each in buttons[1:5]] == ODD
            assert driver.execute_script("return document.querySelectorAll('b').length") == 0
            buttons[1].click()
            kept = (
                "return [...document.querySelectorAll('.stack img')].filter(i => !i.hidden).map(i => i.dataset.class)"
            )
            assert set(driver.execute_script(kept)) <= {"0"}
            buttons[0].click()
            assert len(set(driver.execute_script(kept))) > 5
    tags = {each.tag.rpartition("}")[2] for each in ElementTree.parse(tmp_path / "sheet.svg").getroot().iter()}  # noqa: S314
    assert "text" in tags and not {"script", "b"} & tags


def test_choices_are_the_ends_the_middle_and_each_class_and_the_same_every_time():
    random = np.random.default_rng(5)
    rows = [
        (f"{n}.jpg", n % 2, name, int(random.integers(0, 3)), int(random.integers(0, 3)), float(random.random()))
        for n in range(50)
        for name in ("Fish", "Flower", "Sugar")
    ]
    scores = pd.DataFrame(rows, columns=["image", "fold", "class", "truth", "kept", "dice"])
    chosen = {choice.title: [image for image, _ in choice.images] for choice in out_of_fold_choices(scores, seed=3)}
    means = scores.groupby("image")["dice"].mean().sort_values()
    assert chosen["Lowest Dice"] == list(means.index[:3])
    assert set(chosen["In the middle"]) == set(means.index[24:26])
    with_truth = scores.groupby("image")["truth"].sum() > 0
    assert chosen["Highest Dice"] == list(means[with_truth[means.index]].index[::-1][:3])
    fish = scores[scores["class"] == "Fish"].set_index("image")
    assert chosen["Fish"] == [fish["dice"].idxmin(), fish[fish["truth"] > 0]["dice"].idxmax()]
    assert out_of_fold_choices(scores, seed=3) == out_of_fold_choices(scores, seed=3)
    pixels = {f"{n}.jpg": n * 7 % 50 for n in range(50)}
    ends = submitted_choices(pixels)[1].images
    assert sorted(pixels[image] for image, _ in ends) == [0, 1, 48, 49]
