from cloudseg import logged

if __name__ == "__main__":
    with logged(snakemake):
        from cloudseg.dataset.check import read_images
        from cloudseg.report.shift_sheet import shift_roc, shift_sheet
        from cloudseg.shift import measure_shift, write_shift

        found = measure_shift(
            snakemake.input.pixels,
            read_images(snakemake.input.images),
            seed=snakemake.params.seed,
            threads=snakemake.threads,
        )
        print(found.verdict)
        write_shift(found, scores=snakemake.output.scores, summary=snakemake.output.summary)
        shift_roc(found, snakemake.output.roc)
        shift_sheet(found, snakemake.input.pixels, snakemake.output.sheet)
