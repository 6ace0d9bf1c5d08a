# The explorer: a page to see what a threshold and a minimum size do.


rule explorer:
    """Make a page to move thresholds and minimum sizes on sample images, and see mask and Dice at once."""
    input:
        valid=expand("<ensembles>/{name}/valid.zarr", name=of_plan("explored")),
        test=expand("<ensembles>/{name}/test.zarr", name=of_plan("tested")),
        surfaces=expand("<ensembles>/{name}/surface.zarr", name=of_plan("explored")),
        decisions=expand("<ensembles>/{name}/decision.yaml", name=of_plan("explored")),
        scores=expand("<ensembles>/{name}/scores.tsv", name=of_plan("explored")),
        images=expand("<ensembles>/{name}/images.tsv", name=of_plan("explored")),
        truth="<results>/dataset/truth.zarr",
        raw=ancient(PLAN.dataset.raw),
    output:
        page="<results>/report/explorer.html",
        # As much of it as Chromium shows inside a report: the address of a frame holds the page, in at most 2 MiB
        in_report=report(
            "<results>/report/explorer-sample.html",
            category="3 Ensembles",
            caption="captions/explorer.rst",
            labels={"page": "What a threshold does"},
        ),
    log:
        "<logs>/explorer.log",
    benchmark:
        "<logs>/explorer.benchmark.tsv"
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        **ESTIMATES.of("explorer", of_dataset("work")),
    params:
        **PLAN.dataset.layout_params,
        classes=page_params(PLAN.dataset.classes),
        names=PLAN.explored,
        submitted=PLAN.submitted,
        code=CODE["report"],
    script:
        "../scripts/explorer.py"
