"""Damaged files and full disks: the next run repairs what is wrong or stops with the file's name.

CLOUDSEG_DAMAGES=40 python -m pytest tests/workflow/test_damage.py -k random -s
"""

import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import zarr
from own_data import contents

from cloudseg.dataset.images_table import read_images
from cloudseg.ensemble.decision import Decision
from cloudseg.ensemble.score_tables import read_image_scores, read_scores
from cloudseg.errors import DiskFullError, StoreError
from cloudseg.models.checkpoint_file import read_state
from cloudseg.storage import stores
from cloudseg.storage.files import read_json, read_table, read_text
from cloudseg.training.data.dataset import fold_images
from cloudseg.training.record import RunRecord
from cloudseg.training.state_file import StateFile

SEEDS = [1, 2, 3]
DAMAGES = int(os.environ.get("CLOUDSEG_DAMAGES", "5"))
ROUND = 5  # damaged at once
DATASET = Path("results/tiny/dataset")
RUN = Path("results/tiny/runs/tu-test_resnet/fpn/64x96/tiny/fold0")
ENSEMBLE = Path("results/tiny/ensembles/all")
STORES = [
    *(DATASET / "train/64x96.zarr", DATASET / "truth.zarr", RUN / "best-valid.zarr", RUN / "last-test.zarr"),
    *(ENSEMBLE / "valid.zarr", ENSEMBLE / "surface.zarr"),
]
PREDICTED = ["best-valid", "best-test", "last-valid", "last-test"]
CHECKPOINTS = [RUN / "best.safetensors", Path("results/tiny/weights/tu-test_resnet/none.safetensors")]
TARGET = ("submission.csv", "--configfile", "config.yaml")


def read_decision(path, good):
    return Decision.read(path, list(zarr.open(good / ENSEMBLE / "test.zarr").attrs["classes"]))


def read_cuts(path, good):
    """What becomes masks; the choice of each fold, which only the leaderboard looks for, comes after it in the file."""
    return read_decision(path, good).cuts


DECISION = ENSEMBLE / "decision.yaml"
TEXTS = {
    DATASET / "train.tsv": lambda path, good: read_images(path, good / "images", "train"),
    DATASET / "test.tsv": lambda path, good: read_images(path, good / "images", "test"),
    DATASET / "folds.tsv": lambda path, good: fold_images(
        path, 0, zarr.open(good / DATASET / "truth.zarr").attrs["ids"]
    ),
    DECISION: read_cuts,
    ENSEMBLE / "scores.tsv": lambda path, good: read_scores(path, read_decision(good / DECISION, good)),
    ENSEMBLE / "images.tsv": lambda path, good: read_image_scores(path, read_decision(good / DECISION, good)),
    ENSEMBLE / "comparison.json": lambda path, good: read_json(path),
    RUN / "run.json": lambda path, good: RunRecord.read(path),
}
# Nothing says how many lines these have, so that a cut between two of them goes unnoticed.
UNCOUNTED = {
    RUN / "history.tsv": lambda path, good: read_table(path),
    ENSEMBLE / "submission.csv": lambda path, good: read_text(path),
}


@pytest.fixture(scope="module")
def good(finished_run):
    return finished_run.folder


@pytest.fixture(scope="module")
def wanted(good):
    return contents(good)


def copied(good, folder):
    """Copy a finished run, less the states of its trainings, which nothing here reads.

    File times stay, and the links of a finished training: what damages an output damages the file kept aside as well.
    """
    made = {}

    def copy(source, target):
        inode = Path(source).stat().st_ino
        if inode in made:
            os.link(made[inode], target)
        else:
            made[inode] = shutil.copy2(source, target)
        return target

    ignored = shutil.ignore_patterns("training.state")
    return shutil.copytree(good, folder, ignore=ignored, copy_function=copy, dirs_exist_ok=True)


def flip(path, draw, first=0, last=None):
    """Change one byte of a file; return its place."""
    data = bytearray(path.read_bytes())
    place = draw.randrange(first, len(data) if last is None else last)
    data[place] ^= draw.randrange(1, 256)
    path.write_bytes(data)
    return place


