import pandas as pd

from cloudseg import logged
from cloudseg.dataset.images_table import read_images
from cloudseg.dataset.pixels import build_pixels

if __name__ == "__main__":
    with logged(snakemake):
        split = snakemake.wildcards.split
        tables = [read_images(snakemake.input.images, snakemake.input.raw, split)]
        tables += [read_images(path) for path in snakemake.input.get("train", [])]
        build_pixels(
            pd.concat(tables, ignore_index=True),
            snakemake.input.raw,
            snakemake.output.pixels,
            split=split,
            size=snakemake.params.size,
            classes=snakemake.params.classes,
            threads=snakemake.threads,
            code=snakemake.params.code,
            memory=snakemake.resources.mem_mb * 10**6,
        )
