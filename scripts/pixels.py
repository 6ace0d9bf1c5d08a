import pandas as pd
from cloudseg.dataset.pixels import build_pixels

from cloudseg import logged

if __name__ == "__main__":
    with logged(snakemake):
        build_pixels(
            pd.read_csv(snakemake.input.images, sep="\t"),
            snakemake.input.raw,
            snakemake.output.pixels,
            size=snakemake.wildcards.size,
            classes=snakemake.params.classes,
            threads=snakemake.threads,
        )
