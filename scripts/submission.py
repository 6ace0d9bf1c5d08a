from pathlib import Path

from cloudseg import logged
from cloudseg.ensemble.publish import publish
from cloudseg.runtime.logs import tell

if __name__ == "__main__":
    with logged(snakemake):
        paths = {name: Path(path) for name, path in snakemake.output.items()}
        lines = publish(
            snakemake.input.submission,
            snakemake.input.provenance,
            own=paths["own"],
            root=paths.get("root"),
            about=f"config {snakemake.params.config}, ensemble {snakemake.params.ensemble}",
        )
        tell(*lines)
