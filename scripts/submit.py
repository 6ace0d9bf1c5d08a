from cloudseg import logged
from cloudseg.dataset.contest import ContestFolder
from cloudseg.ensemble.decision import Decision
from cloudseg.ensemble.submission import write_submission

if __name__ == "__main__":
    with logged(snakemake):
        folder = ContestFolder.of_job(snakemake.input.raw, snakemake.params)
        summary = write_submission(
            snakemake.input.blend,
            Decision.read(snakemake.input.decision, snakemake.params.classes).rule,
            folder.submission_rows(snakemake.params.classes),
            snakemake.output.submission,
            whether=next(iter(snakemake.input.presence), None),
            form=folder.layout.submission,
            threads=snakemake.threads,
        )
        print(f"{snakemake.output.submission}: {summary.rows} rows, {summary.filled} of them with a mask")
