from cloudseg import logged
from cloudseg.dataset.black import build_black
from cloudseg.dataset.contest import ContestFolder
from cloudseg.dataset.images_table import read_images

if __name__ == "__main__":
    with logged(snakemake):
        split = snakemake.wildcards.split
        folder = ContestFolder.of_job(snakemake.input.raw, snakemake.params)
        build_black(
            read_images(snakemake.input.images, folder, split),
            folder,
            snakemake.output.black,
            split=split,
            grey=int(snakemake.wildcards.grey),
            size=tuple(snakemake.params.submission_size),
            threads=snakemake.threads,
            code=snakemake.params.code,
            memory=snakemake.resources.mem_mb * 10**6,
        )
