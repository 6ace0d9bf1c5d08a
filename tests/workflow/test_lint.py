"""The tools that keep the code readable, run as tests so that one command tells everything."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "words",
    [
        ["ruff", "check", "--no-cache", "scripts", "tests"],
        ["ruff", "format", "--no-cache", "--check", "scripts", "tests"],
        ["snakefmt", "--check", "Snakefile", "rules"],
        ["snakemake", "--lint"],
    ],
    ids=["ruff-check", "ruff-format", "snakefmt", "snakemake-lint"],
)
def test_clean(words, repo):
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=repo,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
