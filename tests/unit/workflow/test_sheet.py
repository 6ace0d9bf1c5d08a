"""The experiment sheet: its rows, and what is refused in them."""

import pytest
from demo_plan import ROW, SHEET, plan, setting


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (ROW.replace("fpn", "unett"), "line 2: no decoder 'unett' (nearest: unet"),
        (ROW.replace("quick", "quik"), "line 2: no recipe 'quik' (nearest: quick)"),
        (
            ROW.replace("64x96", "0x0"),
            "line 2: size: expected height x width in pixels, such as 384x576, or xN",
        ),
        (ROW.replace("64x96", "x0"), "line 2: size: expected height x width in pixels"),
        (ROW.replace("fpn", "pan"), "line 2: pan takes images of at least"),
        (ROW.replace("\t2\t", "\t5\t"), "line 2: folds: expected at most 4 (folds.count), got 5"),
        (ROW.replace("\t2\t", "\t0\t"), "line 2: folds: expected at least 1, got 0"),
        (ROW.replace("\t2\t", "\ttwo\t"), "line 2: folds: expected a whole number, got 'two'"),
        (ROW + "\n" + ROW, "line 4: the same experiment as line 2"),
        (ROW.replace("tu-test_resnet", "resnet43"), "line 2: no encoder 'resnet43' (nearest: "),
        (ROW.replace("tu-test_resnet", "tu-resnet18.a1"), "line 2: no encoder 'tu-resnet18.a1' (nearest: tu-resnet18"),
        (
            ROW.replace("tu-test_resnet", "resnext101_32x4d"),
            "line 2: there are no ImageNet weights for resnext101_32x4d",
        ),
        (ROW.replace("\t\n", "\tnote\tmore\n"), "line 2: expected 6 cells (the header), got 7"),
        (ROW.replace("tu-test_resnet", "../x"), "line 2: encoder: expected the name of an encoder, such as resnet34"),
        ("", "no experiments"),
    ],
)
def test_bad_sheets_are_refused_with_their_line(rows, complaint, tmp_path):
    with pytest.raises(ValueError, match=r"sheet\.tsv") as error:
        plan(sheet=SHEET + rows, folder=tmp_path)
    assert complaint in str(error.value)


def test_rows_whose_names_of_files_would_be_the_same_are_refused(tmp_path):
    rows = ROW.replace("quick", "a_b") + ROW.replace("quick", "a-b")
    with pytest.raises(ValueError, match="line 3: differs only in punctuation from line 2"):
        plan(setting("recipes", {"a_b": {}, "a-b": {}}), sheet=SHEET + rows, folder=tmp_path)


def test_columns_that_the_plan_adds_are_reserved(tmp_path):
    with pytest.raises(ValueError, match="the column fold has a meaning of its own"):
        plan(sheet=SHEET.replace("note", "fold") + ROW, folder=tmp_path)


def test_a_column_that_is_there_twice_is_named(tmp_path):
    with pytest.raises(ValueError, match="the column 'folds' is there twice"):
        plan(sheet=SHEET.replace("note", "folds ") + ROW, folder=tmp_path)


def test_a_sheet_of_another_encoding_is_named(tmp_path):
    (tmp_path / "sheet.tsv").write_text(SHEET + ROW, encoding="utf-16")
    with pytest.raises(ValueError, match=r"sheet\.tsv: not UTF-8 text"):
        plan(setting("experiments", str(tmp_path / "sheet.tsv")))


def test_a_run_cannot_start_from_itself(tmp_path):
    change = setting("recipes.quick.start", "run:fpn/64x96/quick")
    with pytest.raises(ValueError, match="starts from the run itself"):
        plan(change, sheet=SHEET + ROW, folder=tmp_path)


def test_missing_column_is_named(tmp_path):
    with pytest.raises(ValueError, match="the columns folds are missing"):
        plan(sheet="encoder\tdecoder\tsize\trecipe\nx\tfpn\tx4\tquick\n", folder=tmp_path)


def test_runs_are_the_rows_times_their_folds(tmp_path):
    sheet = SHEET + ROW + ROW.replace("\t2\t", "\t3\t").replace("fpn", "unet") + ROW.replace("\t2\t", "\t1\t")
    made = plan(sheet=sheet, folder=tmp_path)
    keys = set(zip(made.sheet.runs["decoder"], made.sheet.runs["fold"], strict=True))
    assert keys == {("fpn", 0), ("fpn", 1), ("unet", 0), ("unet", 1), ("unet", 2)}
    assert len(made.sheet.runs) == 6  # the two rows that differ in folds alone share fold 0


def test_members_are_named_by_the_row_that_trains_just_their_folds(tmp_path):
    sheet = SHEET + ROW.replace("\t2\t", "\t1\t") + ROW.replace("\t2\t", "\t4\t")

    def members(query):
        made = plan(setting("ensembles.all.members", query), sheet=sheet, folder=tmp_path)
        return made.ensemble("all").member_names

    assert members("folds == 1") == ["tu-test-resnet-fpn-64x96-quick-1-best"]
    assert members("fold < 2") == ["tu-test-resnet-fpn-64x96-quick-4-best"]
