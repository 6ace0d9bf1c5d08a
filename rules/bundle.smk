# An ensemble as one file that predicts anywhere: weights, views, blend, decision, and where all of it comes from.


rule bundle:
    """Pack the config's submission into one file, to predict new images with."""
    input:
        f"<ensembles>/{PLAN.config.submission}/bundle.zip",
    localrule: True


rule pack:
    """Pack an ensemble."""
    input:
        provenance="<ensembles>/{ensemble}/provenance.json",
        decision="<ensembles>/{ensemble}/decision.yaml",
        checkpoints=of_chain("checkpoints"),
        pixels=of_chain("test_pixels"),
    output:
        bundle="<ensembles>/{ensemble}/bundle.zip",
    log:
        "<logs>/pack/{ensemble}.log",
    localrule: True
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        **ESTIMATES.of("pack", of_dataset("work")),
    params:
        code=BUNDLE_CODE,
    script:
        "../scripts/pack.py"
