from cloudseg import logged
from cloudseg.ensemble.agreement import Member
from cloudseg.ensemble.decision import Decision, DecisionRule
from cloudseg.ensemble.diagnosis import diagnose
from cloudseg.ensemble.score_tables import read_image_scores
from cloudseg.ensemble.surface import read_surface
from cloudseg.report.decision_page import Explained, Surface, write_decision_page

if __name__ == "__main__":
    with logged(snakemake):
        files, params = snakemake.input, snakemake.params
        decision = Decision.read(files.decision, params.classes)
        stores = dict(zip(params.member_names, files.members, strict=True))
        diagnosis = diagnose(
            files.blend,
            files.truth,
            decision,
            [Member(**member, store=stores[member["name"]]) for member in params.members],
            DecisionRule(**params.member_decision),
            whether=next(iter(files.presence), None),
            threads=snakemake.threads,
        )
        explained = Explained(
            snakemake.wildcards.ensemble,
            decision,
            DecisionRule(**params.decision).of_power(decision.sharpen if files.selection else None),
            Surface(*read_surface(files.surface)),
            read_image_scores(files.scores, decision),
            diagnosis,
            len(params.members),
        )
        figures = {name: path for name, path in snakemake.output.items() if name != "page"}
        write_decision_page(explained, seed=params.seed, page=snakemake.output.page, figures=figures)
