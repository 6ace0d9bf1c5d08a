from cloudseg import logged
from cloudseg.ensemble.whether import write_whether

if __name__ == "__main__":
    with logged(snakemake):
        files, params = snakemake.input, snakemake.params
        black = None
        if files.black:
            from cloudseg.dataset.black import Black

            black = Black(files.black[0])
        write_whether(
            files.stores,
            params.members,
            snakemake.output.presence,
            folds=params.folds if snakemake.wildcards.split == "valid" else None,
            classes=params.classes,
            size=tuple(params.submission_size),
            sharpen=params.sharpen,
            black=black,
            allow_squeezed=params.allow_squeezed,
            threads=snakemake.threads,
            code=params.code,
        )
