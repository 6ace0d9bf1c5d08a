from cloudseg import logged

if __name__ == "__main__":
    with logged(snakemake):
        from cloudseg.trackers.export import export

        count = export(snakemake.wildcards.tracker, snakemake.params.results, snakemake.output.folder)
        print(f"{count} runs")
