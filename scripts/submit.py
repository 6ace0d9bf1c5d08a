from cloudseg import logged
from cloudseg.dataset.contest import ContestFolder
from cloudseg.ensemble.decisions import read_decision
from cloudseg.ensemble.submission import write_submission

if __name__ == "__main__":
    with logged(snakemake):
        summary = write_submission(
            snakemake.input.blend,
            read_decision(snakemake.input.decision, snakemake.params.classes)["classes"],
            ContestFolder(snakemake.input.raw).submission_rows(snakemake.params.classes),
            snakemake.output.submission,
            threads=snakemake.threads,
        )
        print(f"{snakemake.output.submission}: {summary.rows} rows, {summary.filled} of them with a mask")
