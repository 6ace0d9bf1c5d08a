import sys

from cloudseg.dataset.check import check_dataset

from cloudseg import logged
from cloudseg.files import write_table

if __name__ == "__main__":
    with logged(snakemake):
        images, report = check_dataset(
            snakemake.input.raw,
            classes=snakemake.params.classes,
            size_of_submission=tuple(snakemake.params.submission_size),
            workers=snakemake.threads,
        )
        print(report)
        report.raise_for_errors()  # the report is in the log, which Snakemake shows when a job fails
        print(report, file=sys.__stderr__)
        write_table(images, snakemake.output.images)
