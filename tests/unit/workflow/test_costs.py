"""Memory and time that jobs ask for, against what the demo's jobs took at two sizes on two shared CPU cores."""

from pathlib import Path

import pytest
import yaml

from cloudseg.workflow.costs import COSTS, Estimates, Work, machine_megabytes, megabytes, minutes
from cloudseg.workflow.plan import Plan
from cloudseg.workflow.run import Prediction

REPO = Path(__file__).parents[3]
SUBMISSION = 350 * 525 / 1e6
TINY, SMALL, LARGE = 128 * 192 / 1e6, 96 * 144 / 1e6, 384 * 576 / 1e6


def seen(images):
    """Small images, all of them at once, of one checkpoint."""
    return {"megapixels": images * TINY, "megapixels_at_once": images * TINY}


# Masks of the submission grid, by what the masks of one image take: 4 of 1400x2100, 16 and 64 of 2048x2048
LARGE_GRIDS = [
    {"mask_scale": 16, "image_megabytes": 11.76},
    {"mask_scale": 22.8, "image_megabytes": 67.1},
    {"mask_scale": 22.8, "image_megabytes": 268},
]
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
    # One score of presence, three scores, and a top level with its area; 17 minimum sizes, 5 folds
    ("decide", Work(images=20, masks=240, megabytes=178), 1, 464, 6),
    ("decide", Work(images=20, masks=240, megabytes=535), 1, 804, 14),
    ("decide", Work(images=20, masks=240, megabytes=367), 1, 665, 10),
    ("submit", Work(images=40, masks=160), 2, 269, 5),
    ("train", Work(images=60, megapixels=60 * SMALL, megapixels_at_once=8 * SMALL), 1, 1165, 30),
    ("train", Work(images=240, megapixels=240 * SMALL, megapixels_at_once=8 * SMALL), 1, 1241, 29),
    ("train", Work(images=60, megapixels=60 * LARGE, megapixels_at_once=8 * LARGE), 1, 4953, 174),
    ("train", Work(images=240, megapixels=240 * LARGE, megapixels_at_once=8 * LARGE), 1, 5410, 228),
    ("predict", Work(images=70, masks=560, megapixels=560 * SMALL, megapixels_at_once=8 * SMALL), 1, 981, 61),
    ("predict", Work(images=280, masks=2240, megapixels=2240 * SMALL, megapixels_at_once=8 * SMALL), 1, 1033, 60),
    ("predict", Work(images=70, masks=560, megapixels=560 * LARGE, megapixels_at_once=8 * LARGE), 1, 1705, 351),
    ("blend", Work(images=24, masks=1152, **LARGE_GRIDS[0]), 2, 405, 6),
    ("blend", Work(images=8, masks=1536, **LARGE_GRIDS[1]), 2, 492, 13),
    ("blend", Work(images=4, masks=512, **LARGE_GRIDS[2]), 2, 882, 7),
    ("surface", Work(images=24, masks=96, **LARGE_GRIDS[0]), 2, 593, 4),
    ("surface", Work(images=8, masks=128, **LARGE_GRIDS[1]), 2, 888, 7),
    ("surface", Work(images=4, masks=256, **LARGE_GRIDS[2]), 2, 1366, 13),
    ("decide", Work(images=24, masks=96, **LARGE_GRIDS[0]), 2, 308, 1),
    ("decide", Work(images=8, masks=128, **LARGE_GRIDS[1]), 2, 653, 3),
    ("decide", Work(images=4, masks=256, **LARGE_GRIDS[2]), 2, 1859, 9),
    ("submit", Work(images=24, masks=96, **LARGE_GRIDS[0]), 2, 311, 1),
    ("submit", Work(images=8, masks=128, **LARGE_GRIDS[1]), 2, 532, 5),
    ("submit", Work(images=4, masks=256, **LARGE_GRIDS[2]), 2, 1331, 9),
    (
        "predict",
        Work(images=64, masks=256, **seen(64), **LARGE_GRIDS[0]),
        1,
        1157,
        10,
    ),
    (
        "predict",
        Work(images=32, masks=512, **seen(32), **LARGE_GRIDS[1]),
        1,
        1658,
        23,
    ),
    (
        "predict",
        Work(images=16, masks=1024, **seen(16), **LARGE_GRIDS[2]),
        1,
        3902,
        46,
    ),
]


