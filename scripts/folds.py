import pandas as pd
from cloudseg.dataset.folds import make_folds

from cloudseg import logged
from cloudseg.files import write_table

if __name__ == "__main__":
    with logged(snakemake):
        folds = make_folds(
            pd.read_csv(snakemake.input.images, sep="\t"),
            classes=snakemake.params.classes,
            count=snakemake.params.folds,
            seed=snakemake.params.seed,
        )
        write_table(folds, snakemake.output.folds)
