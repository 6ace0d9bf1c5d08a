"""The page of a submission: what is odd about it, and its masks beside those of training."""

from collections.abc import Mapping
from pathlib import Path

from cloudseg.report.charts import Chart, charts_script
from cloudseg.report.decision_charts import words
from cloudseg.report.page import Column, Table, write_page
from cloudseg.report.provenance_page import unscored_in_words
from cloudseg.report.submission_charts import empty_charts, submission_charts
from cloudseg.studies.sanity.check import Sanity
from cloudseg.studies.sanity.judging import class_areas, class_rates

NOTHING = "Nothing to show: there are no masks, or they are of one class."
GLOSSARY = {
    "to be expected": "The interval that holds 95 of 100 test sets of this size, if test images are like training "
    "images and masks are like their labels. Counts are beta-binomial (the rate of the class is not known, only how "
    "many training images have it; Jeffreys' prior); means of areas and of all rows follow Student's t.",
    "fault": "The contest would refuse the file, or nobody can mean it: a class of which there is no mask where less "
    "than one test set in 10,000 has none; odds of a mask that differ by a factor of more than 8, and by chance in "
    "less than one of a million; likewise areas by a factor of more than 4.",
    "warning": "Worth a look: odds that differ by a factor of more than 2.5, areas by more than 1.75, pieces by more "
    "than 2, and by chance in less than one of 1,000 (of 10,000).",
    "component": "Pixels of a mask that touch, also at their corners.",
}


def write_submission_page(
    sanity: Sanity, out: str | Path, svgs: Mapping[str, str | Path] | None = None, unscored: str | None = None
) -> None:
    """Write the page, and its charts as SVG.

    Parameters
    ----------
    sanity : what a look at the submission found.
    out : the page.
    svgs : where each chart goes: presence, areas, components, together.
    unscored : how many of the members, such as ``2 of 6``, were trained on all images.
    """
    charts = submission_charts(sanity.submission, sanity.training)
    empty = empty_charts(sanity.submission, sanity.training)
    for name, path in (svgs or {}).items():
        chart = Chart(words(NOTHING), name, "") if name in empty else charts[name]
        chart.write_svg(path)
    write_page(
        out,
        "submission.html",
        title="The submission beside training",
        lead=sanity.head,
        sanity=sanity,
        unscored=unscored_in_words(unscored),
        groups=list(sanity.findings.groups()),
        classes=sanity.training.classes,
        charts=[] if sanity.submission.rows.empty else [chart for name, chart in charts.items() if name not in empty],
        table=_table(sanity),
        glossary=GLOSSARY,
        charts_script=charts_script(),
    )


def _table(sanity: Sanity) -> Table:
    rates = class_rates(sanity.submission, sanity.training)
    areas = class_areas(sanity.submission, sanity.training)

    def percent(head: str, shares: list[float], meaning: str) -> Column:
        return Column(head, [100 * share for share in shares], digits=1, help=meaning)

    columns = [
        Column("class", list(sanity.training.classes)),
        Column("rows", [rate.of for rate in rates], help="rows of the class in the file"),
        Column("with a mask", [rate.count for rate in rates]),
        percent("%", [rate.rate for rate in rates], "share of rows with a mask"),
        percent("% in training", [rate.trained_rate for rate in rates], "share of training images that have the class"),
        percent("from %", [rate.low for rate in rates], "to be expected"),
        percent("to %", [rate.high for rate in rates], "to be expected"),
        percent(
            "area %", [each.found for each in areas], "geometric mean of the share of the image, without empty masks"
        ),
        percent("area % in training", [each.trained for each in areas], "likewise"),
        percent("area from %", [each.low for each in areas], "to be expected"),
        percent("area to %", [each.high for each in areas], "to be expected"),
    ]
    return Table(columns, "Presence and area per class, in the submission and in training.")
