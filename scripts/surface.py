from cloudseg import logged
from cloudseg.ensemble.surface import write_surface

if __name__ == "__main__":
    with logged(snakemake):
        write_surface(
            snakemake.input.blend,
            snakemake.input.truth,
            snakemake.output.surface,
            folds=snakemake.params.folds,
            min_sizes=snakemake.params.min_sizes,
            threads=snakemake.threads,
            code=snakemake.params.code,
        )
