"""What the report of the check says, in which order and at what length."""

import cv2
import numpy as np
import pytest
from small_folder import CLASSES, SHAPE, jpeg

from cloudseg.dataset.check import check_dataset, rules
from cloudseg.errors import DatasetError


def test_warnings_do_not_stop(folder):
    write = {
        "train_images/a.jpg": cv2.imencode(".jpg", np.zeros((*SHAPE, 3), np.uint8))[1].tobytes(),
        "test_images/x.jpg": jpeg(3, "L"),
        "test_images/y.jpg": (folder.root / "train_images/d.jpg").read_bytes(),
        "test_images/notes.txt": b"",
    }
    for name, data in write.items():
        (folder.root / name).write_bytes(data)
    folder.train = ["a.jpg_Fish,1 1", "a.jpg_Sugar,", "d.jpg_Fish,1 1"]
    _, report = folder.run()
    report.raise_for_errors()
    assert [(finding.rule, str(finding)) for finding in report.warnings] == [
        (rules.ALL_BLACK, "train_images/a.jpg"),
        (rules.NO_ROWS, "train_images/b_c.jpg: no row"),
        (rules.NO_ROWS, "train_images/d.jpg: no row for Sugar"),
        (rules.NEVER, "train.csv: Sugar"),
        (rules.SAME_BYTES, "test_images/y.jpg: the same as train_images/d.jpg"),
    ]
    assert [(finding.rule, str(finding)) for finding in report.notes] == [
        (rules.IGNORED, "test_images/notes.txt"),
        (rules.GREY, "test_images/x.jpg"),
    ]
    assert "0 errors, 5 warnings, 2 notes." in str(report)


def test_what_is_harmless_takes_one_line_after_what_is_not(folder):
    for index in range(30):
        (folder.root / f"train_images/grey{index:02}.jpg").write_bytes(jpeg(index, "L"))
        folder.train += [f"grey{index:02}.jpg_{label}," for label in CLASSES]
    folder.train[3] = "b_c.jpg_Sugar,"
    folder.train[5] = "d.jpg_Sugar,"
    _, report = folder.run()
    lines = str(report).splitlines()
    note = "Note: grey images (30), such as train_images/grey00.jpg: grey is repeated in the three channels"
    assert lines[-2:] == [note, "0 errors, 1 warning, 30 notes."]
    assert "Warning: classes that no training image holds (1)" in lines[:-2]
    assert "train_images/grey29.jpg" in report.render(None)


def test_one_report_lists_all_problems_errors_first(folder):
    (folder.root / "train_images/a.jpg").write_bytes(b"")
    folder.train[2] = "b_c.jpg_Fish,0 1"
    folder.train += ["q.jpg_Fish,1 1", "d.jpg_Fish,1 1", "d.jpg_Shark,1 1"]
    folder.sample = folder.sample[:3]
    (folder.root / "test_images/x.jpg").write_bytes(jpeg(3, "L"))
    _, report = folder.run()
    text = str(report)
    for expected in (
        "train_images/a.jpg: an empty file",
        "train.csv, line 4: b_c.jpg_Fish (40x60): ",
        "train.csv, line 8: 'q.jpg_Fish'",
        "train.csv: 'd.jpg_Fish' 2 times, lines 6, 9",
        "train.csv, line 10: 'Shark' in 'd.jpg_Shark'",
        "test_images/y.jpg: no row for Sugar",
        "test_images/x.jpg",
        "5 errors, 1 warning, 1 note.",
    ):
        assert expected in text
    assert text.index("ERROR") < text.index("Warning: ") < text.index("Note: grey images")
    with pytest.raises(DatasetError, match="found 5 errors"):
        report.raise_for_errors()


def test_repeated_problems_fit_a_screen_and_can_all_be_shown(folder):
    folder.train += [f"gone{index:03}.jpg_Fish,1 1" for index in range(200)]
    _, report = folder.run()
    assert len(report.errors) == 200
    assert "... and 192 more" in str(report)
    assert len(str(report).splitlines()) < 40
    assert "gone199" not in str(report)
    assert "gone199" in report.render(most=None)


