import pandas as pd

from cloudseg import logged
from cloudseg.dataset.contest import ContestFolder
from cloudseg.dataset.images_table import read_images
from cloudseg.dataset.pixels import build_pixels

if __name__ == "__main__":
    with logged(snakemake):
        split = snakemake.wildcards.split
        folder = ContestFolder.of_job(snakemake.input.raw, snakemake.params)
        tables = [read_images(snakemake.input.images, folder, split)]
        tables += [read_images(path) for path in snakemake.input.get("train", [])]
        build_pixels(
            pd.concat(tables, ignore_index=True),
            folder,
            snakemake.output.pixels,
            split=split,
            size=snakemake.params.size,
            classes=snakemake.params.classes,
            threads=snakemake.threads,
            code=snakemake.params.code,
            memory=snakemake.resources.mem_mb * 10**6,
        )
