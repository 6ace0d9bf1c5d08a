from cloudseg import logged
from cloudseg.config.recipe_parts import Pseudo
from cloudseg.ensemble.pseudo_labels import BlendLabels, write_pseudo_labels
from cloudseg.storage import stores

if __name__ == "__main__":
    with logged(snakemake):
        files, params = snakemake.input, snakemake.params
        labels = BlendLabels.of(
            files.stores,
            params.members,
            Pseudo(**params.pseudo),
            classes=params.classes,
            grid=tuple(params.submission_size),
            size=stores.read(files.pixels)["image"].shape[1:3],
            min_area=params.min_area,
            threads=snakemake.threads,
        )
        write_pseudo_labels(labels, snakemake.output.labels, code=params.code)
