from dataclasses import replace

from cloudseg import logged
from cloudseg.ensemble.agreement import Blending, Member
from cloudseg.ensemble.decision import Decision, DecisionRule
from cloudseg.ensemble.diagnosis import diagnose
from cloudseg.ensemble.ingredients import black_of
from cloudseg.ensemble.score_tables import read_image_scores
from cloudseg.ensemble.selection import Selection
from cloudseg.ensemble.surface import read_surface
from cloudseg.report.decision_page import Explained, Surface, write_decision_page

if __name__ == "__main__":
    with logged(snakemake):
        files, params = snakemake.input, snakemake.params
        decision = Decision.read(files.decision, params.classes)
        stores = dict(zip(params.member_names, files.members, strict=True))
        voters = dict(zip(params.member_names if files.voters else [], files.voters, strict=True))
        members = [Member(**member, store=stores[member["name"]]) for member in params.members]
        selection = None
        if files.selection:
            selection = Selection.read(files.selection[0], [member.name for member in members])
            members = [replace(member, weight=selection.chosen.counts.get(member.name, 0)) for member in members]
        diagnosis = diagnose(
            files.blend,
            files.truth,
            decision,
            members,
            DecisionRule(**params.member_decision),
            whether=next(iter(files.presence), None),
            blending=Blending(
                decision.sharpen,
                selection,
                {name: Decision.read(path, params.classes) for name, path in voters.items()},
                black_of(files.black),
            ),
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
            bool(voters),
        )
        figures = {name: path for name, path in snakemake.output.items() if name != "page"}
        write_decision_page(explained, seed=params.seed, page=snakemake.output.page, figures=figures)
