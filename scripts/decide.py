import yaml

from cloudseg import logged
from cloudseg.ensemble.decide_blend import Stores, decide_blend
from cloudseg.ensemble.decision import DecisionRule
from cloudseg.ensemble.score_tables import write_scores
from cloudseg.ensemble.scores import score_parts
from cloudseg.ensemble.selection import Selection
from cloudseg.ensemble.surface import read_surface
from cloudseg.storage.files import write_table, write_text

if __name__ == "__main__":
    with logged(snakemake):
        files, params = snakemake.input, snakemake.params
        rule = DecisionRule(**params.decision)
        if files.selection:
            # The power of p that is averaged was chosen, too
            rule = rule.of_power(Selection.read(files.selection[0]).chosen.power)
        decision, scores, images = decide_blend(
            Stores(files.blend, files.truth, next(iter(files.presence), None)),
            rule,
            classes=params.classes,
            surface=read_surface(files.surface),
            threads=snakemake.threads,
        )
        write_scores(scores, snakemake.output.scores)
        write_table(images, snakemake.output.images)
        write_scores(score_parts(images, params.class_rates), snakemake.output.parts)
        write_text(snakemake.output.decision, yaml.safe_dump(decision.plain(), sort_keys=False))
