from cloudseg import logged
from cloudseg.dataset.contest import ContestFolder
from cloudseg.dataset.labels.submission import SubmissionForm
from cloudseg.ensemble.decision import Decision
from cloudseg.ensemble.score_tables import read_image_scores
from cloudseg.report.masks_page import MaskSource, OutOfFold, Photos, Submitted, submitted_pixels, write_masks_page
from cloudseg.storage.files import read_json

if __name__ == "__main__":
    with logged(snakemake):
        files, params = snakemake.input, snakemake.params
        folder = ContestFolder.of_job(files.raw, params)
        decision = Decision.read(files.decision, params.classes)
        valid = MaskSource(files.valid, decision, next(iter(files.presence), None))
        best = read_json(files.comparison).get("best_member", "")
        members = {
            name: MaskSource(blend, Decision.read(decided, params.classes))
            for name, blend, decided in zip(params.members, files.members, files.member_decisions, strict=True)
            if name == best
        }
        submitted, pixels = None, {}
        for blend, table, submission in zip(files.test, files.images, files.submission, strict=True):  # one, or none
            test = MaskSource(blend, decision, next(iter(files.test_presence), None))
            submitted = Submitted(Photos(folder, "test", table, test.size), test)
            form = SubmissionForm(folder.layout.submission, test.size)
            pixels = submitted_pixels(submission, test.blended.ids, params.classes, form)
        write_masks_page(
            OutOfFold(Photos(folder, "train", files.train, valid.size), valid, members.get(best), files.truth),
            submitted,
            scores=read_image_scores(files.scores, decision),
            pixels=pixels,
            ensemble=snakemake.wildcards.ensemble,
            member=best,
            seed=params.seed,
            page=snakemake.output.page,
            sheet=snakemake.output.sheet,
        )
