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
        mem_mb=1000,
        runtime=10,
    params:
        code=CODE["report"],
    script:
        "../scripts/dataset_sheet.py"


rule leaderboard:
    input:
        scores=PLAN.scored("scores.tsv"),
        images=PLAN.scored("images.tsv"),
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
        mem_mb=1000,
        runtime=10,
    params:
        classes=PLAN.classes,
        names=list(PLAN.ensembles),
        experiments=PLAN.leaderboard_rows(),
        ensembles=PLAN.leaderboard_ensembles(),
        posted=PLAN.posted,
        class_rates=PLAN.settings["class_rates"],
        seed=PLAN.seed,
    script:
        "../scripts/leaderboard.py"
