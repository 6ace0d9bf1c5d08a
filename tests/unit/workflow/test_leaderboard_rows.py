"""Which rows of a sheet the leaderboard of masks has: those with masks, and a Dice where these are a measure."""

from demo_plan import plan

from cloudseg.config.model import ExperimentRow
from cloudseg.config.recipe import Recipe
from cloudseg.config.sheet import ExperimentSheet
from cloudseg.workflow.leaderboard import leaderboard_ensembles, leaderboard_left_out, leaderboard_rows
from cloudseg.workflow.sheet import Sheet

SHEET = "encoder\tdecoder\tsize\trecipe\tfolds\n"
POSITIVE = {"loss": {"bce": 1}, "loss_planes": "positive"}
STAGES = [{"epochs": 2, "loss": {"bce": 1}, "loss_planes": "positive"}, {"epochs": 1}]


def row(decoder="fpn", recipe="quick"):
    return f"tu-test_resnet\t{decoder}\t64x96\t{recipe}\t2\n"


def made(folder, *rows, recipes, ensembles=None):
    def change(config):
        config["submission"] = "all"
        config["recipes"] |= {name: config["recipes"]["quick"] | keys for name, keys in recipes.items()}
        config["ensembles"] |= ensembles or {}

    return plan(change, sheet=SHEET + "".join(rows), folder=folder)


def rows_of(planned):
    return {(row["decoder"], row["recipe"]): row for row in leaderboard_rows(planned.sheet, planned.config.recipes)}


def test_an_average_is_named_where_the_recipe_keeps_one(tmp_path):
    rows = rows_of(made(tmp_path, row(), row(recipe="mean"), recipes={"mean": {"average": {"epochs": 2}}}))
    assert rows["fpn", "mean"]["average"] == "tu-test-resnet-fpn-64x96-mean-2-average"
    assert "average" not in rows["fpn", "quick"]


def test_what_ends_on_planes_with_truth_says_where_only(tmp_path):
    recipes = {
        "where": POSITIVE,
        "then-all": {"epochs": 3, "stages": STAGES},
        "then-positive": {"epochs": 3, "stages": STAGES[::-1]},
    }
    planned = made(tmp_path, row(), *(row(recipe=name) for name in recipes), recipes=recipes)
    says = {recipe: "says_where_only" in told for (_, recipe), told in rows_of(planned).items()}
    assert says == {"quick": False, "where": True, "then-all": False, "then-positive": True}
    assert leaderboard_left_out(planned.sheet) == {}


def with_classifiers(count):
    """A sheet of a network with masks and of so many without, which no plan looks at."""
    rows = [ExperimentRow(encoder="e", decoder="classifier", size="x4", recipe=f"r{n}", folds=2) for n in range(count)]
    rows.append(ExperimentRow(encoder="e", decoder="fpn", size="x4", recipe="r0", folds=2))
    recipes = {f"r{number}": Recipe() for number in range(max(count, 1))}
    return Sheet(ExperimentSheet(("encoder", "decoder", "size", "recipe", "folds"), tuple(rows)), 2, recipes), recipes


def test_rows_without_masks_are_left_out_and_named():
    sheet, recipes = with_classifiers(2)
    assert [row["decoder"] for row in leaderboard_rows(sheet, recipes)] == ["fpn"]
    told = "e classifier x4 r0, e classifier x4 r1: they say whether a class is there, not where"
    assert leaderboard_left_out(sheet) == {"left_out": [told]}


def test_of_very_many_rows_without_masks_some_are_named():
    [line] = leaderboard_left_out(with_classifiers(30)[0])["left_out"]
    assert "r9" in line
    assert "r10" not in line
    assert "and 20 more: they say" in line


def test_what_learned_brightness_is_left_out_and_named(tmp_path):
    planned = made(tmp_path, row(), row(recipe="grey"), recipes={"grey": {"brightness": 100}})
    assert list(rows_of(planned)) == [("fpn", "quick")]
    told = "tu-test_resnet fpn 64x96 grey: they learned brightness in place of the labels"
    assert leaderboard_left_out(planned.sheet) == {"left_out": [told]}


def test_an_ensemble_is_compared_with_members_that_have_a_dice_of_their_own(tmp_path):
    ensembles = {
        "mixed": {"members": "fold >= 0", "checkpoints": ["best", "last"]},
        "where": {
            "where": "recipe == 'where'",
            "whether": "recipe == 'quick'",
            "decision": {"how": "tune", "presence": {"score": {"top": "9.5%"}}},
        },
    }
    planned = made(tmp_path, row(), row(recipe="where"), recipes={"where": POSITIVE}, ensembles=ensembles)
    mixed, where = planned.ensembles["mixed"], planned.ensembles["where"]
    quick = ["tu-test-resnet-fpn-64x96-quick-2-best", "tu-test-resnet-fpn-64x96-quick-2-last"]
    assert mixed.compared_names == quick
    assert mixed.compared_blends == [f"<ensembles>/{name}/valid.zarr" for name in quick]
    assert len(mixed.member_names) == 4  # the blend is of all
    told = {member["name"]: "says_where_only" in member for member in mixed.blended_members}
    assert told == {name: name not in quick for name in mixed.member_names}
    assert where.compared_names == []
    told = leaderboard_ensembles(planned.config.ensembles, planned.ensembles)
    assert [name for name, about in told.items() if "says_where_only" in about] == ["where"]
    assert not [name for name in planned.explored if "-where-" in name]
