from cloudseg import logged
from cloudseg.config.recipe import Recipe

if __name__ == "__main__":
    with logged(snakemake):
        from cloudseg.report.augmented import augmented_page

        augmented_page(
            snakemake.input.pixels,
            Recipe(**snakemake.params.recipe),
            snakemake.wildcards.recipe,
            snakemake.output.page,
            seed=snakemake.params.seed,
        )
