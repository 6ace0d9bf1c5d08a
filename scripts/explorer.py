from functools import partial

from cloudseg import logged
from cloudseg.dataset.contest import ContestFolder
from cloudseg.ensemble.decision import Decision
from cloudseg.ensemble.score_tables import read_image_scores, read_scores
from cloudseg.report.explorer import LARGEST, LARGEST_IN_REPORT, Source, chosen_sources, write_explorer
from cloudseg.report.leaderboard import mean_dice, own_folds

if __name__ == "__main__":
    with logged(snakemake):
        files, params = snakemake.input, snakemake.params
        decisions, dice, images, sources = {}, {}, {}, {}
        rows = (params.names, files.decisions, files.scores, files.images, files.surfaces, files.valid)
        tests = dict(zip(params.submitted, files.test, strict=True)) if files.test else {}
        for name, decision, scores, images[name], surface, valid in zip(*rows, strict=True):
            decisions[name] = Decision.read(decision, params.classes)
            table = read_scores(scores, decisions[name])
            kind = "fixed" if decisions[name].how == "fixed" else "nested"
            dice[name] = mean_dice(table, own_folds(table), kind)
            stores = {"valid": valid} | ({"test": tests[name]} if name in tests else {})
            nested = dice[name] if decisions[name].nested else None
            sources[name] = Source(name, decisions[name], surface, stores, nested)
        chosen = chosen_sources(params.names, params.submitted, dice)
        scored = next((name for name in chosen if decisions[name].n_images), chosen[0])
        write = partial(
            write_explorer,
            [sources[name] for name in chosen],
            files.truth,
            ContestFolder.of_job(files.raw, params),
            classes=params.classes,
            scores=read_image_scores(images[scored], decisions[scored]),
            ranked=scored,
        )
        for page, largest in ((snakemake.output.page, LARGEST), (snakemake.output.in_report, LARGEST_IN_REPORT)):
            print(f"{page}: {write(out=page, largest=largest, whole=snakemake.output.page)}")
