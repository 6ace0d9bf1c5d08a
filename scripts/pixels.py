from cloudseg import logged
from cloudseg.dataset.check import read_images
from cloudseg.dataset.pixels import build_pixels

if __name__ == "__main__":
    with logged(snakemake):
        build_pixels(
            read_images(snakemake.input.images, snakemake.input.raw),
            snakemake.input.raw,
            snakemake.output.pixels,
            size=snakemake.params.size,
            classes=snakemake.params.classes,
            threads=snakemake.threads,
        )
