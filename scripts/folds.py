from cloudseg import logged
from cloudseg.dataset.folds import make_folds, read_weights
from cloudseg.dataset.images_table import read_images
from cloudseg.storage.files import write_table

if __name__ == "__main__":
    with logged(snakemake):
        weights = snakemake.input.get("weights")
        folds = make_folds(
            read_images(snakemake.input.images),
            classes=snakemake.params.classes,
            count=snakemake.params.folds,
            seed=snakemake.params.seed,
            weights=read_weights(weights) if weights else None,
        )
        write_table(folds, snakemake.output.folds)