@pytest.mark.parametrize(("rule", "work", "threads", "mb", "seconds"), MEASURED)
def test_a_job_asks_for_what_was_measured_and_some_more(rule, work, threads, mb, seconds):
    asked = megabytes(COSTS[rule], work, threads) - COSTS[rule].mb_for_images
    assert 1.1 * mb <= asked <= 3 * mb + 200
    assert seconds / 60 <= minutes(COSTS[rule], work, threads) <= 10 + 8 * seconds / 60 + 2


def asked(rule, size="96x144", *, images=1000, device="cpu", classes=4, here=True, **recipe):
    """MB and minutes of the first attempt of a job on one core."""
    config = yaml.safe_load((REPO / "config/config.yaml").read_text())
    config["dataset"] |= {"train": images, "test": images, "classes": [f"c{n}" for n in range(classes)]}
    config["recipes"]["quick"] |= recipe
    plan = Plan(config | {"device": device}, REPO)
    run = plan.run("e", "fpn", size, "quick")
    work = {
        "demo": plan.dataset.work,
        "check": plan.images("train").work,
        "pixels": plan.pixel_store("train", size).work,
        "train": run.training_work,
        "predict": Prediction(run, "test").work,
        "submit": plan.dataset.test_work,
        **dict.fromkeys(["folds", "truth", "surface", "decide"], plan.dataset.train_work),
    }
    resources = Estimates(on_cpu=plan.on_cpu(here=here)).of(rule, lambda wildcards: work[rule])
    return tuple(resources[name](None, threads=1, attempt=1) for name in ("mem_mb", "runtime"))


@pytest.mark.parametrize("rule", ["demo", "check", "folds", "pixels", "truth", "train", "predict", "submit", "decide"])
def test_more_images_take_more_time_and_memory(rule):
    few, many = asked(rule, images=1000), asked(rule, images=1_000_000)
    assert many[1] > few[1]
    assert many[0] >= few[0]


@pytest.mark.parametrize("rule", ["truth", "submit", "decide", "predict", "surface"])
def test_more_classes_take_more_time(rule):
    assert asked(rule, images=100_000, classes=60)[1] > asked(rule, images=100_000, classes=1)[1]


@pytest.mark.parametrize("rule", ["train", "predict"])
def test_larger_images_take_more_of_both(rule):
    large, small = asked(rule, "640x960", images=10_000), asked(rule, "96x144", images=10_000)
    assert large[1] > 10 * small[1]
    assert large[0] > 2 * small[0]


@pytest.mark.parametrize("rule", COSTS)
def test_a_second_attempt_asks_for_twice_as_much(rule):
    work = Work(images=100, masks=400)
    assert megabytes(COSTS[rule], work, attempt=2) == 2 * megabytes(COSTS[rule], work)
    assert minutes(COSTS[rule], work, attempt=2) == 2 * minutes(COSTS[rule], work)


def test_a_million_images_are_not_predicted_in_half_an_hour():
    """The rate that was measured, 2.8 s for each image with two checkpoints and four views at 384x576 on a CPU."""
    assert asked("predict", "384x576", images=1_000_000)[1] / 60 > 2.8e6 / 3600


def test_pieces_of_a_batch_take_less_memory_and_several_processes_more():
    whole, _ = asked("train", "384x576", batch=16)
    assert asked("train", "384x576", batch=16, micro_batch=2)[0] < whole / 2
    assert asked("train", "384x576", batch=16, gpus=2)[0] > whole


def test_on_a_gpu_the_memory_of_the_machine_holds_no_activations():
    assert asked("train", "640x960", device="cpu", batch=16)[0] > 30_000
    assert asked("train", "640x960", device="cuda", batch=16)[0] < 5000


def test_a_cluster_has_gpus_though_this_machine_has_none(monkeypatch):
    monkeypatch.setattr(Plan, "cpu_instead", lambda self: True)
    local, cluster = (asked("train", "640x960", device="auto", here=here) for here in (True, False))
    assert cluster[0] < local[0]


def test_the_machines_memory_is_that_of_the_machine_at_most():
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024 / 1e6
    assert 500 < machine_megabytes() <= total + 1