def halve(path):
    os.truncate(path, path.stat().st_size // 2)


# One file at a time, as the jobs read it


def values(store):
    """Read a store as the jobs do: its attributes, and per array its type and bytes."""
    node = stores.read(store)
    arrays = {"": node} if isinstance(node, zarr.Array) else dict(node.members(max_depth=None))
    arrays = {name: array for name, array in arrays.items() if isinstance(array, zarr.Array)}
    content = {name: stores.read_images(array, slice(None)).tobytes() for name, array in arrays.items()}
    return node.attrs.asdict(), {
        name: (array.metadata.dimension_names, array.dtype, array.shape, content[name])
        for name, array in arrays.items()
    }


def files_of(store):
    return sorted(path for path in store.rglob("*") if path.is_file() and path.name != ".snakemake_timestamp")


@pytest.mark.filterwarnings("ignore")  # Zarr's, about metadata that is damaged
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("store", STORES, ids=lambda path: path.name)
def test_a_flipped_byte_of_a_store_is_found_or_changes_nothing(good, tmp_path, store, seed):
    damaged, draw = tmp_path / store.name, random.Random(f"{seed} {store}")
    shutil.copytree(good / store, damaged)
    expected = values(good / store)
    caught = 0
    for file in files_of(damaged):
        before = file.read_bytes()
        for _ in range(12):
            place = flip(file, draw)
            try:
                assert values(damaged) == expected, f"byte {place} of {file}"
            except StoreError as error:
                assert str(damaged if file.name == "zarr.json" else file) in str(error)
                caught += 1
            file.write_bytes(before)
    assert caught > 6 * len(files_of(damaged))  # all but blanks of JSON and what zstd does not use


@pytest.mark.parametrize("store", STORES, ids=lambda path: path.name)
def test_another_letter_in_what_a_store_says_of_itself_is_found(good, tmp_path, store):
    """The hard case, since this is whole metadata still: one image would be taken for another."""
    damaged = shutil.copytree(good / store, tmp_path / store.name)
    document = json.loads((damaged / "zarr.json").read_text())
    for key, value in document["attributes"].items():
        text = json.dumps(value)
        place = max(place for place, letter in enumerate(text) if letter.isalnum())
        other = json.loads(text[:place] + ("1" if text[place] != "1" else "2") + text[place + 1 :])
        changed = document | {"attributes": document["attributes"] | {key: other}}
        (damaged / "zarr.json").write_text(json.dumps(changed))
        with pytest.raises(StoreError, match=store.name):
            stores.check(damaged)


@pytest.mark.filterwarnings("ignore")  # Zarr's, about metadata that is damaged
@pytest.mark.parametrize(
    "damage", [Path.unlink, halve, lambda path: path.write_bytes(b"")], ids=["gone", "cut", "empty"]
)
@pytest.mark.parametrize("store", STORES, ids=lambda path: path.name)
def test_a_store_that_lost_a_file_or_half_of_one_is_named(good, tmp_path, store, damage):
    for number, file in enumerate(files_of(good / store)):
        damaged = tmp_path / str(number) / store.name
        shutil.copytree(good / store, damaged)
        if file.parent.name in ("train", "test"):  # a folder of arrays, whose own metadata says nothing
            continue
        damage(damaged / file.relative_to(good / store))
        with pytest.raises(StoreError) as caught:
            values(damaged)
        assert str(damaged / file.relative_to(good / store) if "c" in file.parts else damaged) in str(caught.value)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=lambda path: path.name)
def test_a_flipped_byte_of_a_checkpoint_is_found(good, tmp_path, checkpoint, seed):
    damaged, draw = tmp_path / checkpoint.name, random.Random(f"{seed} {checkpoint}")
    expected, about = read_state(good / checkpoint)
    header = int.from_bytes((good / checkpoint).read_bytes()[:8], "little")
    for last in (None, None, 8 + header, 8 + header, 8 + header):
        shutil.copy(good / checkpoint, damaged)
        place = flip(damaged, draw, last=last)
        try:
            found, told = read_state(damaged)
        except ValueError as error:
            assert str(damaged) in str(error)
        else:  # a letter of the key under which `about` lies: then it is not said to be a checkpoint of ours
            assert told in (about, {}), place
            assert found.keys() == expected.keys(), place
            assert all(torch.equal(found[key], expected[key]) for key in found), place


@pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=lambda path: path.name)
@pytest.mark.parametrize("damage", [halve, lambda path: path.write_bytes(b"")], ids=["cut", "empty"])
def test_a_checkpoint_cut_short_is_named(good, tmp_path, checkpoint, damage):
    damaged = shutil.copy(good / checkpoint, tmp_path / checkpoint.name)
    damage(damaged)
    with pytest.raises(ValueError, match=checkpoint.name):
        read_state(damaged)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_damaged_state_of_a_training_is_not_gone_on_from(good, tmp_path, capsys, seed):
    path, draw = tmp_path / "training.state", random.Random(seed)
    digest = torch.load(good / RUN / "training.state", weights_only=True)["digest"]
    shutil.copy(good / RUN / "training.state", path)
    assert StateFile(path, digest).read() is not None
    flip(path, draw, first=path.stat().st_size // 10, last=path.stat().st_size * 9 // 10)  # in a tensor
    assert StateFile(path, digest).read() is None
    halve(path)
    assert StateFile(path, digest).read() is None
    path.write_bytes(b"")
    assert StateFile(path, digest).read() is None
    assert capsys.readouterr().out.count(str(path)) == 3


@pytest.mark.parametrize("name", [*TEXTS, *UNCOUNTED], ids=lambda path: path.name)
def test_a_text_cut_short_anywhere_is_named(good, tmp_path, name):
    read = (TEXTS | UNCOUNTED)[name]
    damaged = tmp_path / name.name
    whole = (good / name).read_bytes()
    line_ends = [place for place, byte in enumerate(whole, start=1) if byte == ord("\n")]
    within = [place for place in random.Random(str(name)).sample(range(len(whole)), 40) if place not in line_ends]
    for length in {0, len(whole) // 2, *within, *(line_ends if name in TEXTS else ())} - {len(whole)}:
        damaged.write_bytes(whole[:length])
        try:
            found = read(damaged, good)
        except ValueError as error:
            assert str(damaged) in str(error)
        else:
            assert name.name == "decision.yaml", length
            assert found == read(good / name, good)


# Whole runs


def test_flipped_probabilities_stop_the_run_that_blends_them(good, wanted, make_workflow, tmp_path):
    workflow = make_workflow(copied(good, tmp_path / "run"))
    store = workflow.folder / RUN / "best-test.zarr"
    draw = random.Random(4)
    flip(store / "c/0/0/0/0", draw, first=1000, last=2000)
    shutil.rmtree(workflow.folder / ENSEMBLE / "test.zarr")
    for made in (workflow.folder / ENSEMBLE / "submission.csv", workflow.folder / "submission.csv"):
        made.unlink()
    printed = workflow.run("--cores", "2", *TARGET, check=False)
    assert f"Error: {RUN}/best-test.zarr/c/0/0/0/0: image" in printed
    assert not (workflow.folder / "submission.csv").exists()
    assert not (workflow.folder / ENSEMBLE / "test.zarr").exists()

    shutil.rmtree(store)  # as it says
    workflow.run("--cores", "2", *TARGET)
    found = contents(workflow.folder)
    assert [name for name in wanted if found.get(name) != wanted[name]] == []


def test_a_checkpoint_cut_short_stops_the_plain_next_run(good, wanted, make_workflow, tmp_path):
    workflow = make_workflow(copied(good, tmp_path / "run"))
    halve(workflow.folder / RUN / "best.safetensors")
    printed = workflow.run("--cores", "2", *TARGET, check=False)
    assert f"Error: {RUN}/best.safetensors: not a whole safetensors file" in printed
    found = contents(workflow.folder)
    kept = next((good / RUN / "finished").glob("*/best.safetensors")).relative_to(good)
    assert {name for name in found if found[name] != wanted[name]} == {str(RUN / "best.safetensors"), str(kept)}
    # One prediction may have ended the run before the other began
    assert not all((workflow.folder / RUN / f"best-{split}.zarr").exists() for split in ("valid", "test"))


def test_half_a_decision_and_half_a_submission_stop_the_run(good, wanted, make_workflow, tmp_path):
    workflow = make_workflow(copied(good, tmp_path / "run"))
    halve(workflow.folder / ENSEMBLE / "submission.csv")
    assert f"Error: {ENSEMBLE}/submission.csv: " in workflow.run("--cores", "2", *TARGET, check=False)
    (workflow.folder / ENSEMBLE / "submission.csv").unlink()
    text = (workflow.folder / ENSEMBLE / "decision.yaml").read_text()
    (workflow.folder / ENSEMBLE / "decision.yaml").write_text(text[: text.index("min_size")])
    assert f"Error: {ENSEMBLE}/decision.yaml: " in workflow.run("--cores", "2", *TARGET, check=False)
    assert not (workflow.folder / ENSEMBLE / "submission.csv").exists()


def test_a_failed_read_is_not_forgiven_by_the_next_call(good, make_workflow, tmp_path):
    """Snakemake removes the stores that were to be made from the checkpoint; then it must not say that all is done."""
    workflow = make_workflow(copied(good, tmp_path / "run"))
    (workflow.folder / RUN / "best.safetensors").write_bytes(b"")
    printed = workflow.run("--cores", "2", "--configfile", "config.yaml", check=False)
    assert f"Error: {RUN}/best.safetensors: not a whole safetensors file" in printed
    assert "type: snakemake verify --configfile config.yaml --config remove=true" in printed
    assert workflow.planned("--configfile", "config.yaml")["predict"] >= 1


def outputs_of(folder):
    """List the outputs of jobs in the results, without logs, times, states and what is kept aside."""
    paths = (folder / "results").rglob("*")
    aside = (".log", ".state", ".outputs.json", ".asked.json", ".made_with.json", ".benchmark.tsv")
    wanted = [path for path in paths if path.is_file() and path.name != ".snakemake_timestamp"]
    # `finished` is compared with its digests before anything is put back from it (test_finished.py)
    return sorted(path for path in wanted if not path.name.endswith(aside) and "finished" not in path.parts)


def damage(path, draw):
    """Remove a file or cut it short anywhere; return the output that it belongs to."""
    if draw.random() < 0.5:
        path.unlink()
    else:
        os.truncate(path, draw.randrange(path.stat().st_size))
    return next((parent for parent in path.parents if parent.suffix == ".zarr"), path)


def commands_in(printed):
    """Return the commands that a report tells to type, as they stand there."""
    return [shlex.split(line) for line in printed.splitlines() if line.startswith("  snakemake ")]


def test_random_damage_is_found_and_made_again(good, wanted, make_workflow, tmp_path):
    """Nothing is typed but what is printed. CLOUDSEG_DAMAGES=40 for more than a round."""
    workflow = make_workflow(copied(good, tmp_path / "run"))
    draw = random.Random(int(os.environ.get("CLOUDSEG_SEED", "10")))
    found, done = 0, 0
    while done < DAMAGES:
        victims = {}
        while len(victims) < min(ROUND, DAMAGES - done):
            path = draw.choice(outputs_of(workflow.folder))
            victims.setdefault(damage(path, draw).relative_to(workflow.folder), path)
        done += len(victims)
        printed = workflow.run("--cores", "2", "verify", "--configfile", "config.yaml", check=False)
        missed = [name for name in victims if not re.search(rf"(damaged|lost): {re.escape(str(name))}[:/]", printed)]
        assert missed == [], printed
        found += len(victims)
        for _ in range(3):
            if not (again := commands_in(printed)):
                break
            printed = workflow.run("--cores", "2", *again[-1][1:])
        assert workflow.planned("--configfile", "config.yaml") == {}
        result = contents(workflow.folder)
        assert [name for name in wanted if result.get(name) != wanted[name]] == []
        healthy = workflow.run("--cores", "2", "verify", "--configfile", "config.yaml")
        assert "Everything is as it was made." in healthy
        print(
            f"{found} of {done} found and made again; {re.search('.* files and stores read.*', healthy)[0]}", flush=True
        )


def test_a_changed_digit_and_a_table_cut_between_lines_are_found(good, make_workflow, tmp_path):
    workflow = make_workflow(copied(good, tmp_path / "run"))
    (workflow.folder / RUN / "history.tsv").write_bytes(
        b"".join((good / RUN / "history.tsv").read_bytes().splitlines(keepends=True)[:-1])
    )
    scores = workflow.folder / ENSEMBLE / "scores.tsv"
    text = scores.read_text()
    place = max(n for n, letter in enumerate(text) if letter.isdigit())
    scores.write_text(text[:place] + str(9 - int(text[place])) + text[place + 1 :])
    printed = workflow.run("--cores", "2", "verify", "--configfile", "config.yaml", check=False)
    for name in (RUN / "history.tsv", ENSEMBLE / "scores.tsv"):
        assert f"damaged: {name}: its content is not what the job wrote" in printed


def test_a_damaged_history_is_trained_anew_and_not_put_back(good, wanted, make_workflow, tmp_path):
    """The copy of a finished training is a link: a line that is lost in place is lost in both."""
    workflow = make_workflow(copied(good, tmp_path / "run"))
    history = workflow.folder / RUN / "history.tsv"
    os.truncate(history, sum(map(len, history.read_bytes().splitlines(keepends=True)[:-1])))
    words = ("--cores", "2", "verify", "--configfile", "config.yaml", "--config", "remove=true")
    printed = workflow.run(*words)
    assert f"removed: {RUN}/history.tsv: its content is not what the job wrote" in printed
    printed = workflow.run("--cores", "2", *commands_in(printed)[-1][1:])
    assert "its files are back" not in printed
    assert (workflow.folder / RUN / "history.tsv").read_text().count("\n") == 5
    found = contents(workflow.folder)
    assert [name for name in wanted if found.get(name) != wanted[name]] == []


# A full disk


class Disk:
    """A small file system in memory, in a mount namespace of its own for who is not root."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.place, self.folder, self._inside, self._holder = folder, folder, [], None
        if os.geteuid() != 0:
            words = ["unshare", "-Urm", "sh", "-c", "echo ready; exec sleep infinity"]
            self._holder = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            if self._holder.stdout.readline() != b"ready\n":
                self._holder.wait()
                pytest.skip("mounting takes root, or a user namespace, and this machine gives neither")
            self._inside = ["nsenter", f"--target={self._holder.pid}", "--user", "--mount", "--preserve-credentials"]
            self.folder = Path(f"/proc/{self._holder.pid}/root{folder}")
        if self.do("mount", "-t", "tmpfs", "-o", "size=512m", "none", self.place).returncode:
            self.close()
            pytest.skip("mounting a tmpfs is not allowed on this machine")

    def do(self, *words) -> subprocess.CompletedProcess:
        command = [*self._inside, *map(str, words)]
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)

    def leave_free(self, kibibytes: int) -> None:
        used = shutil.disk_usage(self.folder).used // 1024
        assert self.do("mount", "-o", f"remount,size={used + kibibytes}k", "none", self.place).returncode == 0

    def run(self, repo, *words) -> subprocess.CompletedProcess:
        command = ["env", f"--chdir={self.place}", sys.executable, "-m", "snakemake", "--snakefile", repo / "Snakefile"]
        return self.do(*command, "--workflow-profile", repo / "profiles/default", "--cores", "2", *words)

    def close(self) -> None:
        if self._holder is None:
            subprocess.run(["umount", "--lazy", str(self.place)], stderr=subprocess.DEVNULL, check=False)
        else:  # the last process of a namespace takes its mounts along
            self._holder.kill()
            self._holder.wait()
            self._holder.stdout.close()


@pytest.fixture
def disk(tmp_path):
    small = Disk(tmp_path / "disk")
    yield small
    small.close()


@pytest.mark.parametrize(
    ("made", "free"),
    [([DATASET / "train/64x96.zarr"], 150), ([RUN / f"{mark}.zarr" for mark in PREDICTED], 900)],
    ids=["pixels", "predict"],
)
def test_a_full_disk_stops_the_run_and_room_lets_it_go_on(good, wanted, repo, disk, made, free):
    copied(good, disk.folder)
    for store in made:
        shutil.rmtree(disk.folder / store)
    disk.leave_free(free)
    failed = disk.run(repo, *made, "--configfile", "config.yaml")
    assert failed.returncode != 0
    assert re.search(rf"Error: (.*: )?{made[0].parent}/\S+\.zarr\.part/\S+: No space left on device", failed.stdout)
    found = contents(disk.folder)
    assert [name for name in found if found[name] != wanted[name]] == []

    disk.leave_free(200_000)
    done = disk.run(repo, *made, "--configfile", "config.yaml")
    assert done.returncode == 0, done.stdout
    found = contents(disk.folder)
    assert [name for name in found if found[name] != wanted[name]] == []
    assert {str(store / "zarr.json") for store in made} <= found.keys()


def test_a_full_disk_leaves_the_last_whole_state_of_a_training(disk):
    disk.leave_free(500)
    path = disk.folder / "training.state"
    file = StateFile(path, "digest")
    file.keep({"epoch": 1, "weights": torch.arange(40_000)})
    file.keep({"epoch": 2, "weights": torch.arange(40_000)})
    with pytest.raises(DiskFullError, match=r"training\.state.*No space left on device"):
        file.close()
    assert StateFile(path, "digest").read()["epoch"] == 1
    assert [file.name for file in disk.folder.iterdir()] == ["training.state"]
