"""Rule `sanity` on files of any origin: it fails on faults, leaves the file alone, and makes no submission for it."""

import shutil


def test_a_foreign_file_is_looked_at_and_left_alone(finished_run, make_workflow, tmp_path):
    folder = tmp_path / "work"
    shutil.copytree(finished_run.folder, folder, symlinks=True)
    workflow = make_workflow(folder)
    # The submission in the working directory is an output of a rule, and stays as it is here, too
    foreign = folder / "submission.csv"
    emptied = "".join(line.partition(",")[0] + ",\n" for line in foreign.read_text().splitlines()[1:-1])
    foreign.write_text(emptied)
    words = ("sanity", "--cores", "2", "--configfile", "config.yaml", "--config", "csv=submission.csv")
    assert set(workflow.planned(*words)) == {"sanity"}
    printed = workflow.run(*words, check=False)
    assert "FAULT: no header" in printed and "FAULT: rows that are missing" in printed
    assert foreign.read_text() == emptied
    page = folder / "results/tiny/report/sanity.html"
    assert "no header" in page.read_text()


def test_the_report_has_the_pages_of_submission_and_labels(finished_run):
    report = finished_run.folder / "results/tiny/report"
    assert "The submission beside training" in (report / "submission.html").read_text()
    assert {path.stem for path in (report / "submission").glob("*.svg")} == {
        *("presence", "areas", "components", "together")
    }
    assert (report / "labels.tsv").read_text().startswith("image\tclass\tfold\tscore\t")
    assert "too few to tell" in (report / "labels.html").read_text()
