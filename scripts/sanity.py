import sys

from cloudseg import logged
from cloudseg.runtime.logs import tell
from cloudseg.texts import printable

if __name__ == "__main__":
    with logged(snakemake):
        from cloudseg.dataset.contest import ContestFolder
        from cloudseg.ensemble.decision import Decision
        from cloudseg.report.submission_page import write_submission_page
        from cloudseg.studies.sanity.check import data_set, look_at, look_at_own

        files, params = snakemake.input, snakemake.params
        paths = {"images": files.images, "truth": files.truth, "root": ContestFolder.of_job(files.raw, params)}
        grid = tuple(params.submission_size)
        if params.csv:
            form, training = data_set(params.classes, grid, params.min_sizes, **paths)
            sanity = look_at(params.csv, form, training, own=False, threads=snakemake.threads)
        else:
            decision = Decision.read(files.own[1], params.classes)
            sanity = look_at_own(files.own[0], decision, grid=grid, threads=snakemake.threads, **paths)
        write_submission_page(sanity, params.page)
        text = printable(f"{sanity}\n{params.page} shows it.")
        print(text)
        if sanity.is_sane:
            tell(text, into_log=False)
        else:  # Snakemake prints the log of a failed job last
            sys.exit(1)
