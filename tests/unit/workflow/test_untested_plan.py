"""What is planned of a folder of one's own that has no test images: all that needs none."""

import pytest
from demo_plan import ROW, SHEET, plan, setting

from cloudseg.errors import ConfigError

OF_TEST = {"submit", "provenance", "submission", "provenance_page", "submission_page"}


@pytest.fixture
def root(tmp_path):
    """A folder with three training images and no other file."""
    root = tmp_path / "images"
    (root / "train_images").mkdir(parents=True)
    for name in "abc":
        (root / f"train_images/{name}.png").write_bytes(b"one")
    return root


def own(root, change=None):
    """A plan of the demo's config with this folder, and of ensembles that ask for more than a mean."""
    decision = {"presence": {"score": {"top": "9.5%"}, "threshold": 0.6}, "black": 20}

    def of_root(config):
        config |= {"dataset": {"source": "path", "root": str(root)}, "submission_size": "35x53"}
        config["ensembles"]["all"] = {"where": "fold >= 0", "whether": "fold >= 0", "decision": decision}
        if change:
            change(config)

    return plan(of_root, SHEET + ROW, root.parent)


def splits(made):
    """The splits that any job speaks of."""
    return {job["split"] for jobs in made.jobs.values() for job in jobs if "split" in job}


def test_nothing_of_test_images_is_planned_where_there_are_none(root):
    made = own(root)
    assert made.dataset.counts == {"train": 3, "test": 0}
    assert splits(made) == {"train", "valid"}
    assert {rule for rule in OF_TEST if made.jobs[rule]} == set()
    assert {"leaderboard", "explorer", "masks", "decision", "labels", "curves"} <= {
        rule for rule, jobs in made.jobs.items() if jobs
    }
    assert (made.tested, made.ensemble("all").test_presence, made.ensemble("all").test_blend) == ([], [], [])
    assert made.wildcards["split"] == "valid"
    assert OF_TEST | {"sanity", "shift", "bundle", "pack"} == set(made.idle_rules)


@pytest.mark.parametrize("part", ["test_images", "sample_submission.csv"])
def test_one_part_of_the_test_is_planned_as_all_of_it(root, part):
    (root / part).mkdir()
    made = own(root)
    assert splits(made) == {"train", "test", "valid"}
    assert {rule for rule in OF_TEST if made.jobs[rule]} == OF_TEST
    assert made.idle_rules == {}


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("folds.stratify_by", "shift", "expected labels, got shift: it compares with test images, and"),
        ("recipes.quick.brightness", 115, "it trains on test images, too, and"),
    ],
)
def test_what_a_config_asks_of_test_images_is_refused(root, place, value, words):
    with pytest.raises(ConfigError, match=rf"{place}: {words} .*images has none \(test_images/\)"):
        own(root, setting(place, value))


def test_a_split_that_compares_with_test_images_is_planned_where_there_are_some(root):
    (root / "test_images").mkdir()
    assert own(root, setting("folds.stratify_by", "shift")).jobs["shift"] == [{}]
