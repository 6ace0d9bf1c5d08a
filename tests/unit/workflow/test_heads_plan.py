"""Which stores the rule `classifiers` measures: those of every row with a classification head, and no others."""

from demo_plan import plan

from cloudseg.config.model import ExperimentRow
from cloudseg.config.recipe import Recipe
from cloudseg.config.sheet import ExperimentSheet
from cloudseg.workflow.heads import Heads
from cloudseg.workflow.sheet import Sheet

SHEET = "encoder\tdecoder\tsize\trecipe\tfolds\n"
RUNS = "<results>/runs/tu-test_resnet/fpn/64x96/heads"


def made(folder, *recipes, **head):
    def change(config):
        config["recipes"]["heads"] = config["recipes"]["quick"] | {"head": {"weight": 0.5}} | head

    rows = "".join(f"tu-test_resnet\tfpn\t64x96\t{recipe}\t2\n" for recipe in recipes)
    return plan(change, sheet=SHEET + rows, folder=folder)


def test_a_plan_without_heads_has_no_such_job(tmp_path):
    planned = made(tmp_path, "quick")
    assert "classifiers" not in planned.jobs
    assert planned.heads.members == []


def test_every_checkpoint_of_a_row_with_a_head_is_measured_on_its_folds(tmp_path):
    planned = made(tmp_path, "quick", "heads", average={"epochs": 2})
    assert planned.jobs["classifiers"] == [{}]
    names = [(name, fold) for name in ("best", "last", "average") for fold in (0, 1)]
    assert planned.heads.values == [f"{RUNS}/fold{fold}/{name}-valid-values.zarr" for name, fold in names]
    assert planned.heads.planes == [f"{RUNS}/fold{fold}/{name}-valid.zarr" for name, fold in names]
    first, *_ = planned.heads.rows
    key = {"encoder": "tu-test_resnet", "decoder": "fpn", "size": "64x96", "recipe": "heads"}
    assert first == key | {"folds": 2, "checkpoint": "best", "planes": True}
    made_by_rules = [job for rule, jobs in planned.jobs.items() if rule.startswith("predict_") for job in jobs]
    assert {(job["recipe"], job["split"]) for job in made_by_rules} >= {("heads", "valid")}


def test_the_order_of_rows_is_no_change_and_a_classifier_has_no_planes():
    cells = {"encoder": "e", "size": "x4", "folds": 2}
    rows = [
        ExperimentRow(decoder="classifier", recipe="plain", seed=7, **cells),
        ExperimentRow(decoder="classifier", recipe="plain", **cells),
        ExperimentRow(decoder="fpn", recipe="plain", **cells),
        ExperimentRow(decoder="fpn", recipe="heads", full=True, **cells),
    ]
    recipes = {"plain": Recipe(), "heads": Recipe(head={"weight": 1})}
    one, other = (
        Heads.of(None, Sheet(ExperimentSheet((*cells, "decoder", "recipe", "seed", "full"), tuple(each)), 2, recipes))
        for each in (rows, rows[::-1])
    )
    assert (one.values, one.planes, one.rows) == (other.values, other.planes, other.rows)
    assert [path.split("/")[-2:] for path in one.planes] == [
        [f"fold{fold}", f"{name}-valid.zarr"] for name in ("best", "last") for fold in (0, 1)
    ]
    assert [(row["decoder"], row["seed"], row["planes"]) for row in one.rows[::2]] == [
        ("classifier", "", False), ("classifier", 7, False), ("fpn", "", True),
    ]  # fmt: skip
    assert not [path for path in one.values if "foldall" in path]  # it has no images out of fold
