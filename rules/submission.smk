# Whether a submission can be meant: a page in the report, and a check that ends with 1.


rule submission_page:
    """Show the config's submission beside training: presence, areas and components of its masks, and what is odd."""
    input:
        **PLAN.told_by_provenance,
        submission=f"<ensembles>/{PLAN.config.submission}/submission.csv",
        decision=f"<ensembles>/{PLAN.config.submission}/decision.yaml",
        images="<results>/dataset/train.tsv",
        truth="<results>/dataset/truth.zarr",
        raw=ancient(PLAN.dataset.raw),
    output:
        page=report(
            "<results>/report/submission.html",
            category="4 Submission",
            caption="captions/submission.rst",
            labels={"page": "Submission beside training"},
        ),
        presence="<results>/report/submission/presence.svg",
        areas="<results>/report/submission/areas.svg",
        components="<results>/report/submission/components.svg",
        together="<results>/report/submission/together.svg",
    log:
        "<logs>/submission_page.log",
    conda:
        "../envs/workflow.yaml"
    threads: 2
    resources:
        **ESTIMATES.of("submission_page", of_dataset("work")),
    params:
        **PLAN.dataset.layout_params,
        classes=PLAN.dataset.classes,
        submission_size=PLAN.dataset.submission_size,
        code=CODE["report"],
    script:
        "../scripts/submission_page.py"


rule sanity:
    """Check that a submission can be meant, the config's own or any other: csv=FILE. Faults end it with 1."""
    input:
        own=PLAN.own_submission,
        images="<results>/dataset/train.tsv",
        truth="<results>/dataset/truth.zarr",
        raw=ancient(PLAN.dataset.raw),
    # The page is no output, since Snakemake removes those of a job that fails; nor is the file of the user an input,
    # since Snakemake would first make it where a rule can.
    log:
        "<logs>/sanity.log",
    retries: 0  # it would find the same again
    localrule: True
    conda:
        "../envs/workflow.yaml"
    threads: 2
    resources:
        **ESTIMATES.of("sanity", of_dataset("work")),
    params:
        **PLAN.dataset.layout_params,
        csv=PLAN.config.csv,
        classes=PLAN.dataset.classes,
        submission_size=PLAN.dataset.submission_size,
        min_sizes=PLAN.submitted_min_sizes,
        page=str(RESULTS / "report/sanity.html"),
    script:
        "../scripts/sanity.py"
