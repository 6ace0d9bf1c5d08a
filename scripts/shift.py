import pandas as pd

from cloudseg import logged

if __name__ == "__main__":
    with logged(snakemake):
        from cloudseg.dataset.images_table import read_images
        from cloudseg.report.shift_page import shift_page
        from cloudseg.studies.shift import measure_shift, write_shift

        files = snakemake.input
        found = measure_shift(
            {"train": files.train_pixels, "test": files.test_pixels},
            pd.concat([read_images(path) for path in (files.train, files.test)], ignore_index=True),
            seed=snakemake.params.seed,
            threads=snakemake.threads,
        )
        print(found.verdict)
        write_shift(found, scores=snakemake.output.scores, summary=snakemake.output.summary)
        shift_page(found, files.train_pixels, snakemake.output.page)
