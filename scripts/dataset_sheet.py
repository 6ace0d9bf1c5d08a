from cloudseg import logged
from cloudseg.dataset.images_table import read_images
from cloudseg.report.pictures import dataset_page

if __name__ == "__main__":
    with logged(snakemake):
        files = snakemake.input
        dataset_page(files.truth, read_images(files.images), files.raw, snakemake.output.page)
