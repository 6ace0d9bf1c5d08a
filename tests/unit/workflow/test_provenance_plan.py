"""What the plan says of a submission is enough to make it again, and names no place of this machine."""

import pytest
import yaml
from demo_plan import REPO, plan, setting

from cloudseg.config.reading import config_as_read
from cloudseg.workflow.provenance import LEFT_OUT, plain_config

# Not those that are given beside another one, nor `own`, whose images are the reader's
WHOLE = {path.stem for path in (REPO / "config").glob("*.yaml") if "\nsubmission:" in path.read_text()}
CONFIGS = sorted(WHOLE - {"own"})


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_that_was_written_out_is_read_as_the_same(name):
    config = config_as_read(yaml.safe_load((REPO / f"config/{name}.yaml").read_text()))
    again = config_as_read(plain_config(config))
    for key in type(config).model_fields.keys() - LEFT_OUT:
        assert getattr(again, key) == getattr(config, key), key
    assert plain_config(again) == plain_config(config)


def test_an_argument_that_is_null_stays():
    step = {"name": "Equalize", "p": 0.5, "mask_params": None}
    config = config_as_read(plan(setting("recipes.quick.augmentation", [step]))._raw)
    [kept] = plain_config(config)["recipes"]["quick"]["augmentation"]
    assert "mask_params" in kept and kept["mask_params"] is None


def test_it_names_no_folder_of_this_machine(tmp_path):
    root = tmp_path / "jo/clouds"
    for folder in ("train_images", "test_images"):
        (root / folder).mkdir(parents=True)
    for table in ("train", "sample_submission"):
        (root / f"{table}.csv").write_text("Image_Label,EncodedPixels\n")

    def own_images(config):
        config["dataset"] = {"source": "path", "root": str(root)}
        config["submission_size"] = "350x525"
        config["pathvars"] = {"results": f"{tmp_path}/jo/results"}

    facts = plan(own_images).chain("all").facts
    assert facts["config"]["dataset"]["root"] == "clouds"
    assert str(tmp_path) not in repr(facts)


def test_a_smoke_run_keeps_the_config_that_it_was_made_small_from():
    facts = plan(setting("smoke", True)).chain("all").facts
    assert facts["smoke"]
    assert facts["config"]["recipes"]["quick"]["epochs"] == 16


def test_keys_that_change_no_submission_do_not_change_its_provenance():
    asked = plan().chain("all")
    for key, value in {"device": "cpu", "csv": "a.csv", "train": True, "jobs_per_device": 2}.items():
        other = plan(setting(key, value)).chain("all")
        assert (other.facts, other.asked) == (asked.facts, asked.asked), key


def test_the_rows_that_others_start_from_are_used_too(tmp_path):
    sheet = "encoder\tdecoder\tsize\trecipe\tfolds\tnote\n" + "".join(
        f"tu-test_resnet\t{decoder}\t64x96\t{recipe}\t2\t{note}\n"
        for decoder, recipe, note in (("fpn", "first", "a"), ("fpn", "second", "b"), ("unet", "first", "c"))
    )

    def change(config):
        quick = config["recipes"].pop("quick")
        config["recipes"] = {"first": quick | {"start": "none"}, "second": quick | {"start": "run:fpn/64x96/first"}}
        config["ensembles"] = {"all": {"members": "recipe == 'second'"}}

    chain = plan(change, sheet, tmp_path).chain("all")
    assert [row["note"] for row in chain.sheet_rows] == ["a", "b"]
    assert len(chain.runs) == 2


# What only some ensembles ask for

TOP = {"score": {"top": 40}, "threshold": 0.6}
NONE_ASKED = (
    *("valid_whether", "test_whether", "valid_whether_stores", "test_whether_stores"),
    *("selection", "valid_voters", "test_voters", "valid_black", "test_black"),
)


def ensemble_of(**entry):
    return plan(setting("ensembles.all", entry)).chain("all")


def names_of(stores):
    return [store.removeprefix("<results>/runs/tu-tf_efficientnet_lite0/") for store in stores]


def test_who_asks_for_nothing_more_has_no_more_inputs_or_params():
    chain = plan().chain("all")
    assert [name for name in NONE_ASKED if getattr(chain, name)] == []
    assert list(chain.members) == ["valid", "test"]
    assert not {"search", "black"} & chain.facts.keys()
    assert all(member.keys() == {"store", "fold", "weight"} for each in chain.members.values() for member in each)


