"""What the plan says of a submission is enough to make it again, and names no place of this machine."""

import pytest
import yaml
from demo_plan import REPO, plan, setting

from cloudseg.config.reading import config_as_read
from cloudseg.workflow.provenance import LEFT_OUT, plain_config

CONFIGS = sorted({path.stem for path in (REPO / "config").glob("*.yaml")} - {"own"})  # its images are the reader's


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
