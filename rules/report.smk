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
        decisions=PLAN.scored("decision.yaml"),
        truth="<results>/dataset/truth.zarr",
        folds="<results>/dataset/folds.tsv",
    output:
        table="<results>/report/leaderboard.tsv",
        page=report("<results>/report/leaderboard.md", category="Leaderboard"),
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
        rows=PLAN.leaderboard_rows(),
        names=list(PLAN.ensembles),
    script:
        "../scripts/leaderboard.py"
