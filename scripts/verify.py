import sys

from cloudseg import logged

if __name__ == "__main__":
    with logged(snakemake):
        from cloudseg.studies.verify import report, verify

        params = snakemake.params
        found = verify(params.files, params.results, remove=params.consent, threads=snakemake.threads)
        text = report(found, removed=params.consent)
        print(text)
        if found.healthy or params.consent:
            print(text, file=sys.__stderr__)
        else:  # Snakemake prints the log of a failed job last
            sys.exit(1)
