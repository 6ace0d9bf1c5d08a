# Whether what the plan has made is still what its jobs made.


rule verify:
    log:
        "<logs>/verify.log",
    localrule: True
    conda:
        "../envs/workflow.yaml"
    threads: 8
    resources:
        **ESTIMATES.of("verify", PLAN.dataset.work),
    params:
        files=verified,
        consent=PLAN.settings["remove"],
        results=str(RESULTS),
    script:
        "../scripts/verify.py"
