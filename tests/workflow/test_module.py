"""Another workflow takes this one as a module, with a config and a submission of its own; on one core."""

import re

import yaml
from own_data import CONFIG, contents, settle

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


def test_as_a_module_on_one_core_the_bytes_are_those_of_two_cores(workflow, repo, small_images, finished_run):
    settle(workflow.folder, small_images)
    (workflow.folder / "outer.yaml").write_text(yaml.safe_dump({"clouds": CONFIG | {"name": "outer", "device": "cpu"}}))
    (workflow.folder / "Snakefile").write_text(OUTER.format(repo=repo))
    printed = workflow.run("rows", "clouds_all", "--cores", "1", "--snakefile", "Snakefile")
    assert re.search(r"^\[ *\d+/\d+\] train fpn 64x96 tiny fold ", printed, flags=re.MULTILINE)
    assert (workflow.folder / "rows.txt").read_text().strip() == "17"
    assert not (workflow.folder / "results/tiny").exists()
    two = contents(finished_run.folder)
    one = {
        name.replace("results/outer/", "results/tiny/"): digest for name, digest in contents(workflow.folder).items()
    }
    assert one.keys() == two.keys()
    assert len(one) > 30
    assert [name for name in one if one[name] != two[name]] == []
    workflow.run("rows", "clouds_all", "--snakefile", "Snakefile", "--report", "report.html")
    assert "leaderboard.html" in (workflow.folder / "report.html").read_text()
