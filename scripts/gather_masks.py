from pathlib import Path

from cloudseg import logged
from cloudseg.bundle.gather import gather
from cloudseg.runtime.logs import tell

if __name__ == "__main__":
    with logged(snakemake):
        shards = [Path(shard) for shard in snakemake.input.shards]
        rows = gather(shards, snakemake.output.masks, classes=snakemake.params.classes)
        for stale in set(shards[0].parent.glob("*.csv")) - set(shards):  # parted in two since, or of other settings
            stale.unlink()
        tell(f"{snakemake.output.masks}: {rows} rows")
