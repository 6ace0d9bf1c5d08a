"""That no job of the configs, plain or smoke, changes its params, files, threads, memory or minutes.

Snakemake runs a job again when the text of its params differs from that of the last run: a rename that changes it would
retrain the networks of every user. These files change with what users asked for, never with how it is written:

    python tests/golden/regenerate.py
"""

import pytest
from plans import PLANS, TABLE, differences, dry_run, entries, keep, kept, path, read, table


@pytest.mark.parametrize("plan", PLANS)
def test_all_jobs_are_as_they_were(plan):
    lines = differences(read(kept(plan)), entries(plan))
    assert not lines, f"{plan}: {len(lines)} differences\n" + "\n".join(lines)
    assert keep(plan) == path(plan).read_text(encoding="utf-8")


def test_a_call_without_targets_runs_as_many_jobs_of_each_rule():
    assert table({plan: dry_run(plan)["table"] for plan in PLANS}) == TABLE.read_text(encoding="utf-8")
