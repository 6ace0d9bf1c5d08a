"""Fetching against a command of our own in the place of Kaggle's."""

import shutil
import stat
import sys
import zipfile
from pathlib import Path

import pytest

from cloudseg.dataset import fetch as fetching

LAYOUT = ["train.csv", "sample_submission.csv", "train_images/a.jpg", "test_images/b.jpg"]


@pytest.fixture
def kaggle(tmp_path, monkeypatch):
    """A `kaggle` command that copies an archive of the given entries, or fails, printing its token."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    monkeypatch.setattr(sys, "executable", str(bin_folder / "python"))

    def install(entries=None, archive=tmp_path / "archive.zip"):
        if entries:
            with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
                for name in entries:
                    file.writestr(name, entries[name] if isinstance(entries, dict) else "content")
        fails = 'echo "401 for $KAGGLE_API_TOKEN" >&2; exit 1'
        works = f'cp "{archive}" "$6/$4.zip"'
        script = bin_folder / "kaggle"
        script.write_text(f"#!/bin/sh\n{works if entries else fails}\n")
        script.chmod(0o755)

    return install


def settle(folder, files):
    """Make a folder with files of these names, and return it."""
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("content")
    return folder


def contents(folder):
    """Map the files of a folder, by their names, to their bytes and times."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in found}


CREDENTIALS = {"HOME": "/nowhere", "PATH": "/usr/bin:/bin", "KAGGLE_API_TOKEN": "secret-token"}


def test_without_credentials_it_says_the_two_lines_to_type(tmp_path):
    with pytest.raises(ValueError, match="no Kaggle credentials") as error:
        fetching.fetch("clouds", tmp_path / "data", environment={"HOME": str(tmp_path)})
    typed = [line for line in str(error.value).splitlines() if line.startswith("  ")]
    assert typed == ["  export KAGGLE_API_TOKEN=...", "  snakemake submission.csv --configfile config/kaggle.yaml"]
    assert list(tmp_path.iterdir()) == []


def test_fetches_and_unpacks_the_layout(tmp_path, kaggle):
    kaggle(LAYOUT)
    root = tmp_path / "data/clouds"
    fetching.fetch("clouds", root, environment=CREDENTIALS)
    assert contents(root).keys() - {fetching.MARKER} == set(LAYOUT)
    assert [path.name for path in root.parent.iterdir()] == ["clouds"]
    before = contents(root)
    kaggle()  # would fail
    fetching.fetch("clouds", root, environment=CREDENTIALS)
    assert contents(root) == before


def test_a_failure_shows_what_kaggle_said_but_never_the_token(tmp_path, kaggle):
    kaggle()
    with pytest.raises(ValueError, match="401 for <KAGGLE_API_TOKEN>") as error:
        fetching.fetch("clouds", tmp_path / "data", environment=CREDENTIALS)
    assert "secret-token" not in str(error.value)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["../outside.txt", "/outside.txt", "a/../../outside.txt"])
def test_an_archive_that_would_leave_its_folder_is_refused(tmp_path, kaggle, name):
    kaggle([*LAYOUT, name])
    with pytest.raises(ValueError, match="would leave the folder"):
        fetching.fetch("clouds", tmp_path / "data/clouds", environment=CREDENTIALS)
    assert not list(tmp_path.rglob("outside.txt"))


def test_another_layout_is_named(tmp_path, kaggle):
    kaggle(["readme.txt"])
    with pytest.raises(ValueError, match=r"holds no train_images, test_images, train\.csv"):
        fetching.fetch("clouds", tmp_path / "data", environment=CREDENTIALS)
    assert contents(tmp_path / "data").keys() == {f"{fetching.DOWNLOADS}/clouds.zip"}


def test_files_that_are_there_are_used_without_credentials_and_stay_as_they_are(tmp_path):
    root = settle(tmp_path / "mine", LAYOUT)
    before = contents(root)
    fetching.fetch("clouds", root, environment={"HOME": str(tmp_path)})
    assert contents(root) == before


@pytest.mark.parametrize(
    ("there", "said"),
    [(LAYOUT[:2], "holds train.csv, sample_submission.csv, but no train_images"), (["thesis.tex"], r"\(thesis.tex\)")],
)
@pytest.mark.parametrize("works", [True, False])
def test_a_folder_of_somebody_elses_is_left_alone(tmp_path, kaggle, there, said, works):
    kaggle(LAYOUT if works else None)
    root = settle(tmp_path / "mine", there)
    with pytest.raises(ValueError, match=said):
        fetching.fetch("clouds", root, environment=CREDENTIALS)
    assert contents(root).keys() == set(there)


def test_the_files_of_another_competition_are_not_taken_for_these(tmp_path, kaggle):
    kaggle(LAYOUT)
    fetching.fetch("clouds", tmp_path / "data", environment=CREDENTIALS)
    before = contents(tmp_path / "data")
    with pytest.raises(ValueError, match="expected the files of waves, got those of clouds"):
        fetching.fetch("waves", tmp_path / "data", environment=CREDENTIALS)
    assert contents(tmp_path / "data") == before


