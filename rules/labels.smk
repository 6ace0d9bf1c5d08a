# Which labels of training are doubtful, and whether all of them lie where they should.


rule labels:
    """Rank training labels by how much they disagree with out-of-fold predictions, and look for flipped masks."""
    input:
        blend=f"<ensembles>/{PLAN.config.submission}/valid.zarr",
        decision=f"<ensembles>/{PLAN.config.submission}/decision.yaml",
        truth="<results>/dataset/truth.zarr",
        pixels=f"<results>/dataset/train/{PLAN.dataset.smallest_size}.zarr",
        images="<results>/dataset/train.tsv",
        raw=ancient(PLAN.dataset.raw),
    output:
        page=report(
            "<results>/report/labels.html",
            category="1 Data",
            caption="captions/labels.rst",
            labels={"page": "Doubtful labels"},
        ),
        table="<results>/report/labels.tsv",
    log:
        "<logs>/labels.log",
    benchmark:
        "<logs>/labels.benchmark.tsv"
    conda:
        "../envs/workflow.yaml"
    threads: 2
    resources:
        **ESTIMATES.of("labels", of_dataset("train_work")),
    params:
        **PLAN.dataset.layout_params,
        classes=PLAN.dataset.classes,
        code=CODE["report"],
    script:
        "../scripts/labels.py"
