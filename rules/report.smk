# What a person reads at the end.


rule leaderboard:
    input:
        scores=PLAN.scored("scores.tsv"),
        decisions=PLAN.scored("decision.yaml"),
        truth="<results>/dataset/truth.zarr",
        folds="<results>/dataset/folds.tsv",
    output:
        table="<results>/report/leaderboard.tsv",
        page="<results>/report/leaderboard.md",
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
        rows=PLAN.leaderboard_rows(),
        names=list(PLAN.ensembles),
        name=PLAN.name,
    script:
        "../scripts/leaderboard.py"
