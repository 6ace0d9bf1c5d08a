"""That no job of the four configs, plain or smoke, changes its params, files, threads, memory or minutes.

Snakemake runs a job again when the text of its params differs from that of the last run: a rename that changes it would
retrain the networks of every user. These files change with what users asked for, never with how it is written:

    python tests/golden/regenerate.py
"""

import pytest
from plans import PLANS, TABLE, cuts, differences, dry_run, entries, path, read, table, write


@pytest.fixture(scope="module")
def planned():
    return {}


@pytest.mark.parametrize("plan", PLANS)
def test_all_jobs_are_as_they_were(plan, planned):
    found = dry_run(plan)
    planned[plan] = found["table"]
    now = write(entries(found["jobs"], cuts(plan)))
    kept = path(plan).read_text(encoding="utf-8")
    lines = differences(read(kept), read(now))
    assert not lines, f"{path(plan).name}: {len(lines)} differences\n" + "\n".join(lines)
    assert now == kept


def test_a_call_without_targets_runs_as_many_jobs_of_each_rule(planned):
    """After the test above, which has planned them, or alone."""
    tables = {plan: planned[plan] if plan in planned else dry_run(plan)["table"] for plan in PLANS}
    assert table(tables).splitlines() == TABLE.read_text(encoding="utf-8").splitlines()
