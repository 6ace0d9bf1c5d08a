"""What a call of Snakemake says of itself while the workflow is parsed."""

import pytest

from cloudseg.workflow.targets import jobs_run_here, typed_targets


@pytest.mark.parametrize(
    "words, here",
    [
        (["-n"], True),
        (["--cores", "2"], True),
        (["-n", "--workflow-profile", "profiles/slurm"], False),
        (["--workflow-profile", "profiles/generic", "submission.csv"], False),
        (["--executor", "slurm", "--jobs", "3"], False),
        (["--executor", "local", "--jobs", "3"], True),
        (["--no-such-word"], True),
    ],
)
def test_where_jobs_run_is_read_from_words_and_profiles(monkeypatch, capfd, repo, words, here):
    monkeypatch.chdir(repo)
    monkeypatch.setattr("sys.argv", ["snakemake", *words])
    capfd.readouterr()
    assert jobs_run_here() is here
    assert "Using" not in capfd.readouterr().err  # said once, by Snakemake itself


def test_another_program_has_typed_nothing(monkeypatch):
    monkeypatch.setattr("sys.argv", ["pytest", "status"])
    assert typed_targets() == [] and jobs_run_here()
