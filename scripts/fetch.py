from pathlib import Path

from cloudseg import logged
from cloudseg.dataset.fetch import fetch

if __name__ == "__main__":
    with logged(snakemake):
        fetch(snakemake.params.competition, Path(snakemake.output[0]))
