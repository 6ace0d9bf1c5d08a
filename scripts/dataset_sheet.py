from cloudseg import logged
from cloudseg.dataset.contest import ContestFolder
from cloudseg.dataset.images_table import read_images
from cloudseg.dataset.split import Split
from cloudseg.report.pictures import dataset_page

if __name__ == "__main__":
    with logged(snakemake):
        files = snakemake.input
        folder = ContestFolder.of_job(files.raw, snakemake.params)
        facts = files.get("split")
        split = Split.read(facts) if facts else None
        dataset_page(files.truth, read_images(files.images), folder, snakemake.output.page, split=split)
