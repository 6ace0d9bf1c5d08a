# What a person looks at: the data at the beginning, the leaderboard at the end.


rule dataset_sheet:
    input:
        truth="<results>/dataset/truth.zarr",
        raw=ancient(PLAN.raw),
    output:
        picture=report("<results>/report/dataset.png", category="Dataset"),
    log:
        "<logs>/dataset_sheet.log",
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=ESTIMATES.memory("dataset_sheet"),
        runtime=ESTIMATES.minutes("dataset_sheet"),
    params:
        code=CODE["report"],
    script:
        "../scripts/dataset_sheet.py"


rule augmented:
    input:
        pixels=PLAN.augmented_store,
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
        mem_mb=ESTIMATES.memory("augmented"),
        runtime=ESTIMATES.minutes("augmented"),
    params:
        recipe=PLAN.augmentation,
        seed=PLAN.seed,
        code=CODE["report"],
    script:
        "../scripts/augmented.py"


rule shift:
    input:
        train="<results>/dataset/train.tsv",
        test="<results>/dataset/test.tsv",
        train_pixels=f"<results>/dataset/train/{PLAN.smallest_size}.zarr",
        test_pixels=f"<results>/dataset/test/{PLAN.smallest_size}.zarr",
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
        mem_mb=ESTIMATES.memory("shift"),
        runtime=ESTIMATES.minutes("shift"),
    params:
        seed=PLAN.seed,
        code=CODE["shift"],
    script:
        "../scripts/shift.py"


rule leaderboard:
    input:
        scores=PLAN.scored("scores.tsv"),
        images=PLAN.of_ensembles("images.tsv"),
        comparisons=PLAN.of_ensembles("comparison.json"),
        decisions=PLAN.scored("decision.yaml"),
        runs=PLAN.run_files("run.json"),
        histories=PLAN.run_files("history.tsv"),
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
        mem_mb=ESTIMATES.memory("leaderboard"),
        runtime=ESTIMATES.minutes("leaderboard"),
    params:
        classes=PLAN.classes,
        names=list(PLAN.ensembles),
        experiments=PLAN.leaderboard_rows(),
        ensembles=PLAN.leaderboard_ensembles(),
        posted=PLAN.posted,
        class_rates=PLAN.settings["class_rates"],
        code=CODE["report"],
    script:
        "../scripts/leaderboard.py"


rule loading:
    input:
        images="<results>/dataset/train.tsv",
        raw=ancient(PLAN.raw),
        pixels=f"<results>/dataset/train/{PLAN.studied['size']}.zarr",
    output:
        table="<results>/report/loading.tsv",
        page=report("<results>/report/loading.md", category="Studies"),
    log:
        "<logs>/loading.log",
    conda:
        "../envs/workflow.yaml"
    threads: PLAN.cores
    resources:
        gpu=PLAN.gpus,
        mem_mb=ESTIMATES.memory("loading"),
        runtime=ESTIMATES.minutes("loading"),
    params:
        encoder=PLAN.studied["encoder"],
        decoder=PLAN.studied["decoder"],
        recipe=PLAN.training_recipe(PLAN.studied["recipe"]),
        images=4,
        batch=2,
        repeats=2,
        seed=PLAN.seed,
        threads=PLAN.threads,
        code=CODE["report"],
    script:
        "../scripts/loading.py"


rule quantising:
    input:
        checkpoint=f"{PLAN.studied_run}/last.safetensors",
        pixels=f"<results>/dataset/train/{PLAN.studied['size']}.zarr",
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
        gpu=PLAN.gpus,
        mem_mb=ESTIMATES.memory("quantising"),
        runtime=ESTIMATES.minutes("quantising"),
    params:
        recipe=PLAN.prediction_recipe(PLAN.studied["recipe"]),
        fold=0,
        run=PLAN.studied_run.removeprefix("<results>/runs/"),
        submission_size=PLAN.submission_size,
        threads=PLAN.threads,
        code=CODE["report"],
    script:
        "../scripts/quantising.py"
