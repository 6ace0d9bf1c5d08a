# How far the plan is: rules/common.smk prints it while the Snakefile is parsed, so this rule never runs there.


rule status:
    """Show how far every training and prediction is, also beside a call that runs; it changes nothing."""
    localrule: True
    message:
        "status: to be asked of the workflow itself, not of one that imports it"
