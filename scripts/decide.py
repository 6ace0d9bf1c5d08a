import yaml

from cloudseg import logged
from cloudseg.ensemble.decisions import decide
from cloudseg.ensemble.surface import read_surface
from cloudseg.files import write_table, write_text

if __name__ == "__main__":
    with logged(snakemake):
        decision, scores = decide(
            *read_surface(snakemake.input.surface),
            classes=snakemake.params.classes,
            decision=snakemake.params.decision,
        )
        write_table(scores, snakemake.output.scores)
        write_text(snakemake.output.decision, yaml.safe_dump(decision, sort_keys=False))
