from cloudseg import logged
from cloudseg.bundle.gather import gather
from cloudseg.runtime.logs import tell

if __name__ == "__main__":
    with logged(snakemake):
        rows = gather(snakemake.input.shards, snakemake.output.masks, classes=snakemake.params.classes)
        tell(f"{snakemake.output.masks}: {rows} rows")
