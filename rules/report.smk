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
