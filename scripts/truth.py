import pandas as pd
from cloudseg.dataset.pixels import build_truth

from cloudseg import logged

if __name__ == "__main__":
    with logged(snakemake):
        build_truth(
            pd.read_csv(snakemake.input.images, sep="\t"),
            snakemake.input.raw,
            snakemake.output.truth,
            classes=snakemake.params.classes,
            size=tuple(snakemake.params.submission_size),
            threads=snakemake.threads,
        )
