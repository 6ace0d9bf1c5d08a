"""Fetching against a command of our own in the place of Kaggle's."""

import sys
import zipfile

import pytest

from cloudseg.dataset import fetch as fetching

LAYOUT = ["train.csv", "sample_submission.csv", "train_images/a.jpg", "test_images/b.jpg"]


@pytest.fixture
def kaggle(tmp_path, monkeypatch):
    """A `kaggle` command that copies an archive of the given entries, or fails, printing its token."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    monkeypatch.setattr(sys, "executable", str(bin_folder / "python"))

    def install(entries=None):
        archive = tmp_path / "archive.zip"
        with zipfile.ZipFile(archive, "w") as file:
            for name in entries or []:
                file.writestr(name, "content")
        fails = 'echo "401 for $KAGGLE_API_TOKEN" >&2; exit 1'
        works = f'cp "{archive}" "$6/$4.zip"'
        script = bin_folder / "kaggle"
        script.write_text(f"#!/bin/sh\n{works if entries else fails}\n")
        script.chmod(0o755)

    return install


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
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*.*")) == sorted(LAYOUT)
    assert [path.name for path in root.parent.iterdir()] == ["clouds"]


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
    assert not (tmp_path / "data").exists()
