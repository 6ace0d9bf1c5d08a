import sys

from cloudseg import logged
from cloudseg.runtime.logs import tell
from cloudseg.texts import printable

if __name__ == "__main__":
    with logged(snakemake):
        from cloudseg.studies.verify import report, verify

        params = snakemake.params
        found = verify(params.files, params.results, remove=params.consent, threads=snakemake.threads)
        text = report(found, removed=params.consent)
        print(printable(text))
        if found.healthy or params.consent:
            tell(text, into_log=False)
        else:  # Snakemake prints the log of a failed job last
            sys.exit(1)
