from cloudseg import logged
from cloudseg.dataset.contest import ContestFolder
from cloudseg.dataset.images_table import read_images
from cloudseg.dataset.pixels import build_truth

if __name__ == "__main__":
    with logged(snakemake):
        folder = ContestFolder.of_job(snakemake.input.raw, snakemake.params)
        build_truth(
            read_images(snakemake.input.images, folder, "train"),
            folder,
            snakemake.output.truth,
            classes=snakemake.params.classes,
            size=tuple(snakemake.params.submission_size),
            threads=snakemake.threads,
            code=snakemake.params.code,
            memory=snakemake.resources.mem_mb * 10**6,
        )
