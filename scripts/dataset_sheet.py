from cloudseg import logged
from cloudseg.report.pictures import dataset_sheet

if __name__ == "__main__":
    with logged(snakemake):
        dataset_sheet(snakemake.input.truth, snakemake.input.raw, snakemake.output.picture)
