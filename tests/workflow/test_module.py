"""Another workflow takes this one as a module, with a config and a submission of its own."""

import yaml
from own_data import CONFIG, settle

OUTER = """
configfile: "outer.yaml"

module cloudseg:
    snakefile: "{repo}/Snakefile"
    config: config["clouds"]

use rule * from cloudseg as clouds_*

rule rows:
    default_target: True
    input: "submission.csv"
    output: "rows.txt"
    shell: "wc -l < {{input}} > {{output}}"
"""


def test_as_a_module(workflow, repo, small_images):
    settle(workflow.folder, small_images)
    (workflow.folder / "outer.yaml").write_text(yaml.safe_dump({"clouds": CONFIG | {"name": "outer", "device": "cpu"}}))
    (workflow.folder / "Snakefile").write_text(OUTER.format(repo=repo))
    printed = workflow.run("--cores", "2", "--snakefile", "Snakefile")
    assert "rule clouds_train" in printed
    assert (workflow.folder / "rows.txt").read_text().strip() == "17"
    assert (workflow.folder / "results/outer/ensembles/all/submission.csv").is_file()
    assert not (workflow.folder / "results/tiny").exists()
