"""`source: kaggle` with a command of our own in the place of Kaggle's: what is in the user's folder stays there."""

import os
import shutil
import zipfile

import pytest
import yaml
from own_data import CONFIG, settle, write_config

KAGGLE = '''
import os, shutil, sys

def main():
    """Stand for `kaggle competitions download -c NAME -p FOLDER`."""
    if "ARCHIVE" not in os.environ:
        sys.exit("503 for " + os.environ["KAGGLE_API_TOKEN"])
    shutil.copy(os.environ["ARCHIVE"], f"{sys.argv[6]}/{sys.argv[4]}.zip")
'''
TARGET = ("results/tiny/dataset/train.tsv", "--configfile", "config.yaml")
MODULE = """
module cloudseg:
    snakefile: "{repo}/Snakefile"
    config: {config}
    pathvars:
        results="photos",

use rule * from cloudseg as clouds_*
"""


@pytest.fixture
def contest(workflow, small_images):
    """A working directory whose config asks for a contest's files in `data`; `archive` holds such files."""
    settle(workflow.folder, small_images)
    workflow.archive = workflow.folder / "archive.zip"
    with zipfile.ZipFile(workflow.archive, "w") as file:
        for path in (workflow.folder / "images").rglob("[!.]*"):
            file.write(path, path.relative_to(workflow.folder / "images"))
    (workflow.folder / "fake/kaggle").mkdir(parents=True)
    (workflow.folder / "fake/kaggle/__init__.py").write_text("")
    (workflow.folder / "fake/kaggle/cli.py").write_text(KAGGLE)

    def call(*words, archive=None, token=True, check=True, **dataset):
        write_config(workflow.folder, CONFIG | {"dataset": {"source": "kaggle", "root": "data"} | dataset})
        paths = [str(workflow.folder / "fake"), os.environ.get("PYTHONPATH", "")]
        environment = {"HOME": str(workflow.folder / "home"), "PYTHONPATH": os.pathsep.join(paths)}
        environment |= {"KAGGLE_API_TOKEN": "secret-token"} if token else {}
        environment |= {"ARCHIVE": str(archive)} if archive else {}
        return workflow.run(*TARGET, *words, check=check, environment=environment)

    workflow.call = call
    return workflow


def contents(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_a_folder_of_the_users_is_used_and_never_touched(contest):
    data = contest.folder / "data"
    shutil.copytree(contest.folder / "images", data)
    (data / "thesis.tex").write_text("years of work")
    before = contents(data)
    contest.call(token=False)
    contest.call("-F", token=False)
    contest.call(competition="another", token=False)
    contest.call(root="elsewhere", check=False)  # cannot be downloaded
    assert contents(data) == before
    (data / "train.csv").unlink()
    printed = contest.call("-F", check=False)
    assert "data: holds train_images, test_images, sample_submission.csv, but no train.csv" in printed
    assert contents(data) == {name: value for name, value in before.items() if name != "train.csv"}


def test_a_download_comes_once_and_a_failure_leaves_what_there_was(contest):
    printed = contest.call(check=False)
    assert "503 for <KAGGLE_API_TOKEN>" in printed
    assert "secret-token" not in printed
    assert not (contest.folder / "data").exists()
    contest.call(archive=contest.archive)
    for path in (contest.folder / "data").rglob("*"):
        path.touch()
    before = contents(contest.folder / "data")
    assert "Nothing to be done" in contest.call()
    contest.call("-F")  # without an archive: a second download would fail
    assert "got those of understanding_cloud_organization" in contest.call(competition="another", check=False)
    assert contents(contest.folder / "data") == before


def test_folders_that_hold_more_are_refused_before_anything_runs(contest):
    printed = contest.call("-n", root=".", check=False)
    assert "dataset.root: '.' holds the working directory" in printed
    assert len(printed.splitlines()) < 15


@pytest.mark.parametrize("source", ["demo", "kaggle"])
def test_results_that_were_moved_onto_a_folder_of_the_users_are_refused(contest, repo, source):
    photos = contest.folder / "photos/dataset/raw"
    photos.mkdir(parents=True)
    (photos / "wedding.jpg").write_text("once")
    config = yaml.safe_load(yaml.safe_dump(CONFIG)) | {"dataset": {"source": source}}
    (contest.folder / "Snakefile").write_text(MODULE.format(repo=repo, config=config))
    printed = contest.run("--snakefile", "Snakefile", "photos/dataset/train.tsv", "-F", check=False)
    assert "photos/dataset/raw: would be replaced by this workflow's images" in printed
    assert (photos / "wedding.jpg").read_text() == "once"
