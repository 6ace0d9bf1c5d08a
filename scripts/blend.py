from cloudseg import logged
from cloudseg.ensemble.blending import blend_stores
from cloudseg.ensemble.ingredients import black_of, ingredients_of

if __name__ == "__main__":
    with logged(snakemake):
        files, params, split = snakemake.input, snakemake.params, snakemake.wildcards.split
        blended = ingredients_of(
            files.stores,
            params.members,
            params.sharpen,
            split=split,
            classes=params.classes,
            selection=next(iter(files.selection), None),
            voters=files.voters,
        )
        blend_stores(
            blended.paths,
            blended.members,
            snakemake.output.blend,
            folds=params.folds if split == "valid" else None,
            classes=params.classes,
            size=tuple(params.submission_size),
            sharpen=blended.sharpen,
            levels=blended.levels,
            black=black_of(files.black),
            allow_squeezed=params.allow_squeezed,
            threads=snakemake.threads,
            code=params.code,
        )