def test_runs_and_stores_of_members_of_each_role_are_in_the_chain():
    chain = ensemble_of(
        where="decoder == 'fpn'",
        whether=[{"query": "decoder == 'unet'", "weight": 3}],
        decision={"presence": TOP},
    )
    assert {run.key.decoder for run in chain.runs} == {"fpn", "unet"}
    assert all("/fpn/" in store for store in [*chain.valid_stores, *chain.test_stores])
    assert names_of(chain.valid_whether_stores) == [f"unet/96x144/quick/fold{fold}/best-valid.zarr" for fold in (0, 1)]
    assert names_of(chain.test_whether_stores) == [f"unet/96x144/quick/fold{fold}/best-test.zarr" for fold in (0, 1)]
    assert chain.valid_whether == ["<ensembles>/all/valid-whether.zarr"]
    assert chain.test_whether == ["<ensembles>/all/test-whether.zarr"]
    assert [member["weight"] for member in chain.members["test-whether"]] == [1.5, 1.5]
    assert [member["weight"] for member in chain.members["valid-whether"]] == [3, 3]


def test_a_chain_of_a_vote_has_the_decision_of_each_store():
    chain = ensemble_of(members="decoder == 'fpn'", checkpoints=["best", "last"], blend="vote")
    decisions = [
        f"<ensembles>/tu-tf-efficientnet-lite0-fpn-96x144-quick-2-{checkpoint}/decision.yaml"
        for _ in (0, 1)
        for checkpoint in ("best", "last")
    ]
    assert chain.valid_voters == chain.test_voters == decisions
    assert len(chain.valid_stores) == len(decisions)


def test_a_chain_of_a_search_has_all_candidates_and_what_was_chosen():
    chain = ensemble_of(members="fold >= 0", search={"steps": 5})
    assert chain.selection == ["<ensembles>/all/selection.yaml"]
    assert len(chain.runs) == 4
    assert len({member["candidate"] for member in chain.members["valid"]}) == 2
    assert chain.facts["search"]["steps"] == 5


def test_a_chain_with_black_has_its_stores_and_level():
    chain = ensemble_of(members="fold >= 0", decision={"black": 7})
    assert chain.valid_black == ["<results>/dataset/black-train-7.zarr"]
    assert chain.test_black == ["<results>/dataset/black-test-7.zarr"]
    assert chain.facts["black"] == 7


# What trainings go back to


def winners(tmp_path):
    """A plan of networks that start from others, are taught by others, have heads and averages."""
    words = ("fpn\tbright", "fpn\tfirst", "unet\tteacher", "fpn\ttaught", "unet\theaded", "classifier\tpresent")
    rows = [f"tu-test_resnet\t{size}\t{word}\t2\n" for word, size in zip(words, SIZES, strict=True)]

    def change(config):
        quick = config["recipes"].pop("quick") | {"start": "none"}
        config["recipes"] = {
            "bright": quick | {"brightness": 115},
            "first": quick | {"start": "network:fpn/64x96/bright"},
            "teacher": quick,
            "taught": quick | {"start": "run:fpn/64x96/first", "pseudo": {"ensemble": "teachers"}, "canvas": "70x105"},
            "headed": quick | {"head": {}, "average": {}},
            "present": quick | {"head": {}, "average": {}, "best_by": "loss"},
        }
        config["ensembles"] = {
            "teachers": {"members": "recipe == 'teacher'", "checkpoints": ["last"]},
            "averages": {"members": "recipe == 'headed'", "checkpoints": ["average"]},
            "all": {
                "where": "recipe == 'taught'",
                "whether": "recipe == 'headed' or recipe == 'present'",
                "decision": {"presence": {"score": {"top": 40}, "threshold": 0.6, "classifiers": 2}},
            },
            "plain": {"members": "recipe == 'teacher'"},
        }

    return plan(change, "encoder\tsize\tdecoder\trecipe\tfolds\n" + "".join(rows), tmp_path)


SIZES = "64x96", "64x96", "32x48", "64x96", "64x96", "64x96"


