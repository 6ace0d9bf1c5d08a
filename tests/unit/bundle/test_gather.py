"""Tables of shards joined into one."""

import csv

import pytest

from cloudseg.bundle import gather as gathering
from cloudseg.bundle.gather import gather
from cloudseg.errors import DamagedFileError

CLASSES = ["Fish", "Fish_2"]


def write(path, names):
    rows = [[f"{name}_{label}", f"{len(name)} 1" if label == "Fish" else ""] for name in names for label in CLASSES]
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([["Image_Label", "EncodedPixels"], *rows])
    return rows


@pytest.mark.parametrize("most", [2, 256])
def test_rows_are_sorted_by_image_whatever_is_in_a_name(tmp_path, monkeypatch, most):
    monkeypatch.setattr(gathering, "MOST_OPEN", most)
    names = ["a.jpg", "a_Fish.jpg", 'quo"ted, name.jpg', "z_Fish_2.jpg", "B.jpg", "a.jpg_Fish", "é.jpg"]
    shards = [tmp_path / f"{number}.csv" for number in range(5)]
    rows = [row for number, shard in enumerate(shards) for row in write(shard, sorted(names[number::5]))]
    assert gather(shards, tmp_path / "all.csv", classes=CLASSES) == 2 * len(names)
    _, *read = csv.reader((tmp_path / "all.csv").open(newline=""))
    assert [row[0] for row in read] == [f"{name}_{label}" for name in sorted(names) for label in CLASSES]
    assert sorted(read) == sorted(rows)


def test_a_shard_that_is_cut_short_is_named_and_nothing_is_written(tmp_path):
    write(tmp_path / "0.csv", ["a.jpg"])
    lines = (tmp_path / "0.csv").read_text().splitlines(keepends=True)
    (tmp_path / "0.csv").write_text("".join(lines[:-1]))
    with pytest.raises(
        DamagedFileError, match=r"0\.csv: expected a row for each class of a\.jpg, got a\.jpg_Fish; remove"
    ):
        gather([tmp_path / "0.csv"], tmp_path / "all.csv", classes=CLASSES)
    assert [path.name for path in tmp_path.iterdir()] == ["0.csv"]
