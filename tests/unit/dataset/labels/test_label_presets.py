"""Each contest's form: a small folder is read as what it means, and a submission is written byte for byte."""

import numpy as np
import pytest
from contest_forms import FORMS, SHAPE, masks_of, rows_of, write_contest, write_table
from small_stores import write

from cloudseg.config.label_presets import PRESETS
from cloudseg.config.model import Dataset
from cloudseg.dataset.check import check_dataset, rules
from cloudseg.dataset.contest import ContestFolder
from cloudseg.dataset.labels.submission import SubmissionForm
from cloudseg.dataset.pixels import build_truth
from cloudseg.dataset.sample import make_sample
from cloudseg.ensemble.masking import ImageRule
from cloudseg.ensemble.submission import write_submission
from cloudseg.postprocess import Cut
from cloudseg.storage import stores

TRAIN, TEST = ["a_1", "b.2", "c-3", "d4"], ["x_1", "y.2", "z3"]
# What a form makes of a folder without a fault: rows that are not there, or several of an image
USUAL = {rules.NO_ROWS.title, rules.ONLY_MASKS.title}


@pytest.fixture(params=FORMS, scope="module")
def contest(request, tmp_path_factory):
    root = tmp_path_factory.mktemp(request.param)
    form = FORMS[request.param]
    masks = write_contest(root, form, TRAIN, TEST)
    dataset = Dataset(source="path", root=str(root), labels=request.param)
    return form, masks, ContestFolder(root, dataset.layout)


def test_every_preset_has_a_small_folder():
    assert PRESETS.keys() == FORMS.keys()


def test_the_classes_of_a_contest_are_the_default(contest):
    form, _, _ = contest
    name = next(name for name, each in FORMS.items() if each is form)
    assert list(Dataset(source="path", labels=name).classes) == list(form.classes)
    assert Dataset(source="path", labels=name, classes=["other"]).classes == ("other",)


def checked(folder, form):
    images, report = check_dataset(
        folder.root, classes=form.classes, size_of_submission=SHAPE, layout=folder.layout.params
    )
    report.raise_for_errors()
    assert {finding.rule.title for finding in report.findings} <= USUAL
    return images


def test_a_folder_is_read_as_what_it_means(contest, tmp_path):
    form, masks, folder = contest
    images = checked(folder, form)
    for (image, label), mask in masks.items():
        row = images[images["image"] == image + form.suffix]
        assert row[label].item() == mask.sum()
    build_truth(images, folder, tmp_path / "truth.zarr", classes=form.classes, size=SHAPE)
    truth = stores.read(tmp_path / "truth.zarr")
    expected = [[masks[image, label] for label in form.classes] for image in TRAIN]
    np.testing.assert_array_equal(stores.read_images(truth, slice(0, len(TRAIN))), expected)


def test_a_submission_is_written_byte_for_byte(contest, tmp_path):
    form, _, folder = contest
    masks = masks_of(TEST, form.classes, seed=7)
    planes = np.array([[masks[image, label] for label in form.classes] for image in TEST], np.uint8) * 255
    blend = write(tmp_path / "test.zarr", planes, [image + form.suffix for image in TEST], classes=form.classes)
    rule = ImageRule.of_cuts(dict.fromkeys(form.classes, Cut(128, 0)))
    summary = write_submission(
        blend, rule, folder.submission_rows(form.classes), tmp_path / "ours.csv", form=folder.layout.submission
    )
    write_table(tmp_path / "theirs.csv", form.sample, rows_of(form, masks, sent=True))
    assert (tmp_path / "ours.csv").read_bytes() == (tmp_path / "theirs.csv").read_bytes()
    assert summary.rows == len(rows_of(form, masks, sent=True))
    assert summary.filled == sum(mask.any() for mask in masks.values())


def test_a_submission_is_read_back_as_masks(contest, tmp_path):
    form, _, folder = contest
    masks = masks_of(TEST, form.classes, seed=7)
    write_table(tmp_path / "theirs.csv", form.sample, rows_of(form, masks, sent=True))
    written_as = SubmissionForm(folder.layout.submission, SHAPE)
    images = {image + form.suffix: image for image in TEST}
    found = {key: np.zeros(SHAPE[0] * SHAPE[1], np.uint8) for key in masks}
    for _, image, label, text in written_as.read(tmp_path / "theirs.csv", list(images), form.classes):
        numbers = list(map(int, written_as.runs_of(text).split()))
        for start, length in zip(numbers[::2], numbers[1::2], strict=True):
            found[images[image], label][start - 1 : start - 1 + length] = 1
    for key, mask in masks.items():
        np.testing.assert_array_equal(found[key].reshape(SHAPE, order="F"), mask)
    assert written_as.runs_of(written_as.entry.empty if form.empty else "") == ""


def test_a_smoke_run_takes_a_sample_in_the_same_form(contest, tmp_path):
    form, masks, folder = contest
    taken = make_sample(
        folder.root,
        tmp_path / "raw",
        classes=form.classes,
        images={"train": 3, "test": 2},
        layout=folder.layout.params,
    )
    assert taken.startswith("3 of 4 train images, 2 of 3 test images")
    sample = ContestFolder(tmp_path / "raw", folder.layout)
    images = checked(sample, form)
    assert images["split"].value_counts().to_dict() == {"train": 3, "test": 2}
    for name, label in ((name, label) for name in sample.list_images("train") for label in form.classes):
        assert images[images["image"] == name][label].item() == masks[name.removesuffix(form.suffix), label].sum()
