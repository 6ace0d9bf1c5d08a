"""Memory and time that jobs ask for, against what the demo's jobs took at two sizes on two shared CPU cores."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from cloudseg.workflow.costs import COSTS, Estimates, Work, machine_megabytes, megabytes, minutes
from cloudseg.workflow.plan import Plan

REPO = Path(__file__).parents[3]
SUBMISSION = 350 * 525 / 1e6
SMALL, LARGE = 96 * 144 / 1e6, 384 * 576 / 1e6
# rule, work, threads, MB (max_rss) and seconds (s) of the benchmark files; 60 + 40 and 240 + 160 images of four classes
MEASURED = [
    ("demo", Work(images=100), 2, 682, 42),
    ("demo", Work(images=400), 2, 714, 89),
    ("check", Work(images=100, masks=400), 2, 267, 14),
    ("check", Work(images=400, masks=1600), 2, 248, 17),
    ("pixels", Work(images=100, megapixels=100 * SMALL), 2, 264, 21),
    ("pixels", Work(images=400, megapixels=400 * SMALL), 2, 303, 18),
    ("pixels", Work(images=100, megapixels=100 * LARGE), 2, 315, 10),
    ("pixels", Work(images=400, megapixels=400 * LARGE), 2, 347, 17),
    ("truth", Work(images=60, masks=240), 2, 301, 7),
    ("truth", Work(images=240, masks=960), 2, 301, 6),
    ("blend", Work(images=60, masks=240), 2, 226, 2),
    ("blend", Work(images=40, masks=6 * 160), 2, 291, 2),
    ("blend", Work(images=240, masks=960), 2, 273, 1),
    ("surface", Work(images=60, masks=240), 2, 264, 6),
    ("surface", Work(images=240, masks=960), 2, 278, 1),
    ("submit", Work(images=40, masks=160), 2, 269, 5),
    ("train", Work(images=60, megapixels=60 * SMALL, megapixels_at_once=8 * SMALL), 1, 1165, 30),
    ("train", Work(images=240, megapixels=240 * SMALL, megapixels_at_once=8 * SMALL), 1, 1241, 29),
    ("train", Work(images=60, megapixels=60 * LARGE, megapixels_at_once=8 * LARGE), 1, 4953, 174),
    ("train", Work(images=240, megapixels=240 * LARGE, megapixels_at_once=8 * LARGE), 1, 5410, 228),
    ("predict", Work(images=70, masks=560, megapixels=560 * SMALL, megapixels_at_once=8 * SMALL), 1, 981, 61),
    ("predict", Work(images=280, masks=2240, megapixels=2240 * SMALL, megapixels_at_once=8 * SMALL), 1, 1033, 60),
    ("predict", Work(images=70, masks=560, megapixels=560 * LARGE, megapixels_at_once=8 * LARGE), 1, 1705, 351),
]


@pytest.mark.parametrize(("rule", "work", "threads", "mb", "seconds"), MEASURED)
def test_a_job_asks_for_what_was_measured_and_some_more(rule, work, threads, mb, seconds):
    asked = megabytes(COSTS[rule], work, threads) - COSTS[rule].mb_for_images
    assert 1.1 * mb <= asked <= 3 * mb + 200
    assert seconds / 60 <= minutes(COSTS[rule], work, threads) <= 10 + 8 * seconds / 60 + 2


@pytest.fixture
def plan():
    def plan(images=1000, device="cpu", classes=4, **recipe):
        config = yaml.safe_load((REPO / "config/config.yaml").read_text())
        config["dataset"] |= {"train": images, "test": images, "classes": [f"c{n}" for n in range(classes)]}
        config["recipes"]["quick"] |= recipe
        return Estimates(Plan(config | {"device": device}, REPO))

    return plan


def job(size="96x144", **more):
    return SimpleNamespace(encoder="e", decoder="fpn", size=size, recipe="quick", fold=0, split="test", **more)


@pytest.mark.parametrize("rule", ["demo", "check", "folds", "pixels", "truth", "train", "predict", "submit", "decide"])
def test_more_images_take_more_time_and_memory(plan, rule):
    few, many = plan(1000), plan(1_000_000)
    assert many.minutes(rule)(job(), 1) > few.minutes(rule)(job(), 1)
    assert many.memory(rule)(job(), 1) >= few.memory(rule)(job(), 1)


@pytest.mark.parametrize("rule", ["truth", "submit", "decide", "predict", "surface"])
def test_more_classes_take_more_time(plan, rule):
    one, many = plan(100_000, classes=1), plan(100_000, classes=60)
    assert many.minutes(rule)(job(), 1) > one.minutes(rule)(job(), 1)


@pytest.mark.parametrize("rule", ["train", "predict"])
def test_larger_images_take_more_of_both(plan, rule):
    estimates = plan(10_000)
    assert estimates.minutes(rule)(job("640x960"), 1) > 10 * estimates.minutes(rule)(job("96x144"), 1)
    assert estimates.memory(rule)(job("640x960"), 1) > 2 * estimates.memory(rule)(job("96x144"), 1)


@pytest.mark.parametrize("rule", COSTS)
def test_a_second_attempt_asks_for_twice_as_much(rule):
    work = Work(images=100, masks=400)
    assert megabytes(COSTS[rule], work, attempt=2) == 2 * megabytes(COSTS[rule], work)
    assert minutes(COSTS[rule], work, attempt=2) == 2 * minutes(COSTS[rule], work)


def test_a_million_images_are_not_predicted_in_half_an_hour(plan):
    """The rate that was measured, 2.8 s for each image with two checkpoints and four views at 384x576 on a CPU."""
    hours = plan(1_000_000).minutes("predict")(job("384x576"), 1) / 60
    assert hours > 2.8e6 / 3600


def test_pieces_of_a_batch_take_less_memory_and_several_processes_more(plan):
    whole = plan(batch=16).memory("train")(job("384x576"), 1)
    assert plan(batch=16, micro_batch=2).memory("train")(job("384x576"), 1) < whole / 2
    assert plan(batch=16, gpus=2).memory("train")(job("384x576"), 1) > whole


def test_on_a_gpu_the_memory_of_the_machine_holds_no_activations(plan):
    asked = [plan(device=device, batch=16).memory("train")(job("640x960"), 1) for device in ("cpu", "cuda")]
    assert asked[0] > 30_000
    assert asked[1] < 5000


def test_a_cluster_has_gpus_though_this_machine_has_none(plan):
    local = plan(device="auto")
    local.plan.cpu_instead = lambda: True
    cluster = Estimates(local.plan, runs_here=False)
    assert cluster.memory("train")(job("640x960"), 1) < local.memory("train")(job("640x960"), 1)


def test_the_machines_memory_is_that_of_the_machine_at_most():
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024 / 1e6
    assert 500 < machine_megabytes() <= total + 1
