"""What the jobs of the config in `own/` make, and what all trainings are known by, as one file that is kept."""

import functools
import json
import tempfile
from pathlib import Path

from inputs import write_own
from plans import HERE, PLANS, dry_run, output_of

KEPT = HERE / "digests.json"


@functools.cache
def digests() -> dict[str, str]:
    """Return them from a process of its own."""
    planned = json.dumps({plan: dry_run(plan) for plan in PLANS})
    with tempfile.TemporaryDirectory() as folder:
        write_own(Path(folder))
        return json.loads(output_of(str(HERE / "jobs.py"), folder=folder, stdin=planned))


def regenerate() -> None:
    """Write the file."""
    KEPT.write_text(json.dumps(digests(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
