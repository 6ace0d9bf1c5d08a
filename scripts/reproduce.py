import sys
import time
from pathlib import Path

from cloudseg import logged
from cloudseg.config.job import JobConfig
from cloudseg.errors import ConfigError
from cloudseg.provenance import here
from cloudseg.provenance.reproduce import Question, expectation, how_to_go_on, settings_of, verdict
from cloudseg.provenance.workplace import workplace
from cloudseg.runtime import checkout
from cloudseg.runtime.logs import tell
from cloudseg.texts import printable


def stop(lines):
    """Snakemake prints the log of a failed job."""
    print(*map(printable, lines), sep="\n", flush=True)
    sys.exit(1)


def from_images(question, made, scratch, snakemake):
    """Train what is gone; return how it was made, and what was trained otherwise than then."""
    from cloudseg.provenance.retrain import retrain

    params = snakemake.params
    tell(f"making it from the images in {scratch}")
    remarks = retrain(
        question.match.known,
        question.lacking,
        made,
        scratch=scratch,
        home=Path(params.home),
        config=snakemake.config,
        root=params.root,
        words=["--cores", str(snakemake.threads), "--resources", f"mem_mb={snakemake.resources.mem_mb}"],
    )
    return "from the images", remarks


def from_models(question, made, scratch, snakemake):
    """Predict with the stored models; return how it was made, and what came out otherwise on the way."""
    from cloudseg.runtime.gpus.lease import leased

    provenance, codes = question.match.known.provenance, snakemake.params.codes
    placement = settings_of(provenance, JobConfig.of(snakemake.config).placement)
    with leased(snakemake.resources.get("gpu", 0), **placement) as device:
        from cloudseg.inference.predict import made_with
        from cloudseg.provenance.remake import remake

        tell(*expectation(here.doubts(provenance, made_with(codes["prediction"], device), codes, device.type)))
        options = {"scratch": scratch, "device": device, "codes": codes, "threads": snakemake.threads}
        options["root"] = question.root
        remarks = remake(question.match.known, question.names, made, **options)
    return f"from the stored models on {device.type}", remarks


def main(snakemake):
    """Answer for one file."""
    params, own = snakemake.params, Path(snakemake.params.results)
    if params.csv is None:
        raise ConfigError("which submission? Type: snakemake reproduce --config csv=FILE")
    question = Question(Path(params.csv), own.parent, Path(params.root))
    lines = question.introduction()
    if not question.is_ours:
        stop(lines)
    known = question.match.known
    lines += question.can_be_made()
    lines += [f"changed since: {line}" for line in here.changed_since(known, params.config, checkout.commit())]
    gone = bool(question.lacking or question.names is None)
    if gone and not params.train:
        stop([*lines, *how_to_go_on(question.submission, question.lacking)])
    tell(*lines)
    name = known.provenance.csv.sha256[:12]
    made = own / "reproduced" / f"{name}.csv"
    with workplace(own / ".reproduce" / (f"{name}-trained" if gone else name)) as scratch:
        began = time.perf_counter()
        how, remarks = (from_images if gone else from_models)(question, made, scratch, snakemake)
    said, same = verdict(question, made, time.perf_counter() - began, how, remarks)
    if not same:
        stop(said)
    tell(*said)


if __name__ == "__main__":
    with logged(snakemake):
        main(snakemake)
