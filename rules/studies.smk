# Questions that one asks now and then: of the data, of how it is read, of what is stored.


rule shift:
    """Find out whether train and test images can be told apart."""
    input:
        train="<results>/dataset/train.tsv",
        test="<results>/dataset/test.tsv",
        train_pixels=f"<results>/dataset/train/{PLAN.dataset.smallest_size}.zarr",
        test_pixels=f"<results>/dataset/test/{PLAN.dataset.smallest_size}.zarr",
    output:
        scores="<results>/report/shift/scores.tsv",
        summary="<results>/report/shift/shift.json",
        page=report(
            "<results>/report/shift/shift.html",
            caption="captions/shift.rst",
            category="5 Studies",
            labels={"page": "Train against test"},
        ),
        roc="<results>/report/shift/roc.svg",
        histogram="<results>/report/shift/histogram.svg",
    log:
        "<logs>/shift.log",
    benchmark:
        "<logs>/shift.benchmark.tsv"
    conda:
        "../envs/workflow.yaml"
    threads: 4
    resources:
        **ESTIMATES.of("shift", of_dataset("shift_work")),
    params:
        seed=PLAN.seed,
        code=CODE["shift"],
    script:
        "../scripts/shift.py"


rule loading:
    """Time three ways to read training images."""
    input:
        images="<results>/dataset/train.tsv",
        raw=ancient(PLAN.dataset.raw),
        pixels=f"<results>/dataset/train/{PLAN.study_run.key.size}.zarr",
    output:
        table="<results>/report/loading.tsv",
        page="<results>/report/loading.md",
        html=report(
            "<results>/report/loading.html",
            caption="captions/loading.rst",
            category="5 Studies",
            labels={"page": "Time to load a training sample"},
        ),
        chart="<results>/report/loading.svg",
    log:
        "<logs>/loading.log",
    benchmark:
        "<logs>/loading.benchmark.tsv"
    conda:
        "../envs/workflow.yaml"
    threads: PLAN.study_run.cores_per_device
    resources:
        **ESTIMATES.of("loading", of_dataset("work")),
        gpu=PLAN.gpus,
    params:
        **PLAN.dataset.layout_params,
        encoder=PLAN.study_run.key.encoder,
        decoder=PLAN.study_run.key.decoder,
        recipe=page_params(PLAN.study_run.training_recipe),
        images=4,
        batch=2,
        repeats=2,
        seed=PLAN.seed,
        threads=PLAN.threads,
        code=CODE["report"],
    script:
        "../scripts/loading.py"


rule profile:
    """Measure where the time of a training goes, with a trace of some steps."""
    input:
        pixels=f"<results>/dataset/train/{PLAN.study_run.key.size}.zarr",
        canvas=PLAN.study_run.canvas_store,
        folds="<results>/dataset/folds.tsv",
    output:
        table="<results>/report/profile.tsv",
        page="<results>/report/profile.md",
        trace="<results>/report/profile.json.gz",
    log:
        "<logs>/profile.log",
    benchmark:
        "<logs>/profile.benchmark.tsv"
    conda:
        "../envs/workflow.yaml"
    threads: PLAN.study_run.cores_per_device
    resources:
        **ESTIMATES.of("profile", of_study_run("training_work")),
        gpu=PLAN.gpus,
    params:
        encoder=PLAN.study_run.key.encoder,
        decoder=PLAN.study_run.key.decoder,
        recipe=page_params(PLAN.study_run.training_recipe),
        submission_size=PLAN.study_run.loss_size,
        seed=PLAN.seed,
        threads=PLAN.threads,
        code=CODE["report"],
    script:
        "../scripts/profile_training.py"


rule quantising:
    """Measure what one byte per probability costs."""
    input:
        checkpoint=f"{PLAN.study_run.key.folder}/last.safetensors",
        pixels=f"<results>/dataset/train/{PLAN.study_run.key.size}.zarr",
        folds="<results>/dataset/folds.tsv",
        truth="<results>/dataset/truth.zarr",
    output:
        curves="<results>/report/quantising.tsv",
        summary="<results>/report/quantising.md",
        html=report(
            "<results>/report/quantising.html",
            caption="captions/quantising.rst",
            category="5 Studies",
            labels={"page": "Probabilities as bytes"},
        ),
        chart="<results>/report/quantising.svg",
    log:
        "<logs>/quantising.log",
    benchmark:
        "<logs>/quantising.benchmark.tsv"
    conda:
        "../envs/workflow.yaml"
    threads: PLAN.threads
    resources:
        **ESTIMATES.of("quantising", of_dataset("work")),
        gpu=PLAN.gpus,
    params:
        recipe=page_params(PLAN.study_run.prediction_recipe),
        fold=0,
        run=PLAN.study_run.key.folder.removeprefix("<results>/runs/"),
        submission_size=PLAN.dataset.submission_size,
        threads=PLAN.threads,
        code=CODE["report"],
    script:
        "../scripts/quantising.py"


rule ablation:
    """Compare ways to decide with one of them, on the same images."""
    input:
        decisions=expand("<ensembles>/{name}/decision.yaml", name=of_plan("compared")),
        scores=expand("<ensembles>/{name}/scores.tsv", name=of_plan("compared")),
        images=expand("<ensembles>/{name}/images.tsv", name=of_plan("compared")),
        histories=of_plan("compared_histories"),
    output:
        table="<results>/report/ablation.tsv",
        page="<results>/report/ablation.md",
        html=report(
            "<results>/report/ablation.html",
            caption="captions/ablation.rst",
            category="5 Studies",
            labels={"page": "What a decision gains"},
        ),
        figure="<results>/report/ablation.svg",
    log:
        "<logs>/ablation.log",
    benchmark:
        "<logs>/ablation.benchmark.tsv"
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        **ESTIMATES.of("ablation", of_dataset("train_work")),
    params:
        names=PLAN.compared,
        notes=PLAN.compared_notes,
        blends=PLAN.compared_blends,
        runs=of_plan("compared_runs"),
        baseline=PLAN.baseline,
        classes=PLAN.dataset.classes,
        seed=PLAN.seed,
        code=CODE["report"],
    script:
        "../scripts/ablation.py"
