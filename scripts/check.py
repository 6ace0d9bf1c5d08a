from functools import partial
from pathlib import Path

import cloudseg
from cloudseg import logged
from cloudseg.config.checks import fixed_min_sizes
from cloudseg.config.reading import read_config
from cloudseg.config.sheet import read_sheet
from cloudseg.dataset.check import check_dataset
from cloudseg.runtime.logs import tell
from cloudseg.storage.files import write_table, write_text
from cloudseg.texts import printable
from cloudseg.workflow.plan import find_sheet

HOME = Path(cloudseg.__file__).parents[2]

if __name__ == "__main__":
    with logged(snakemake):
        config = read_config(snakemake.config)
        sheet = read_sheet(find_sheet(config, HOME), config)
        check = partial(
            check_dataset,
            snakemake.input.raw,
            classes=snakemake.params.classes,
            workers=snakemake.threads,
            memory=snakemake.resources.mem_mb * 10**6,
            # Not parameters: they say nothing of images and labels, and are no reason to check, or train, again
            size_of_submission=config.submission_size.pixels,
            min_sizes=fixed_min_sizes(config),
            sizes={row.size for row in sheet.rows},
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
