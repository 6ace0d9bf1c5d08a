"""Labels of test images come from networks of the same fold alone, through whatever these were made from."""

import re

import pytest
from demo_plan import plan

from cloudseg.errors import ConfigError

SHEET = "encoder\tdecoder\tsize\trecipe\tseed\tfolds\n" + "".join(
    f"tu-test_resnet\t{words}\n"
    for words in (
        "fpn\t64x96\tquick\t\t2",
        "fpn\t64x96\tbright\t\t3",
        "unet\t64x96\tstarted\t\t3",
        "fpn\t64x96\ttaught\t\t2",
        "fpn\t64x96\ttaught\t7\t2",
        "fpn\t64x96\ttwice\t\t2",
    )
)


def with_pseudo(tmp_path, sheet=SHEET, **changes):
    def change(config):
        quick = config["recipes"]["quick"]
        config["recipes"] |= {
            "bright": quick | {"brightness": 115},
            "started": quick | {"start": "run:fpn/64x96/bright"},
            "taught": quick | {"pseudo": {"ensemble": "teachers"}},
            "twice": quick | {"pseudo": {"ensemble": "taught"}, "canvas": "70x105"},
        }
        config["ensembles"] = {
            "teachers": {"members": "recipe == 'quick' or recipe == 'started'", "checkpoints": ["last"]},
            "taught": {"members": "recipe == 'taught'", "checkpoints": ["last"]},
            "all": {"members": "fold >= 0"},
        }
        for path, value in changes.items():
            *parents, key = path.split("__")
            node = config
            for parent in parents:
                node = node[parent]
            node[key] = value

    return plan(change, sheet, tmp_path)


def made_from(made, run):
    """Yield every run that a run has anything from: its initial weights, and labels of test images."""
    sources = [run.start_run] if run.start_run else []
    for path in run.further_inputs.get("pseudo", []):
        ensemble, recipe, file = re.fullmatch(r"<ensembles>/(.*)/pseudo/(.*)/(.*)\.zarr", path).groups()
        size, _, fold = file.rpartition("-fold")
        labels = made.pseudo_labels(ensemble, recipe, size, fold)
        assert labels.stores
        assert all(
            store.startswith(member.key.folder) for store, member in zip(labels.stores, labels.members, strict=True)
        )
        sources += [member.key for member in labels.members]
    for key in sources:
        yield key
        yield from made_from(made, made.run(**key.wildcards))


def test_whatever_a_network_learns_from_has_seen_no_image_of_its_fold(tmp_path):
    made = with_pseudo(tmp_path)
    found = {key: set(made_from(made, made.run(**key.wildcards))) for key in made.sheet.keys}
    assert all(source.fold == key.fold for key, sources in found.items() for source in sources)
    twice = next(sources for key, sources in found.items() if key.recipe == "twice")
    assert {source.recipe for source in twice} == {"taught", "quick", "started", "bright"}


def test_test_images_are_read_at_the_size_at_which_they_train(tmp_path):
    made = with_pseudo(tmp_path)
    taught, twice = (made.run("tu-test_resnet", "fpn", "64x96", recipe, "1") for recipe in ("taught", "twice"))
    assert taught.further_inputs == {
        "test": ["<results>/dataset/test/64x96.zarr"],
        "pseudo": ["<ensembles>/teachers/pseudo/taught/64x96-fold1.zarr"],
    }
    assert twice.further_inputs == {
        "test_canvas": ["<results>/dataset/test/70x105.zarr"],
        "pseudo": ["<ensembles>/taught/pseudo/twice/70x105-fold1.zarr"],
    }
    sizes = {job["size"] for job in made.jobs["pixels"] if job["split"] == "test"}
    assert sizes == {"64x96", "70x105"}
    # Replicates take the same labels
    jobs = [tuple(job.values()) for job in made.jobs["pseudo_labels"]]
    assert sorted(jobs) == [
        *(("taught", "twice", "70x105", fold) for fold in "01"),
        *(("teachers", "taught", "64x96", fold) for fold in "01"),
    ]
    assert taught.training_work.images > made.run("tu-test_resnet", "fpn", "64x96", "quick").training_work.images


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"ensembles__teachers__checkpoints": ["best"]},
            "recipes.taught.pseudo.ensemble: teachers has `checkpoints: [best]`; best is chosen by labels of the fold",
        ),
        ({"ensembles__teachers__search": {}}, "teachers has `search`; expected a plain mean of `members`"),
        ({"ensembles__teachers__blend": "vote"}, "teachers has `blend: vote`; expected a plain mean"),
        (
            {"recipes__bright__schedule": "plateau"},
            "teachers goes back to bright, whose last epoch depends on labels of the fold",
        ),
        (
            {"recipes__quick__schedule": "constant", "recipes__quick__patience": 3},
            "teachers goes back to quick, whose last epoch depends on labels of the fold",
        ),
        (
            {"ensembles__teachers__members": "recipe == 'taught'"},
            "teachers has members of taught, which would wait for themselves",
        ),
        (
            {"ensembles__teachers__members": "recipe == 'twice'"},
            "members of taught, which would wait for themselves",
        ),
        (
            {"ensembles__teachers__members": "recipe == 'started' and fold > 0"},
            "teachers has not trained fold 0 with all its members, which taught is trained on",
        ),
    ],
)
def test_labels_that_would_tell_of_the_fold_are_refused(tmp_path, changes, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        with_pseudo(tmp_path, **changes)


def test_a_network_of_all_images_takes_no_labels_of_a_fold(tmp_path):
    sheet = SHEET.replace("\tfolds\n", "\tfolds\tfull\n").replace("taught\t\t2\n", "taught\t\t2\ttrue\n")
    with pytest.raises(ConfigError, match="a row with `full` has none"):
        with_pseudo(tmp_path, sheet)
