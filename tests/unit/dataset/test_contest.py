import pytest

from cloudseg.dataset.contest import ContestFolder
from cloudseg.dataset.labels.interface import digest_labels
from cloudseg.dataset.labels.rle import RleLabels
from cloudseg.dataset.labels.tables import TableError, scan_table, split_label

HEADER = "Image_Label,EncodedPixels\n"


# The folder


def test_images_are_listed_by_suffix_and_sorted(tmp_path):
    folder = ContestFolder(tmp_path)
    (tmp_path / "train_images" / "sub.png").mkdir(parents=True)
    for name in ("b.jpg", "a.PNG", "10.jpeg", "9.jpg", ".hidden.jpg", "Thumbs.db", "c.tif"):
        (tmp_path / "train_images" / name).touch()
    assert folder.list_images("train") == ["10.jpeg", "9.jpg", "a.PNG", "b.jpg"]
    assert folder.list_others("train") == ["Thumbs.db", "c.tif", "sub.png"]


def test_the_rows_of_a_submission_keep_their_order(tmp_path):
    (tmp_path / "test_images").mkdir()
    for name in ("a.jpg", "b_c.jpg"):
        (tmp_path / "test_images" / name).touch()
    table = tmp_path / "sample_submission.csv"
    table.write_text(HEADER + "b_c.jpg_Sugar,1 1\na.jpg_Fish,1 1\nb_c.jpg_Fish,\na.jpg_Sugar,1 1\n")
    pairs = [("b_c.jpg", "Sugar"), ("a.jpg", "Fish"), ("b_c.jpg", "Fish"), ("a.jpg", "Sugar")]
    assert list(ContestFolder(tmp_path).submission_rows(["Fish", "Sugar"])) == pairs
    table.write_text(HEADER + "a.jpg_Fish,1 1\nc.jpg_Fish,1 1\n")
    with pytest.raises(TableError, match=r"sample_submission\.csv, line 3: 'c\.jpg_Fish' names no image"):
        list(ContestFolder(tmp_path).submission_rows(["Fish", "Sugar"]))
    table.unlink()
    pairs = [("a.jpg", "Sugar"), ("a.jpg", "Fish"), ("b_c.jpg", "Sugar"), ("b_c.jpg", "Fish")]
    assert list(ContestFolder(tmp_path).submission_rows(["Sugar", "Fish"])) == pairs
    table.symlink_to("nowhere.csv")
    with pytest.raises(FileNotFoundError):
        list(ContestFolder(tmp_path).submission_rows(["Fish", "Sugar"]))


# Tables


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("last", ["", "\n"])
def test_tables_of_every_make_read_alike(tmp_path, bom, end, quote, last):
    rows = ["a.jpg_Fish,1 3 9 2", "a.jpg_Sugar,", "é.jpg_Fish,4 4"]
    rows = [",".join(f"{quote}{cell}{quote}" for cell in row.split(",")) for row in rows]
    text = (HEADER.strip() + "\n" + "\n".join(rows) + last).replace("\n", end)
    path = tmp_path / "train.csv"
    path.write_bytes(bom + text.encode())
    found = list(scan_table(path))
    assert [(row.line, row.label, row.cells) for row in found] == [
        (2, "a.jpg_Fish", 2),
        (3, "a.jpg_Sugar", 2),
        (4, "é.jpg_Fish", 2),
    ]
    labels = RleLabels.index(path, {"a.jpg", "é.jpg"}, ["Fish", "Sugar"])
    assert labels.texts("a.jpg") == {"Fish": ["1 3 9 2"]}
    assert labels.texts("é.jpg") == {"Fish": ["4 4"]}
    assert labels.texts("c.jpg") == {}
    assert labels.read("a.jpg")["Fish"][0].line == 2


