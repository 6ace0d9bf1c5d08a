"""Profiles agree where they must, name rules that exist, and group no jobs that would wait for each other."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPO = Path(__file__).parents[2]
PROFILES = {path.parent.name: yaml.safe_load(path.read_text()) for path in REPO.glob("profiles/*/config.yaml")}
RULES = dict(
    re.findall(
        r"^ *rule (\w+):\n(.*?)(?=^ *rule |\Z)",
        "".join(path.read_text() for path in sorted(REPO.glob("rules/*.smk"))),
        flags=re.MULTILINE | re.DOTALL,
    )
)
CLUSTERS = sorted(PROFILES.keys() - {"default"})


@pytest.mark.parametrize("name", CLUSTERS)
def test_a_cluster_profile_repeats_the_default(name):
    # --workflow-profile replaces it; cores and shared folders are the cluster's own
    own = {"cores", "shared-fs-usage"}
    wanted = {key: value for key, value in PROFILES["default"].items() if key not in own}
    assert {key: PROFILES[name].get(key) for key in wanted} == wanted


def test_both_cluster_profiles_treat_jobs_alike():
    own = {
        key: {name: profile[key] for name, profile in PROFILES.items() if key in profile}
        for key in ("jobs", "local-cores", "latency-wait", "retries", "groups")
    }
    assert {key: values["slurm"] for key, values in own.items()} == {
        key: values["generic"] for key, values in own.items()
    }


@pytest.mark.parametrize("name", CLUSTERS)
def test_the_rules_that_a_profile_names_exist(name):
    named = {*PROFILES[name]["groups"], *PROFILES[name].get("set-resources", {})}
    assert named <= RULES.keys()


def test_every_job_with_gpus_stays_on_one_node():
    on_gpus = {name for name, text in RULES.items() if re.search(r"^ +gpu=", text, flags=re.MULTILINE)}
    assert on_gpus >= {"train", "predict"}
    nodes = {rule: resources.get("nodes") for rule, resources in PROFILES["slurm"]["set-resources"].items()}
    assert {rule: nodes.get(rule) for rule in on_gpus} == dict.fromkeys(on_gpus, 1)
    # nodes add up over the jobs of a group that could run side by side, and GPUs too
    assert not on_gpus & PROFILES["slurm"]["groups"].keys()
    grouped = {name for name in on_gpus if re.search(r"^ +group:", RULES[name], flags=re.MULTILINE)}
    assert grouped == {"train", "predict"}  # these two run one after the other


@pytest.mark.parametrize("name", CLUSTERS)
def test_what_grows_with_the_sheet_runs_nowhere_where_one_types(name):
    groups = PROFILES[name]["groups"]
    assert groups["leaderboard"] == groups["curves"] == groups["job_times"]
    assert not any("localrule: True" in RULES[rule] for rule in ("leaderboard", "curves", "job_times"))


def test_local_rules_are_in_no_group():
    local = {name for name, text in RULES.items() if "localrule: True" in text}
    assert {"weights", "fetch", "submission"} <= local
    assert not local & PROFILES["slurm"]["groups"].keys()


@pytest.fixture(scope="module")
def needs(tmp_path_factory):
    """Which rules each rule needs where folds are balanced by shift and ensembles ask for all that they may."""
    folder = tmp_path_factory.mktemp("rules")
    config = yaml.safe_load((REPO / "config/config.yaml").read_text())
    config["folds"] |= {"stratify_by": "shift"}
    presence = {"how": "tune", "presence": {"score": "largest"}, "black": 2}
    config["ensembles"] |= {
        "roles": {"where": "fold >= 0", "whether": "fold >= 0", "decision": presence},
        "vote": {"members": "fold >= 0", "blend": "vote"},
        "searched": {"members": "fold >= 0", "search": {}, "decision": {"how": "tune"}},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(REPO / "Snakefile"), "--rulegraph"]
    command += ["--workflow-profile", str(REPO / "profiles/default"), "--configfile", "config.yaml"]
    drawn = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    names = dict(re.findall(r'(\d+)\[ ?label = "(\w+)"', drawn))
    edges = re.findall(r"^\s*(\d+) -> (\d+)", drawn, flags=re.MULTILINE)
    assert edges
    needs = {name: set() for name in names.values()}
    for before, after in edges:
        needs[names[after]].add(names[before])
    return needs


def test_what_an_ensemble_takes_is_one_job():
    groups = PROFILES["slurm"]["groups"]
    assert {groups[rule] for rule in ("blend", "whether", "surface", "decide", "submit")} == {"ensemble"}


def test_no_group_waits_for_itself(needs):
    # A group is one job: it would, if a rule outside it needed one of its rules and were needed by another.
    def reached(rules):
        found = set(rules)
        while more := set().union(*(needs[rule] for rule in found)) - found:
            found |= more
        return found

    groups = PROFILES["slurm"]["groups"]
    assert {"shift", "folds", "whether", "search", "black"} <= needs.keys()
    for group in set(groups.values()):
        members = {rule for rule in groups if groups[rule] == group} & needs.keys()
        outside = set().union(*(needs[rule] for rule in members)) - members
        assert not reached(outside) & members, group
