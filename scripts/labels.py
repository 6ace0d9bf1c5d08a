from cloudseg import logged

if __name__ == "__main__":
    with logged(snakemake):
        from cloudseg.dataset.contest import ContestFolder
        from cloudseg.dataset.images_table import read_images
        from cloudseg.dataset.labels.order import counted_along_rows
        from cloudseg.ensemble.decision import Decision
        from cloudseg.report.label_page import write_label_page
        from cloudseg.storage.files import write_table
        from cloudseg.studies.alignment import SAMPLE, look_at_images, look_at_predictions
        from cloudseg.studies.label_faults import rank_labels

        files, classes = snakemake.input, snakemake.params.classes
        folder = ContestFolder.of_job(files.raw, snakemake.params)
        images = read_images(files.images)
        sizes = {name: (height, width) for name, height, width in images[["image", "height", "width"]].to_numpy()}
        ranked = rank_labels(files.blend, files.truth, sample=SAMPLE, threads=snakemake.threads)
        looks = [look_at_images(files.pixels, files.truth), look_at_predictions(ranked.sample)]
        along_rows = counted_along_rows(folder, sizes, classes)
        write_table(ranked.table, snakemake.output.table)
        write_label_page(
            ranked.table,
            looks,
            along_rows,
            snakemake.output.page,
            blend=files.blend,
            truth=files.truth,
            root=folder,
            cuts=Decision.read(files.decision, classes).cuts,
            read_along=folder.layout.labels.order == "rows",
        )
        print(*(look.verdict for look in looks), sep="\n")
