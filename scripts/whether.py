from cloudseg import logged
from cloudseg.ensemble.ingredients import black_of
from cloudseg.ensemble.whether import write_whether

if __name__ == "__main__":
    with logged(snakemake):
        files, params = snakemake.input, snakemake.params
        heads = [member for member in params.members if "gives" in member]
        write_whether(
            files.stores,
            [member for member in params.members if "gives" not in member],
            snakemake.output.presence,
            value_paths=files.get("values", []),
            value_members=heads,
            folds=params.folds if snakemake.wildcards.split == "valid" else None,
            classes=params.classes,
            size=tuple(params.submission_size),
            sharpen=params.sharpen,
            black=black_of(files.black),
            allow_squeezed=params.allow_squeezed,
            threads=snakemake.threads,
            code=params.code,
        )
