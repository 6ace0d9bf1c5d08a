"""That jobs make the same from the same: data sets, blends, surfaces, decisions, submissions and the leaderboard.

And that each training of each config is known by the same digests, so that what had finished, or had been stopped, is
found. After a change of what jobs make, which raises a number of `CODE`:

    python tests/golden/regenerate.py

What networks compute is not here, since each kind of processor computes other bits: `same_bits.py` compares two runs.
"""

import json

from digests import KEPT, digests


def test_jobs_make_the_same_and_trainings_are_known_by_the_same():
    before, now = json.loads(KEPT.read_text(encoding="utf-8")), digests()
    lines = [
        f"{what}:\n    kept {before.get(what, '(not there)')}\n    now  {now.get(what, '(not there)')}"
        for what in dict.fromkeys([*before, *now])
        if before.get(what) != now.get(what)
    ]
    assert not lines, f"{len(lines)} differences\n" + "\n".join(lines[:20])
