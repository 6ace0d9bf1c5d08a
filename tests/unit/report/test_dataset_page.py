"""The pages of images and of studies: what they show is there, and names are text."""

import re

import numpy as np
import pandas as pd

from cloudseg.dataset.images_table import read_images
from cloudseg.dataset.split import Split
from cloudseg.report.pictures import dataset_page
from cloudseg.report.study_pages import loading_html, quantising_html
from cloudseg.storage import stores
from cloudseg.storage.files import write_table

ODD = '<b>雲</b> "x"'


def test_a_class_that_never_occurs_and_a_hostile_name_stand_in_the_page_of_the_images(small_images, tmp_path):
    ids = sorted(path.name for path in (small_images / "train_images").iterdir())
    planes = np.zeros((len(ids), 2, 35, 52), np.uint8)
    planes[:, 0, 5:20, 5:20] = 1
    spec = stores.Spec(planes.shape, "uint8", ("image", "class", "y", "x"))
    writer = stores.Writer(tmp_path / "truth.zarr", {"": spec}, {"ids": ids, "classes": [ODD, "Never"]})
    writer.write(slice(0, len(ids)), planes)
    writer.finish()
    table = pd.DataFrame({"image": ids, "split": "train", "height": 140, "width": 210, "digest": "", "labels": ""})
    write_table(table.assign(**{ODD: 2940, "Never": 0}), tmp_path / "train.tsv")
    dataset_page(
        tmp_path / "truth.zarr", read_images(tmp_path / "train.tsv"), small_images, tmp_path / "page.html", images=3
    )
    text = (tmp_path / "page.html").read_text()
    assert "<b>" not in text
    assert text.count("&lt;b&gt;雲&lt;/b&gt;") >= 5  # legend, table, three captions
    assert "3 of 12 training images" in text
    assert text.count("data:image/jpeg") == 3
    assert ">10.0<" in text  # % of an image that it covers


def test_the_page_shows_how_even_the_folds_are(small_images, tmp_path):
    ids = sorted(path.name for path in (small_images / "train_images").iterdir())
    writer = stores.Writer(
        tmp_path / "truth.zarr",
        {"": stores.Spec((len(ids), 1, 35, 52), "uint8", ("image", "class", "y", "x"))},
        {"ids": ids, "classes": ["Fish"]},
    )
    writer.write(slice(0, len(ids)), np.ones((len(ids), 1, 35, 52), np.uint8))
    writer.finish()
    table = pd.DataFrame({"image": ids, "split": "train", "height": 140, "width": 210, "digest": "", "labels": ""})
    table["Fish"] = 2940
    pages = {}
    for name, split in (("with", Split([5, 7], [2, 3], {"Fish": [0.25, 0.5]}, [ODD])), ("without", None)):
        dataset_page(tmp_path / "truth.zarr", table, small_images, tmp_path / "page.html", images=1, split=split)
        pages[name] = (tmp_path / "page.html").read_text()
    assert "2 folds of 5 to 7 images; class rates differ by up to 0.250" in pages["with"]
    assert '<p class="verdict bad">&lt;b&gt;雲&lt;/b&gt;' in pages["with"]
    assert [text for text in (">25.0<", ">50.0<", "groups") if text not in pages["with"]] == []
    assert "folds" not in pages["without"].partition("<main")[2]


def test_a_study_shows_its_verdict_and_keeps_its_chart(tmp_path):
    ways = ["original", "decode, then resize", "resized store"]
    table = pd.DataFrame({"way": ways, "size": "4x6", "images": 4, "loader_seconds": [0.2, 0.1, 0.001]})
    table = table.assign(loader_ratio=1, epoch_seconds=0.3, epoch_ratio=1, diary_minutes=24, diary_ratio=1)
    loading_html(table, ODD, tmp_path / "loading.html", tmp_path / "loading.svg", verdict="It pays.")
    text = (tmp_path / "loading.html").read_text()
    assert text.index("It pays.") < text.index("<table")
    assert "<b>" not in text.split("charts-library")[0]
    assert "resized store" in (tmp_path / "loading.svg").read_text()


def test_the_change_by_rounding_is_that_of_the_curves(tmp_path):
    levels = np.arange(1, 256)
    curves = pd.DataFrame({"what": "network", "class": "all", "level": levels, "dice_float": 0.5})
    curves = curves.assign(dice_rounded=0.501, dice_truncated=0.498)
    summary = pd.DataFrame({"what": "network", "way": ["rounded", "truncated"], "mean_error": 0, "hundredth": 5})
    names = ("variance_of_error", "largest_at_levels", "level", "mean_at_levels", "largest_at_hundredths")
    summary = summary.assign(**dict.fromkeys(names, 0), mean_at_hundredths=0, variance=0, images=3)
    quantising_html(curves, summary, "run", tmp_path / "page.html", tmp_path / "page.svg")
    text = (tmp_path / "page.html").read_text()
    assert 'class="verdict"' not in text
    changes = {round(float(value), 6) for value in re.findall(r'"change": ?([-\d.e]+)', text)}
    assert changes == {0.001, -0.002}
