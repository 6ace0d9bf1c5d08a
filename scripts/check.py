from functools import partial
from pathlib import Path

from cloudseg import logged
from cloudseg.config.checks import fixed_min_sizes
from cloudseg.config.reading import read_config
from cloudseg.dataset.check import check_dataset
from cloudseg.runtime.logs import tell
from cloudseg.storage.files import write_table, write_text
from cloudseg.texts import printable

if __name__ == "__main__":
    with logged(snakemake):
        config = read_config(snakemake.config)
        check = partial(
            check_dataset,
            snakemake.input.raw,
            classes=snakemake.params.classes,
            workers=snakemake.threads,
            memory=snakemake.resources.mem_mb * 10**6,
            # Not parameters: they mean warnings alone, and are no reason to check, or train, again
            size_of_submission=config.submission_size.pixels,
            min_sizes=fixed_min_sizes(config),
            exclude=next(iter(snakemake.input.get("exclude", [])), None),
            layout=snakemake.params.get("layout"),
        )
        images, report = check(splits=[snakemake.wildcards.split])
        if report.errors:  # then the other images' are wanted at once, too
            images, report = check()
        print(printable(str(report)))
        if report.render(None) != str(report):
            everything = Path(snakemake.log[0]).with_suffix(".all.txt")
            write_text(everything, report.render(None) + "\n")
            print(f"Every finding is in {everything}")
        report.raise_for_errors()  # the report is in the log, which Snakemake shows when a job fails
        tell(report, into_log=False)
        write_table(images, snakemake.output.images)
