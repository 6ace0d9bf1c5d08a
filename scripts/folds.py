from cloudseg import logged
from cloudseg.config.image_tables import read_split
from cloudseg.dataset.folds import make_folds, read_weights, take_split
from cloudseg.dataset.groups import read_groups
from cloudseg.dataset.images_table import read_images
from cloudseg.dataset.split import describe_split
from cloudseg.runtime.logs import tell
from cloudseg.storage.files import write_table

if __name__ == "__main__":
    with logged(snakemake):
        files, params, outputs = snakemake.input, snakemake.params, snakemake.output
        images, weights, own = read_images(files.images), files.get("weights"), files.get("file")
        names = images.loc[images["split"] == "train", "image"].tolist()
        wanted = getattr(params, "groups", None)
        groups = read_groups(names, wanted, files.get("table")) if wanted else None
        if own:
            folds = take_split(images, read_split(own, params.folds), count=params.folds, of=own)
        else:
            folds = make_folds(
                images,
                classes=params.classes,
                count=params.folds,
                seed=params.seed,
                weights=read_weights(weights) if weights else None,
                groups=groups,
            )
        split = describe_split(images, folds, classes=params.classes, groups=groups)
        print(split.summary)
        write_table(folds, outputs.folds)
        if facts := getattr(outputs, "split", None):
            tell(split.summary, into_log=False)
            tell(*(f"Warning: {remark}" for remark in split.remarks))
            split.write(facts)
