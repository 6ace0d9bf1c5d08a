"""Bad images and tables stop the workflow before any training, with every problem in one report."""

import cv2
import pytest
from own_data import CONFIG, settle, write_config

STARTED = "rule train"


@pytest.fixture
def own_data(workflow, small_images):
    """A working directory with the small data set; run with `*own_data.words`."""
    settle(workflow.folder, small_images)
    workflow.words = ("--configfile", "config.yaml")
    return workflow


def stop(workflow):
    printed = workflow.run("--cores", "2", *workflow.words, check=False)
    assert STARTED not in workflow.log()  # the side that is sound may be split into folds meanwhile
    assert not list((workflow.folder / "results/tiny/dataset").glob("*.zarr*"))
    assert not (workflow.folder / "submission.csv").exists()
    assert "Traceback" not in printed
    return printed


def edit(path, change):
    path.write_text(change(path.read_text()))


def test_all_problems_of_a_dataset_stand_in_one_report(own_data):
    root = own_data.folder / "images"
    images = sorted((root / "train_images").iterdir())
    images[0].write_bytes(images[0].read_bytes()[:2000])
    images[1].unlink()

    def spoil(text):
        lines = text.splitlines()
        lines[9] = f"{images[2].name}_Fish,1 2 3"
        lines[10] = f"{images[2].name}_Flowr,1 2"
        lines[13] = f"{images[3].name}_Fish,29400 5"
        lines.append(lines[20])
        return "\n".join(lines) + "\n"

    edit(root / "train.csv", spoil)
    printed = stop(own_data)
    for name in (images[0].name, images[1].name, images[2].name, images[3].name, "Flowr"):
        assert name in printed
    report = printed.split("Error in rule check")[1]
    assert "8 errors" in report
    assert len(report.splitlines()) < 55  # one screen


def test_an_empty_test_folder(own_data):
    for path in (own_data.folder / "images/test_images").iterdir():
        path.unlink()
    assert "test_images" in stop(own_data)


def test_wrong_columns(own_data):
    edit(own_data.folder / "images/train.csv", lambda text: text.replace("Image_Label,EncodedPixels", "image,rle"))
    own_data.words = ("--retries", "1", *own_data.words)
    printed = stop(own_data)
    assert "Image_Label" in printed
    assert "train.csv" in printed
    assert "not tried again" in printed


def test_byte_order_mark_and_dos_line_ends_work(own_data):
    path = own_data.folder / "images/train.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    own_data.run("--cores", "2", "results/tiny/dataset/train.tsv", *own_data.words)


def test_a_file_where_a_folder_should_be(own_data):
    (own_data.folder / "results").write_text("in the way")
    printed = own_data.run("--cores", "2", *own_data.words, check=False)
    assert "results: a file is where the results' folder should be" in printed
    assert len(printed.splitlines()) < 15
    assert (own_data.folder / "results").read_text() == "in the way"


def test_mixed_image_sizes_have_no_quarter(own_data):
    import cv2

    path = sorted((own_data.folder / "images/test_images").iterdir())[0]
    cv2.imwrite(str(path), cv2.imread(str(path))[:100])
    edit(own_data.folder / "sheet.tsv", lambda text: text.replace("64x96", "x2"))
    printed = own_data.run("--cores", "2", *own_data.words, check=False)
    assert "x2" in printed
    assert STARTED not in own_data.log()


def test_an_unknown_encoder_is_named_before_any_training(own_data):
    edit(own_data.folder / "sheet.tsv", lambda text: text.replace("tu-test_resnet", "resnet43"))
    printed = own_data.run("--cores", "1", *own_data.words, check=False)
    assert "resnet34" in printed
    assert not (own_data.folder / "results").exists()


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("submission_size", "0x0", "got '0x0'"),
        ("folds", {"count": 1}, "at least 2"),
        ("decision", {"threshold": 1.5}, "expected at most 1, got 1.5"),
        ("dataset", {"source": "path", "root": "nowhere"}, "'nowhere' is no folder"),
    ],
)
def test_bad_configs_stop_at_once(own_data, key, value, complaint):
    write_config(own_data.folder, CONFIG | {key: value})
    printed = own_data.run(*own_data.words, check=False)
    assert complaint in printed
    assert "Traceback" not in printed
    assert len(printed.splitlines()) < 15
    assert not (own_data.folder / "results").exists()


def test_unlike_sizes_that_are_divided_stop_the_check_where_the_plan_did_not_see_them(own_data):
    """It looks at 16 headers alone."""
    images = own_data.folder / "images/train_images"
    one = cv2.imread(str(sorted(images.iterdir())[0]))
    for number in range(21):
        cv2.imwrite(str(images / f"00{number:02}.png"), one[::2, ::2] if number == 1 else one)
    edit(own_data.folder / "sheet.tsv", lambda text: text.replace("64x96", "x2"))
    report = stop(own_data).split("Error in rule check")[1]
    assert "the sheet: size 'x2' divides the original size, but the images have several sizes: 140x210 (" in report
    assert "70x105 (1 train image); write the size as HxW" in report
    (images / "0001.png").rename(images / "0000.png")
    printed = own_data.run("-n", *own_data.words, check=False)
    assert "sheet.tsv, line 2: size 'x2' divides the original size, but the images have several sizes: " in printed
    assert "70x105 (train_images/0000.png)" in printed
