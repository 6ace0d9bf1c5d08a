"""Images that the user leaves out: from the check on, everything is as if the folder did not hold them."""

import shutil

import numpy as np
import pandas as pd
import pytest

from cloudseg.dataset.black import build_black
from cloudseg.dataset.check import check_dataset, rules
from cloudseg.dataset.folds import make_folds
from cloudseg.dataset.images_table import read_images
from cloudseg.dataset.pixels import build_pixels, build_truth
from cloudseg.dataset.sample import make_sample
from cloudseg.report.pictures import class_table
from cloudseg.storage import stores
from cloudseg.storage.files import write_table
from cloudseg.studies.sanity.training import read_training

CLASSES = ["Fish", "Flower", "Gravel", "Sugar"]
SIZE = (35, 52)


def check(root, splits=("train",), **options):
    return check_dataset(root, classes=CLASSES, size_of_submission=SIZE, splits=splits, **options)


@pytest.fixture
def folders(small_images, tmp_path):
    """The same images twice, once with a list of those to leave out, of which one is broken, and once without them."""
    names = sorted(path.name for path in (small_images / "train_images").iterdir())
    out = [names[0], names[5], names[11]]
    for name in ("whole", "without"):
        shutil.copytree(small_images, tmp_path / name)
    (tmp_path / "out.txt").write_text("\n".join(["# upside down", *out]))
    (tmp_path / "whole/train_images" / out[1]).write_bytes(b"no picture")
    table = (tmp_path / "without/train.csv").read_text().splitlines()
    (tmp_path / "whole/train.csv").write_text(
        "\n".join([*[line + "1 0 x" * line.startswith(out[2]) for line in table], ""])
    )
    for name in out:
        (tmp_path / "without/train_images" / name).unlink()
    kept = [line for line in table if not line.startswith(tuple(out))]
    (tmp_path / "without/train.csv").write_text("\n".join([*kept, ""]))
    return tmp_path, out


def test_the_check_looks_at_neither_them_nor_their_labels(folders):
    folder, out = folders
    assert {finding.rule for finding in check(folder / "whole")[1].errors} == {rules.BAD_IMAGE, rules.BAD_TEXT}
    images, report = check(folder / "whole", exclude=folder / "out.txt")
    assert report.errors == []
    assert "3 train images left out by" in str(report)
    without, other = check(folder / "without")
    assert report.warnings == other.warnings
    pd.testing.assert_frame_equal(images.iloc[:9], without)
    assert images.iloc[9:]["image"].tolist() == out
    assert set(images.iloc[9:]["split"]) == {"excluded"}


def test_a_name_that_is_not_there_is_an_error_with_its_line_and_the_nearest(folders):
    folder, out = folders
    (folder / "out.txt").write_text(f"{out[0]}\n{out[1]} # broken\n{out[2][:-4]}\n")
    _, report = check(folder / "whole", exclude=folder / "out.txt")
    found = [str(finding) for finding in report.errors if finding.rule is rules.NO_SUCH_EXCLUDED]
    assert len(found) == 1
    assert f"out.txt (dataset.exclude), line 3: {out[2][:-4]!r} (nearest: {out[2]}" in found[0]


def test_a_list_of_all_images_is_an_error(folders):
    folder, _ = folders
    names = [path.name for path in (folder / "whole/train_images").iterdir()]
    (folder / "out.txt").write_text("\n".join(names))
    _, report = check(folder / "whole", exclude=folder / "out.txt")
    assert [finding.rule for finding in report.errors] == [rules.NO_IMAGES]


def test_both_splits_are_checked_without_them(folders):
    folder, out = folders
    test = next((folder / "whole/test_images").iterdir())
    shutil.copy(folder / "whole/train_images" / out[0], test)
    for splits in (("test",), ("train", "test")):
        _, report = check(folder / "whole", splits, exclude=folder / "out.txt")
        assert rules.SAME_BYTES not in {finding.rule for finding in report.findings}
    _, report = check(folder / "whole", ("test",))
    assert [finding.rule for finding in report.findings] == [rules.SAME_BYTES]


def tables(folder):
    """The table of images of either folder, read as all later jobs read it."""
    for name, options in (("whole", {"exclude": folder / "out.txt"}), ("without", {})):
        write_table(check(folder / name, **options)[0], folder / f"{name}.tsv")
        yield name, read_images(folder / f"{name}.tsv", folder / name, "train")


def values(path):
    group = stores.read(path)
    arrays = dict(group.arrays()) if hasattr(group, "arrays") else {"": group}
    return {name: np.asarray(array[:]) for name, array in arrays.items()}


def test_what_is_made_of_the_table_is_what_a_folder_without_them_makes(folders):
    folder, out = folders
    read = dict(tables(folder))
    pd.testing.assert_frame_equal(read["whole"], read["without"])
    for name, images in read.items():
        root = folder / name
        build_pixels(images, root, folder / f"{name}/pixels.zarr", split="train", size="x4", classes=CLASSES)
        build_truth(images, root, folder / f"{name}/truth.zarr", classes=CLASSES, size=SIZE)
        build_black(images, root, folder / f"{name}/black.zarr", split="train", grey=9, size=SIZE)
    for store in ("pixels.zarr", "truth.zarr", "black.zarr"):
        one, other = (stores.read(folder / name / store).attrs.asdict() for name in ("whole", "without"))
        assert one == other
        assert not set(out) & set(one["ids"])
        one, other = (values(folder / name / store) for name in ("whole", "without"))
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name]) for name in one)
    folds = [make_folds(images, classes=CLASSES, count=3, seed=1) for images in read.values()]
    pd.testing.assert_frame_equal(*folds)
    assert class_table(read["whole"]).columns[1].cells == class_table(read["without"]).columns[1].cells
    trained = [
        read_training(folder / f"{name}.tsv", folder / name / "truth.zarr", CLASSES, [0] * 4)
        for name in ("whole", "without")
    ]
    assert trained[0].names == trained[1].names
    assert np.array_equal(trained[0].shares, trained[1].shares)


def test_a_table_that_lacks_an_image_is_damaged_all_the_same(folders):
    folder, _ = folders
    list(tables(folder))
    text = (folder / "whole.tsv").read_text().splitlines(keepends=True)
    for row in (3, len(text) - 1):  # one that is used, and one that is left out
        (folder / "whole.tsv").write_text("".join(text[:row] + text[row + 1 :]))
        with pytest.raises(ValueError, match="it lacks 1 images of train_images/"):
            read_images(folder / "whole.tsv", folder / "whole", "train")


def test_a_smoke_run_takes_none_of_them(folders):
    folder, out = folders
    (folder / "whole/train.csv").write_text((folder / "whole/train.csv").read_text().replace("1 0 x", ""))
    for count in (4, 100):
        make_sample(
            folder / "whole",
            folder / f"sample{count}",
            classes=CLASSES,
            images={"train": count, "test": 2},
            exclude=folder / "out.txt",
        )
        images, report = check(folder / f"sample{count}")
        assert report.errors == []
        assert len(images) == min(count, 9)
        assert not set(images["image"]) & set(out)


def test_without_a_list_the_table_is_as_before(folders):
    folder, _ = folders
    images, _ = check(folder / "without")
    (folder / "none.txt").write_text("# nothing\n")
    same, report = check(folder / "without", exclude=folder / "none.txt")
    pd.testing.assert_frame_equal(images, same)
    assert "0 train images left out" in str(report)