def test_a_chain_goes_back_to_starts_of_starts_and_to_those_that_label(tmp_path):
    chain = winners(tmp_path).chain("all")
    folds = 0, 1
    # In the order of a table of runs
    earlier = [(run.key.recipe, run.key.fold) for run in chain.earlier]
    assert earlier == [(recipe, fold) for recipe in ("bright", "first", "teacher") for fold in folds]
    inputs = chain.further_inputs
    assert inputs["pseudo"] == [f"<ensembles>/teachers/pseudo/taught/70x105-fold{fold}.zarr" for fold in folds]
    teachers = "<results>/runs/tu-test_resnet/unet/32x48/teacher"
    assert inputs["pseudo_stores"] == [f"{teachers}/fold{fold}/last-test.zarr" for fold in folds]
    assert inputs["earlier"] == [f"{run.key.folder}/run.json" for run in chain.earlier]
    assert inputs["earlier_pixels"] == [f"<results>/dataset/train/{run.key.size}.zarr" for run in chain.earlier]
    # Those of the brightness, of the canvas, and what the teachers labelled
    assert inputs["test_images"] == [f"<results>/dataset/test/{size}.zarr" for size in ("32x48", "64x96", "70x105")]
    names = [f"{name}-fold{fold}" for name in ("network-fpn-64x96-bright", "run-fpn-64x96-first") for fold in folds]
    assert inputs["weights"] == [f"<results>/weights/tu-test_resnet/{name}.safetensors" for name in names]
    runs = {run["name"]: run for run in (*chain.asked, *chain.facts["earlier"])}
    taught = runs["tu-test_resnet/fpn/64x96/taught/fold1"]
    assert taught["start_run"] == "tu-test_resnet/fpn/64x96/first/fold1"
    assert (taught["pseudo"], taught["test_size"]) == ("teachers/taught/70x105/fold1", "70x105")
    assert runs["tu-test_resnet/fpn/64x96/first/fold0"]["start_run"] == "tu-test_resnet/fpn/64x96/bright/fold0"
    assert runs["tu-test_resnet/fpn/64x96/bright/fold0"]["test_size"] == "64x96"
    assert {row["recipe"] for row in chain.sheet_rows} == {*RECIPES, "headed", "present"}


RECIPES = "bright", "first", "teacher", "taught"


def test_every_file_that_a_chain_asks_for_is_made(tmp_path):
    """What a record goes back to is made by the plan, without any job that would not run but for the record."""
    made = winners(tmp_path)
    wanted = [path for inputs in made.chain("all").further_inputs.values() for path in inputs]
    stores = {f"<results>/dataset/{job['split']}/{job['size']}.zarr" for job in made.jobs["pixels"]}
    assert {path for path in wanted if path.startswith("<results>/dataset/")} <= stores
    weights = {f"<results>/weights/{job['encoder']}/{job['start']}.safetensors" for job in made.jobs["weights"]}
    assert {path for path in wanted if path.startswith("<results>/weights/")} <= weights
    labels = [made.pseudo_labels(**job).store for job in made.jobs["pseudo_labels"]]
    assert {path for path in wanted if "/pseudo/" in path} == set(labels)


def test_heads_are_members_behind_the_planes_and_their_values_are_inputs(tmp_path):
    chain = winners(tmp_path).chain("all")
    heads = [member for member in chain.members["test-whether"] if member.get("gives") == "values"]
    folder = "<results>/runs/"
    assert chain.further_inputs["test_values"] == [f"{folder}{head['store']}-test-values.zarr" for head in heads]
    assert [head["store"].split("/")[1] for head in heads] == ["classifier"] * 2 + ["unet"] * 2
    assert len(chain.further_inputs["valid_values"]) == len(heads)
    assert "classifier" not in "".join(chain.test_whether_stores)


def test_who_goes_back_to_nothing_has_no_further_inputs(tmp_path):
    for chain in (winners(tmp_path).chain("plain"), winners(tmp_path).chain("averages"), plan().chain("all")):
        assert chain.further_inputs == {}
        assert not {"earlier", "pseudo", "tables"} & chain.facts.keys()
        assert all(run.keys() == {"name", "size", "recipe", "wanted", "prediction"} for run in chain.asked)


def test_a_replicate_goes_back_to_the_replicate_of_its_start(tmp_path):
    rows = "".join(f"tu-test_resnet\tfpn\t64x96\t{recipe}\t2\t7\n" for recipe in ("first", "second"))

    def change(config):
        quick = config["recipes"].pop("quick")
        config["recipes"] = {"first": quick | {"start": "none"}, "second": quick | {"start": "network:fpn/64x96/first"}}
        config["ensembles"] = {"all": {"members": "recipe == 'second'"}}

    chain = plan(change, "encoder\tdecoder\tsize\trecipe\tfolds\tseed\n" + rows, tmp_path).chain("all")
    assert [run.key.fold_name for run in chain.earlier] == ["0-seed7", "1-seed7"]
    assert chain.asked[1]["start_run"] == "tu-test_resnet/fpn/64x96/first/fold1-seed7"
    assert chain.further_inputs["weights"][0].endswith("/network-fpn-64x96-first-fold0-seed7.safetensors")
