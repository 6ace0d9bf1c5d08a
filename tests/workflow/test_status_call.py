"""`snakemake status` and the hours of a dry run, as a person calls them."""


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_status_leaves_nothing_behind_and_needs_no_lock(workflow):
    printed = workflow.run("status")
    assert "trainings: 0 of 4 done, 4 not begun" in printed
    assert list(workflow.folder.iterdir()) == []

    locks = workflow.folder / ".snakemake/locks"
    locks.mkdir(parents=True)
    for name in ("0.input.lock", "0.output.lock"):
        (locks / name).write_text(str(workflow.folder / "results/demo/dataset/raw") + "\n")
    before = files(workflow.folder)
    assert "predictions: 0 of 8 done" in workflow.run("status")
    assert files(workflow.folder) == before


def test_status_makes_nothing_beside(workflow):
    assert "expected no other target beside it, got submission.csv" in workflow.run(
        "status", "submission.csv", check=False
    )


def test_a_dry_run_says_hours_for_any_target(workflow):
    printed = workflow.run("-n", "submission.csv", "--cores", "2", "--config", "device=cpu")
    assert printed.count("trainings: about ") == 2
    assert "(4 by network size: a guess); with cores=2 about " in printed
    assert "trainings:" not in workflow.run("-n", "dataset_sheet")
