from pathlib import Path

import yaml

from cloudseg import logged
from cloudseg.dataset.contest import ContestFolder
from cloudseg.ensemble.submission import write_submission

if __name__ == "__main__":
    with logged(snakemake):
        with Path(snakemake.input.decision).open(encoding="utf-8") as file:
            decision = yaml.safe_load(file)["classes"]
        summary = write_submission(
            snakemake.input.blend,
            decision,
            ContestFolder(snakemake.input.raw).submission_rows(snakemake.params.classes),
            snakemake.output.submission,
            threads=snakemake.threads,
        )
        print(f"{snakemake.output.submission}: {summary.rows} rows, {summary.filled} of them with a mask")
