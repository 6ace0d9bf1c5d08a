"""The store of where images are black, as the plan sees it."""

import re

import pytest
from demo_plan import plan, setting

from cloudseg.dataset.contest import SPLITS


@pytest.mark.parametrize(("text", "fits"), [("0", True), ("2", True), ("254", True), ("02", False), ("-1", False)])
def test_a_level_of_grey_has_one_spelling(text, fits):
    assert bool(re.fullmatch(plan().wildcards["grey"], text)) == fits


@pytest.mark.parametrize("split", SPLITS)
def test_a_store_of_more_images_takes_more_room_and_work(split):
    few, many = (plan(setting(f"dataset.{split}", count)).black_store(split, "2") for count in (30, 30_000))
    assert (few.work.images, many.work.images) == (30, 30_000)
    assert few.megabytes < many.megabytes < 100
    assert few.grey == 2


def test_no_job_of_the_plan_makes_it_unasked():
    assert "black" not in {**plan().jobs, **plan().on_demand}
