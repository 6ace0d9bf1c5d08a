from cloudseg import logged
from cloudseg.runtime.logs import tell

if __name__ == "__main__":
    with logged(snakemake):
        from cloudseg.dataset.contest import ContestFolder
        from cloudseg.ensemble.decision import Decision
        from cloudseg.provenance.record import Provenance
        from cloudseg.report.submission_page import write_submission_page
        from cloudseg.studies.sanity.check import look_at_own

        files, params = snakemake.input, snakemake.params
        sanity = look_at_own(
            files.submission,
            Decision.read(files.decision, params.classes),
            images=files.images,
            truth=files.truth,
            root=ContestFolder.of_job(files.raw, params),
            grid=tuple(params.submission_size),
            threads=snakemake.threads,
        )
        svgs = {name: path for name, path in snakemake.output.items() if name != "page"}
        provenance = files.get("provenance")
        unscored = Provenance.read(provenance).unscored if provenance else None
        write_submission_page(sanity, snakemake.output.page, svgs, unscored)
        print(sanity)
        if not sanity.is_sane:
            tell(sanity, f"{snakemake.output.page} shows it", into_log=False)
