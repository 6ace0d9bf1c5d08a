# What a person looks at: the data at the beginning, the leaderboard at the end.


rule dataset_sheet:
    """Draw images with the outlines of their labels."""
    input:
        truth="<results>/dataset/truth.zarr",
        raw=ancient(PLAN.dataset.raw),
    output:
        picture=report("<results>/report/dataset.png", category="Dataset"),
    log:
        "<logs>/dataset_sheet.log",
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        **ESTIMATES.of("dataset_sheet", PLAN.dataset.work),
    params:
        code=CODE["report"],
    script:
        "../scripts/dataset_sheet.py"


rule augmented:
    """Draw what the augmentation of a recipe does."""
    input:
        pixels=of_recipe("store"),
    output:
        picture=report(
            "<results>/report/augmented/{recipe}.png", category="Augmentation"
        ),
    log:
        "<logs>/augmented/{recipe}.log",
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        **ESTIMATES.of("augmented", PLAN.dataset.work),
    params:
        recipe=of_recipe("augmentation"),
        seed=PLAN.seed,
        code=CODE["report"],
    script:
        "../scripts/augmented.py"


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
        roc=report("<results>/report/shift/roc.png", category="Train against test"),
        sheet=report("<results>/report/shift/sheet.png", category="Train against test"),
    log:
        "<logs>/shift.log",
    conda:
        "../envs/workflow.yaml"
    threads: 4
    resources:
        **ESTIMATES.of("shift", PLAN.dataset.shift_work),
    params:
        seed=PLAN.seed,
        code=CODE["shift"],
    script:
        "../scripts/shift.py"


rule leaderboard:
    """Rank experiments and ensembles by their Dice out of fold."""
    input:
        scores=expand("<ensembles>/{name}/scores.tsv", name=PLAN.ensembles),
        images=expand("<ensembles>/{name}/images.tsv", name=PLAN.submitted),
        comparisons=expand("<ensembles>/{name}/comparison.json", name=PLAN.submitted),
        decisions=expand("<ensembles>/{name}/decision.yaml", name=PLAN.ensembles),
        runs=expand("{run}/run.json", run=PLAN.sheet.folders),
        histories=expand("{run}/history.tsv", run=PLAN.sheet.folders),
        truth="<results>/dataset/truth.zarr",
        folds="<results>/dataset/folds.tsv",
    output:
        table="<results>/report/leaderboard.tsv",
        page=report("<results>/report/leaderboard.md", category="Leaderboard"),
        diary="<results>/report/diary.md",
    log:
        "<logs>/leaderboard.log",
    localrule: True
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        **ESTIMATES.of("leaderboard", leaderboard_work(PLAN.dataset, PLAN.ensembles)),
    params:
        classes=PLAN.dataset.classes,
        names=list(PLAN.ensembles),
        experiments=page_params(leaderboard_rows(PLAN.sheet, PLAN.config.recipes)),
        ensembles=page_params(leaderboard_ensembles(PLAN.config.ensembles)),
        posted=PLAN.public_scores,
        class_rates=PLAN.dataset.class_rates,
        code=CODE["report"],
    script:
        "../scripts/leaderboard.py"


rule loading:
    """Time three ways to read training images."""
    input:
        images="<results>/dataset/train.tsv",
        raw=ancient(PLAN.dataset.raw),
        pixels=f"<results>/dataset/train/{PLAN.study_run.key.size}.zarr",
    output:
        table="<results>/report/loading.tsv",
        page=report("<results>/report/loading.md", category="Studies"),
    log:
        "<logs>/loading.log",
    conda:
        "../envs/workflow.yaml"
    threads: PLAN.study_run.cores_per_device
    resources:
        **ESTIMATES.of("loading", PLAN.dataset.work),
        gpu=PLAN.gpus,
    params:
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


rule quantising:
    """Measure what one byte per probability costs."""
    input:
        checkpoint=f"{PLAN.study_run.key.folder}/last.safetensors",
        pixels=f"<results>/dataset/train/{PLAN.study_run.key.size}.zarr",
        folds="<results>/dataset/folds.tsv",
        truth="<results>/dataset/truth.zarr",
    output:
        curves="<results>/report/quantising.tsv",
        summary=report("<results>/report/quantising.md", category="Studies"),
    log:
        "<logs>/quantising.log",
    conda:
        "../envs/workflow.yaml"
    threads: PLAN.threads
    resources:
        **ESTIMATES.of("quantising", PLAN.dataset.work),
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
