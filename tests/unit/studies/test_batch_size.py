"""The batch-size finder finds what really fits, and ends with the words of what went wrong."""

import contextlib
import resource

import pandas as pd
import pytest
import torch
from network_fixtures import small_recipe
from torch import nn

from cloudseg.config.batching import accumulation_steps
from cloudseg.config.sheet import KEY
from cloudseg.storage.files import read_table, write_table
from cloudseg.studies import batch_size
from cloudseg.studies.batch_size import Fitted, OutOfMemory, find_batch_size, join, page, search

CPU = torch.device("cpu")
NETWORK = {"encoder": "tu-test_resnet", "decoder": "fpn", "size": (64, 96), "classes": 4, "device": "cpu"}


class Roomy(nn.Module):
    """A network on a device with room for so many images."""

    def __init__(self, room, error=torch.OutOfMemoryError):
        super().__init__()
        self.layer, self.room, self.error = nn.Conv2d(3, 4, 1), room, error

    def forward(self, image):
        if len(image) > self.room:
            raise self.error("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore words")
        return self.layer(image)


@contextlib.contextmanager
def here(work, **settings):
    yield lambda *arguments: work(*arguments, **settings)


@pytest.fixture
def room(monkeypatch):
    """Let the trials be made in this process, by a network with room for so many images."""
    seen = []

    def give(images, **options):
        def model_of(header):
            seen.append(images)
            return Roomy(images, **options)

        monkeypatch.setattr(batch_size, "model_of", model_of)
        return seen

    monkeypatch.setattr(batch_size, "isolated", here)
    monkeypatch.setattr(batch_size, "TIMED", 0)
    return give


def small(**options):
    recipe = small_recipe(**{"loss": {"bce": 1}} | options.pop("recipe", {}))
    return find_batch_size(**NETWORK | {"size": (32, 32), "recipe": recipe} | options)


@pytest.mark.parametrize("images", [2, 3, 7, 16, 100])
def test_the_largest_number_that_fits_is_found(room, images):
    room(images)
    *tried, summary = small()
    largest = summary["largest_batch"]
    assert largest == images if images < 16 else images * 7 / 8 <= largest <= images
    assert summary["ended_by"] == "memory"
    assert [row["what"] for row in tried] == ["tried"] * len(tried)
    assert tried[-1]["images"] == largest
    for name in ("seconds_per_step", "images_per_second", "peak_memory_mib"):
        assert summary[name] == tried[-1][name]
    assert summary["images_per_second"] == pytest.approx(largest / summary["seconds_per_step"], rel=1e-2)


@pytest.mark.parametrize("most", [2, 37, 256])
def test_the_search_is_exact_or_within_an_eighth_and_tries_nothing_twice(most):
    for room in range(0, 300):
        tried = []

        def attempt(images, count, room=room, tried=tried):
            tried.append(images)
            return Fitted(0.1, 10 * images, 300) if images <= room else OutOfMemory("too much")

        found, ended_by = search(attempt, most)
        possible = 0 if room < 2 else min(room, most)
        assert possible * 7 / 8 < found <= possible if possible else found == 0
        assert found == possible or possible >= 16
        assert (ended_by == "most") == (found == most)
        assert len(tried) == len(set(tried)) <= 14
        assert max(tried) <= most
        assert min(tried) == 2


def test_slow_steps_end_the_search():
    assert search(lambda images, _: Fitted(images, 1, 300), most=256) == (8, "time")


def test_not_even_two_images_is_said(room):
    room(1)
    (summary,) = small()
    assert (summary["largest_batch"], summary["fits"], summary["micro_batch"]) == (0, "no", None)
    assert summary["note"].startswith("not even 2 images fit (CUDA out of memory. Tried to allocate 2.00 GiB.)")


def test_most_ends_the_search(room):
    room(100)
    *tried, summary = small(most=6)
    assert [row["images"] for row in tried] == [2, 4, 6]
    assert (summary["largest_batch"], summary["ended_by"]) == (6, "most")
    with pytest.raises(ValueError, match="most: expected at least 2 images, got 1"):
        small(most=1)


