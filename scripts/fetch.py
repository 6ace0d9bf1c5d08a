from pathlib import Path

from cloudseg import logged
from cloudseg.dataset.fetch import fetch, link

if __name__ == "__main__":
    with logged(snakemake):
        root = Path(snakemake.params.root)
        fetch(snakemake.params.competition, root)
        link(root, Path(snakemake.output[0]))
