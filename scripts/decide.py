import yaml

from cloudseg import logged
from cloudseg.ensemble.deciding import decide
from cloudseg.ensemble.decision import DecisionRule
from cloudseg.ensemble.score_tables import write_scores
from cloudseg.ensemble.scores import image_scores, score_parts
from cloudseg.ensemble.surface import read_surface
from cloudseg.storage.files import write_table, write_text

if __name__ == "__main__":
    with logged(snakemake):
        files, params = snakemake.input, snakemake.params
        rule = DecisionRule(**params.decision)
        decision, scores = decide(*read_surface(files.surface), classes=params.classes, rule=rule)
        images = image_scores(files.blend, files.truth, decision, threads=snakemake.threads)
        write_scores(scores, snakemake.output.scores)
        write_table(images, snakemake.output.images)
        write_scores(score_parts(images, params.class_rates), snakemake.output.parts)
        write_text(snakemake.output.decision, yaml.safe_dump(decision.plain(), sort_keys=False))