@pytest.mark.parametrize(
    ("images", "batch", "gpus", "micro_batch", "expected"),
    [
        (16, 16, 1, None, 16),
        (15, 16, 1, None, 15),
        (7, 16, 1, None, 7),
        (9, 16, 1, 8, 8),
        (3, 16, 2, None, 3),
        (2, 5, 1, None, None),  # 2 + 2 + 1
        (3, 5, 1, None, 3),
        (40, 300, 1, None, 40),
    ],
)
def test_the_micro_batch_that_is_proposed_fits(room, images, batch, gpus, micro_batch, expected):
    room(images)
    *_, summary = small(recipe={"batch": batch, "gpus": gpus, "micro_batch": micro_batch})
    at_once = micro_batch or batch // gpus
    assert summary["at_once"] == at_once
    assert summary["micro_batch"] == expected
    assert summary["fits"] == ("yes" if expected == at_once else "no")
    if expected is None:
        assert summary["note"].startswith("no micro_batch")
    else:
        assert accumulation_steps(batch, gpus, expected) >= 1
        share = batch // gpus
        rate = share / summary["recipe_seconds_per_step"]
        assert summary["recipe_images_per_second"] == pytest.approx(rate, rel=1e-2)
        assert summary["note"] == ("" if expected == at_once else f"set micro_batch: {expected}")


def test_a_step_that_takes_too_long_is_not_tried():
    def attempt(images, count):
        assert (images, count) == (2, 1)
        return Fitted(seconds_per_step=6.0, images_per_second=1 / 3, peak_memory_mib=100)

    row = batch_size._for_recipe(attempt, small_recipe(batch=16), 2, "time")
    assert (row["fits"], row["micro_batch"]) == ("unknown", None)
    assert "about 48 s" in row["note"]


def test_other_errors_go_through(room):
    room(2, error=ZeroDivisionError)
    with pytest.raises(ZeroDivisionError, match="Tried to allocate"):
        small()


def test_on_the_cpu_a_larger_limit_holds_more_images(capsys):
    before = resource.getrlimit(resource.RLIMIT_DATA)
    largest = []
    for memory in (130, 200):
        *_, summary = find_batch_size(**NETWORK, recipe=small_recipe(batch=24), memory=memory, most=64)
        assert 2 <= summary["largest_batch"] < 64
        assert (summary["ended_by"], summary["memory_mib"]) == ("memory", memory)
        assert 20 < summary["peak_memory_mib"] < 1.3 * memory
        assert summary["micro_batch"] is None or accumulation_steps(24, 1, summary["micro_batch"])
        assert "not enough memory (" in capsys.readouterr().out
        largest.append(summary["largest_batch"])
    assert largest[0] < largest[1]
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_the_joined_table_has_a_row_per_experiment(room):
    tables = []
    for name, images in (("b", 3), ("a", 1), ("none", 64)):
        room(images)
        rows = small(most=32, recipe={"batch": 8})
        names = {"encoder": "tu-test_resnet", "decoder": "fpn", "size": "x4", "recipe": name}
        tables.append(pd.DataFrame([names | row for row in rows]).convert_dtypes())
    table = join(tables)
    assert list(table["recipe"]) == ["a", "b", "none"]
    assert list(table["largest_batch"]) == [0, 3, 32]
    assert list(table["micro_batch"].fillna(0)) == [0, 3, 8]
    lines = [[cell.strip() for cell in line.split("|")] for line in page(table).splitlines() if "x4" in line]
    assert [cells[4] for cells in lines] == ["a", "b", "none"]
    assert [cells[7] for cells in lines] == ["0", "3", ">= 32"]
    assert [cells[11] for cells in lines] == ["no", "no", "yes"]
    assert [cells[-2].partition(" (")[0] for cells in lines] == ["not even 2 images fit", "set micro_batch: 3", ""]


def test_the_table_shows_that_nothing_fitted(room, tmp_path):
    room(1)
    names = {"encoder": "tu-test_resnet", "decoder": "fpn", "size": "x4", "recipe": "1"}
    write_table(pd.DataFrame([names | row for row in small()]).convert_dtypes(), tmp_path / "one.tsv")
    table = join([read_table(tmp_path / "one.tsv", dtype=dict.fromkeys(KEY, str))])
    assert "not even 2 images fit" in page(table)
    assert table["seconds_per_step"].isna().all()
