from cloudseg import logged
from cloudseg.config.recipe import Recipe

if __name__ == "__main__":
    with logged(snakemake):
        from cloudseg.report.augmented import augmented_sheet

        augmented_sheet(
            snakemake.input.pixels,
            Recipe(**snakemake.params.recipe),
            snakemake.output.picture,
            seed=snakemake.params.seed,
        )
