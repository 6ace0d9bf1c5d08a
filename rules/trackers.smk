# What experiment trackers read, made of the runs that have finished; it trains nothing.


rule tensorboard:
    """Write all finished runs for TensorBoard (pip install tensorboard)."""
    input:
        "<results>/trackers/tensorboard",
    localrule: True


rule mlflow:
    """Write all finished runs for MLflow (pip install mlflow-skinny)."""
    input:
        "<results>/trackers/mlflow",
    localrule: True


rule wandb:
    """Write all finished runs for Weights & Biases, offline (pip install wandb)."""
    input:
        "<results>/trackers/wandb",
    localrule: True


rule tracker:
    """Write all finished runs as one tracker reads them."""
    output:
        folder=directory("<results>/trackers/{tracker}"),
    log:
        "<logs>/trackers/{tracker}.log",
    wildcard_constraints:
        tracker="tensorboard|mlflow|wandb",
    localrule: True
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        **ESTIMATES.of("tracker", of_dataset("work")),
    params:
        runs=digest_of_runs,
        code=CODE["report"],
    script:
        "../scripts/tracker.py"
