"""Tables of scores, written and read back."""

import pandas as pd
from small_stores import CLASSES

from cloudseg.ensemble.deciding import decide
from cloudseg.ensemble.decision import DecisionRule
from cloudseg.ensemble.score_tables import read_scores, write_scores
from cloudseg.ensemble.surface import read_surface


def test_scores_are_plain_text_that_reads_back(surface, tmp_path):
    sums, counts, min_sizes, folds = read_surface(surface[2])
    options = {"how": "fixed", "thresholds": [0.5, 0.5], "min_sizes": [0, 0], "tune_min_sizes": [0, 10]}
    decision, scores = decide(sums, counts, min_sizes, folds, classes=CLASSES, rule=DecisionRule(**options))
    write_scores(scores, tmp_path / "scores.tsv")
    assert set(pd.read_csv(tmp_path / "scores.tsv", sep="\t", dtype={"fold": str})["fold"]) == {"0", "1", "all"}
    again = read_scores(tmp_path / "scores.tsv", decision)
    pd.testing.assert_frame_equal(again, scores, check_dtype=False, check_exact=True)
    assert again["fold"].dtype == scores["fold"].dtype == "Int64"