def test_labels_cannot_flood_or_forge_the_report(folder):
    folder.train.append(f'"a.jpg_{"x" * 5000}\nERROR: forged",1 1')
    _, report = folder.run()
    assert max(len(line) for line in str(report).splitlines()) < 200
    assert not any(line.startswith("ERROR: forged") for line in str(report).splitlines())


def test_a_size_of_the_sheet_that_divides_unlike_images_is_an_error(folder):
    folder.run()
    arguments = {"classes": CLASSES, "size_of_submission": (10, 15), "sizes": ["x4", "20x30", "x99"]}

    def errors(**more):
        _, report = check_dataset(folder.root, **arguments, **more)
        return [str(finding) for finding in report.errors if finding.rule is rules.UNFIT]

    nothing = "the sheet: size 'x99': expected a height and a width of at least 1 pixel of images of 40x60 ("
    assert errors() == [f"{nothing}3 train images, 2 test images)"]
    (folder.root / "test_images/x.jpg").write_bytes(jpeg(3, size=(20, 30)))
    several = "the sheet: size 'x4' divides the original size, but the images have several sizes: "
    assert errors()[0].startswith(f"{several}40x60 (3 train images, 1 test image), 20x30 (1 test image); write the")
    assert errors(splits=["train"]) == [f"{nothing}3 train images)"]
    (folder.root / "test_images/y.jpg").write_bytes(jpeg(4, size=(20, 30)))
    assert errors(splits=["test"])[0].startswith(f"{several}40x60 (train_images/a.jpg), 20x30 (2 test images)")
    (folder.root / "train_images/a.jpg").write_bytes(jpeg(5, size=(30, 20)))
    (folder.root / "left_out.txt").write_text("a.jpg\n")
    left_out = {"exclude": folder.root / "left_out.txt", "splits": ["test"]}
    assert "40x60 (train_images/b_c.jpg), 20x30 (2 test images)" in errors(**left_out)[0]


def test_no_image_at_all_that_can_be_used_still_gives_a_report(folder):
    for path in folder.root.glob("*_images/*"):
        path.write_bytes(b"")
    images, report = folder.run()
    assert len(images) == 0
    assert list(images.columns[-2:]) == CLASSES
    assert [finding.rule for finding in report.findings] == [rules.BAD_IMAGE] * 5
    assert "0 train images" in str(report)


def block(top: int, left: int, side: int) -> str:
    """The run lengths of a square in an image of `SHAPE`."""
    return " ".join(f"{1 + top + column * SHAPE[0]} {side}" for column in range(left, left + side))


def test_minimum_sizes_that_remove_true_masks_are_a_warning_with_the_line_to_paste(folder):
    folder.train[0] = f"a.jpg_Fish,{block(0, 0, 8)} {block(20, 20, 12)}"  # 2 x 2 and 3 x 3 pixels of 10 x 15
    folder.train[2] = f"b_c.jpg_Fish,{block(4, 4, 8)}"
    folder.train[3] = f"b_c.jpg_Sugar,{block(0, 0, 16)}"
    folder.run()

    def warnings(min_sizes):
        arguments = {"classes": CLASSES, "size_of_submission": (10, 15), "min_sizes": min_sizes}
        _, report = check_dataset(folder.root, **arguments)
        assert not report.errors
        return [str(finding) for finding in report.findings if finding.rule is rules.LOST]

    assert warnings(None) == warnings({}) == warnings({"decision": {"Fish": 4, "Sugar": 16}}) == []
    assert warnings({"decision": {"Fish": 9, "Sugar": 0}, "ensembles.all.decision": {"Fish": 10, "Sugar": 17}}) == [
        "decision: Fish 1 of 3 (below 9); min_size: {Fish: 4, Sugar: 0} keeps all",
        "ensembles.all.decision: Fish 2 of 3 (below 10), Sugar 1 of 1 (below 17); "
        "min_size: {Fish: 4, Sugar: 16} keeps all",
    ]
