# Whether what the plan has made is still what its jobs made.


rule verify:
    """Check that every file is still as its job left it; remove=true removes the others."""
    log:
        "<logs>/verify.log",
    localrule: True
    conda:
        "../envs/workflow.yaml"
    threads: 8
    resources:
        **ESTIMATES.of("verify", of_dataset("work")),
    params:
        files=verified,
        consent=PLAN.config.remove,
        results=str(RESULTS),
    script:
        "../scripts/verify.py"
