from cloudseg import logged
from cloudseg.ensemble.blending import blend_stores

if __name__ == "__main__":
    with logged(snakemake):
        blend_stores(
            snakemake.input.stores,
            snakemake.params.members,
            snakemake.output.blend,
            folds=snakemake.params.folds if snakemake.wildcards.split == "valid" else None,
            classes=snakemake.params.classes,
            size=tuple(snakemake.params.submission_size),
            sharpen=snakemake.params.sharpen,
            allow_squeezed=snakemake.params.allow_squeezed,
            threads=snakemake.threads,
            code=snakemake.params.code,
        )