def test_lines_are_those_of_the_file(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text(HEADER + '\na.jpg_Fish,"1 3\n9 2"\n\n\nb.jpg_Fish,5 5,surplus\n')
    rows = list(scan_table(path))
    assert [(row.line, row.cells) for row in rows] == [(3, 2), (7, 3)]
    assert RleLabels.index(path, {"a.jpg"}, ["Fish"]).texts("a.jpg") == {"Fish": ["1 3\n9 2"]}


def test_long_labels_are_read(tmp_path):
    text = " ".join(f"{start} 1" for start in range(1, 200_000, 2))
    (tmp_path / "train.csv").write_text(f"{HEADER}a.jpg_Fish,{text}\n")
    assert RleLabels.index(tmp_path / "train.csv", {"a.jpg"}, ["Fish"]).texts("a.jpg") == {"Fish": [text]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1: expected the columns Image_Label,EncodedPixels, got ''"),
        (b"image,rle\na,1 1\n", "line 1: .* got 'image,rle'"),
        (b"Image_Label,EncodedPixels,more\n", "line 1: .* got 'Image_Label,EncodedPixels,more'"),
        (b"EncodedPixels,Image_Label\n", "line 1: "),
        (b'"Image_Label" ,EncodedPixels\n', "line 1: not a row of CSV"),
        (b'"Image_Label,EncodedPixels\na.jpg_Fish,1 1\n', "line 1: a quotation mark opens a cell that never ends"),
        (b"Image_Label;EncodedPixels\n", "line 1: "),
        ("Image_Label,EncodedPixels\n".encode("utf-16"), "line 1: expected text in UTF-8"),
        (HEADER.encode() + b"a.jpg_Fish,1 1\n\xe9.jpg_Fish,1 1\n", "line 3: expected text in UTF-8"),
        (HEADER.encode() + b'a.jpg_Fish,"1 1\nb.jpg_Fish,1 1\n', "line 2: a quotation mark opens a cell that"),
        (b"Image_Label,EncodedPixels\ra.jpg_Fish,1 1\r", "line 1: a line that ends with a carriage return alone"),
    ],
)
def test_tables_that_cannot_be_read_are_named_with_the_line(tmp_path, content, message):
    (tmp_path / "train.csv").write_bytes(content)
    with pytest.raises(TableError, match=rf"train\.csv, {message}"):
        list(scan_table(tmp_path / "train.csv"))


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("a.jpg_Fish", ("a.jpg", "Fish")),
        ("a.jpg_Big_Fish", ("a.jpg", "Big_Fish")),
        ("a.jpg_b.jpg_Fish", ("a.jpg_b.jpg", "Fish")),
        ("a.jpg_b.jpg_x", ("a.jpg", "b.jpg_x")),
        ("__init__.png_Fish", ("__init__.png", "Fish")),
        ("a.jpg_Fisch", ("a.jpg", "Fisch")),
        ("A.jpg_Fish", ("A.jpg", "Fish")),
        ("new_one.jpg_Big_Fish", ("new_one.jpg", "Big_Fish")),
        ("a.jpg", (None, "a.jpg")),
        ("_Fish", (None, "_Fish")),
        ("", (None, "")),
    ],
)
def test_labels_are_split_at_a_known_name(label, expected):
    known = {"a.jpg", "a.jpg_b.jpg", "__init__.png"}
    assert split_label(label, known, ["Fish", "Big_Fish", "b.jpg_x"]) == expected


def test_a_cell_of_megabytes_is_split_as_fast_as_a_name():
    names = {"a_b.jpg"}
    cell = "a_b.jpg_Fish_" * 200_000
    assert split_label(cell, names, ["Fish"]) == ("a_b.jpg", cell[8:])
    assert split_label("_" * 10**6, names, ["Fish"]) == (None, "_" * 10**6)


def test_rows_in_another_order_are_the_same_labels(tmp_path):
    path = tmp_path / "train.csv"
    digests = set()
    for rows in (["a.jpg_Fish,1 1", "a.jpg_Fish,5 2"], ["a.jpg_Fish,5 2", "a.jpg_Fish,1 1", "a.jpg_Fish,1 1"]):
        path.write_text(HEADER + "\n".join(rows) + "\n")
        digests.add(digest_labels(RleLabels.index(path, {"a.jpg"}, ["Fish"]).texts("a.jpg")))
    assert len(digests) == 1


def test_the_digest_of_labels_changes_with_them():
    digests = {
        digest_labels(texts)
        for texts in (
            *({}, {"Fish": ["1 1"]}, {"Fish": ["1 2"]}, {"Sugar": ["1 1"]}),
            *({"Fish": ["1 1"], "Sugar": ["1 1"]}, {"Fish": ["1 1", "1 2"]}),
        )
    }
    assert len(digests) == 6
    assert all(len(text) == 16 for text in digests)
