# Where a submission comes from: the chain from images to masks, and whether the same bytes can be made again.


rule provenance:
    """Write down what a submission was made from, after checking each link."""
    input:
        unpack(of_chain("further_inputs")),
        submission="<ensembles>/{ensemble}/submission.csv",
        decision="<ensembles>/{ensemble}/decision.yaml",
        scores="<ensembles>/{ensemble}/scores.tsv",
        images="<ensembles>/{ensemble}/images.tsv",
        parts="<ensembles>/{ensemble}/parts.tsv",
        surface="<ensembles>/{ensemble}/surface.zarr",
        valid="<ensembles>/{ensemble}/valid.zarr",
        test="<ensembles>/{ensemble}/test.zarr",
        valid_stores=of_chain("valid_stores"),
        test_stores=of_chain("test_stores"),
        valid_whether=of_chain("valid_whether"),
        test_whether=of_chain("test_whether"),
        valid_whether_stores=of_chain("valid_whether_stores"),
        test_whether_stores=of_chain("test_whether_stores"),
        selection=of_chain("selection"),
        valid_voters=of_chain("valid_voters"),
        test_voters=of_chain("test_voters"),
        valid_black=of_chain("valid_black"),
        test_black=of_chain("test_black"),
        runs=of_chain("records"),
        train_pixels=of_chain("train_pixels"),
        test_pixels=of_chain("test_pixels"),
        folds="<results>/dataset/folds.tsv",
        truth="<results>/dataset/truth.zarr",
    output:
        provenance="<ensembles>/{ensemble}/provenance.json",
    log:
        "<logs>/provenance/{ensemble}.log",
    localrule: True
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        **ESTIMATES.of("provenance", of_dataset("test_work")),
    params:
        members=of_chain("members"),
        runs=of_chain("asked"),
        facts=of_chain("facts"),
        codes=CODE,
        schema_version=SCHEMA_VERSION,
    script:
        "../scripts/provenance.py"


rule provenance_page:
    """Show the chain from the images to the submission, and how to make it again."""
    input:
        provenance=f"<ensembles>/{PLAN.config.submission}/provenance.json",
    output:
        page=report(
            "<results>/report/provenance.html",
            category="4 Submission",
            caption="captions/provenance.rst",
            labels={"page": "Provenance"},
        ),
    log:
        "<logs>/provenance_page.log",
    localrule: True
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        **ESTIMATES.of("provenance_page", of_dataset("test_work")),
    params:
        code=CODE["report"],
    script:
        "../scripts/provenance_page.py"


rule reproduce:
    """Say where a submission (csv=FILE) comes from, and make the same bytes again; train=true trains what is gone."""
    log:
        "<logs>/reproduce.log",
    conda:
        "../envs/workflow.yaml"
    threads: PLAN.reproduction.threads
    resources:
        **ESTIMATES.of("reproduce", of_dataset("test_work")),
        gpu=PLAN.reproduction.gpus,
    params:
        csv=PLAN.config.csv,
        train=PLAN.config.train,
        config=PLAN.reproduction.plain_config,
        root=PLAN.config.dataset.root,
        results=str(RESULTS),
        home=str(HOME),
        codes=CODE,
    script:
        "../scripts/reproduce.py"