def test_a_call_that_was_stopped_while_it_moved_files_is_gone_on_with(tmp_path, kaggle, monkeypatch):
    kaggle(LAYOUT)
    rename, moved = Path.rename, []

    def stopped(path, target):
        if path.parent.name == "whole":
            moved.append(path.name)
            if len(moved) == 3:
                raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", stopped)
    with pytest.raises(KeyboardInterrupt):
        fetching.fetch("clouds", tmp_path / "data", environment=CREDENTIALS)
    kaggle()  # would fail
    fetching.fetch("clouds", tmp_path / "data", environment=CREDENTIALS)
    assert contents(tmp_path / "data").keys() - {fetching.MARKER} == set(LAYOUT)


def test_links_are_ours_and_lead_to_the_users_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settle(Path("mine"), LAYOUT)
    before = contents(Path("mine"))
    fetching.link(Path("mine"), Path("results/raw"))
    assert (tmp_path / "results/raw/train_images/a.jpg").read_text() == "content"
    Path("moved").mkdir()
    for name in ("mine", "results"):
        Path(name).rename(f"moved/{name}")  # as when a working directory moves
    assert Path("moved/results/raw/train_images/a.jpg").read_text() == "content"
    shutil.rmtree("moved/results/raw")  # as Snakemake does
    assert contents(Path("moved/mine")) == before


# An archive that is not what it seems


def test_an_archive_that_grows_beyond_reason_is_refused_before_anything_is_written(tmp_path, kaggle):
    kaggle(dict.fromkeys(LAYOUT, "content") | {"train_images/bomb.jpg": "0" * 10**6})
    with pytest.raises(ValueError, match=r"expected to unpack to at most 50 times its .* bytes, got 1,000,028"):
        fetching.fetch("clouds", tmp_path / "data", environment=CREDENTIALS)
    assert contents(tmp_path / "data").keys() == {f"{fetching.DOWNLOADS}/clouds.zip"}


def test_an_archive_that_the_disk_has_no_room_for_is_refused_before_anything_is_written(tmp_path, kaggle, monkeypatch):
    kaggle(LAYOUT)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 10, 10))
    with pytest.raises(ValueError, match="unpacks to 28 bytes, and its disk has 10 left"):
        fetching.fetch("clouds", tmp_path / "data", environment=CREDENTIALS)
    assert contents(tmp_path / "data").keys() == {f"{fetching.DOWNLOADS}/clouds.zip"}


def test_an_entry_that_holds_more_than_it_says_ends_the_unpacking(tmp_path, kaggle):
    archive = tmp_path / "archive.zip"
    kaggle(LAYOUT)
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr("train_images/liar.jpg", bytes(range(250)) * 8)
    data = archive.read_bytes()
    place = data.rindex(b"PK\x01\x02") + 24  # the size that the central directory gives to the last entry
    assert int.from_bytes(data[place : place + 4], "little") == 2000
    archive.write_bytes(data[:place] + (10).to_bytes(4, "little") + data[place + 4 :])
    with pytest.raises(ValueError, match="not a whole archive"):
        fetching.fetch("clouds", tmp_path / "data", environment=CREDENTIALS)
    assert contents(tmp_path / "data").keys() == {f"{fetching.DOWNLOADS}/clouds.zip"}


def test_an_archive_that_was_cut_short_is_named(tmp_path, kaggle):
    kaggle(LAYOUT)
    archive = tmp_path / "archive.zip"
    archive.write_bytes(archive.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"clouds.zip: not a whole archive .*remove it and run"):
        fetching.fetch("clouds", tmp_path / "data", environment=CREDENTIALS)


def test_an_entry_that_is_a_link_is_refused(tmp_path, kaggle):
    kaggle(LAYOUT)
    with zipfile.ZipFile(tmp_path / "archive.zip", "a") as file:
        entry = zipfile.ZipInfo("train_images/link.jpg")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(entry, "/etc/passwd")
    with pytest.raises(ValueError, match="is neither file nor folder"):
        fetching.fetch("clouds", tmp_path / "data", environment=CREDENTIALS)


# Where a download may go


@pytest.mark.parametrize(
    ("root", "said"),
    [
        (".", "the working directory"),
        ("..", "the working directory"),
        ("/", "the working directory"),
        ("data/..", "the working directory"),
        ("../home", "your home folder"),
        ("results/kaggle/dataset/raw", "where results are written"),
        ("file", "is a file"),
    ],
)
def test_a_download_goes_into_no_folder_that_holds_more(tmp_path, monkeypatch, root, said):
    for name in ("here/results", "here/data", "home/me"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "here/file").write_text("")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home/me"))
    [problem] = fetching.root_problems(root, "results")
    assert problem.startswith("dataset.root: ")
    assert said in problem
    assert fetching.root_problems("data", "results") == fetching.root_problems("new/clouds", "results") == []
