"""The lists of packages agree with each other and with what is installed."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement

import cloudseg

REPO = Path(__file__).parents[2]
ENVS = REPO / "envs"


def requirements(name):
    lines = [line.split("  #")[0].strip() for line in (ENVS / name).read_text().splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_every_direct_requirement_is_bounded_and_pinned():
    pins = {}
    for pin in requirements("requirements.lock"):
        pins.setdefault(pin.name.lower().replace("_", "-"), []).append(pin)
        assert re.fullmatch(r"==[^*,]+", str(pin.specifier)), pin
    for wanted in requirements("requirements.txt"):
        assert "<" in str(wanted.specifier) or "==" in str(wanted.specifier), f"{wanted} has no upper bound"
        for pin in pins[wanted.name.lower()]:
            (version,) = pin.specifier
            assert wanted.specifier.contains(version.version), f"{pin} is outside {wanted}"


def test_what_is_installed_is_what_the_lock_says():
    wrong = []
    for pin in requirements("requirements.lock"):
        if pin.marker is None or pin.marker.evaluate():
            found = importlib.metadata.version(pin.name)
            if not pin.specifier.contains(found.split("+")[0], prereleases=True):
                wrong.append(f"{pin} is {found}")
    assert wrong == []


def test_conda_users_get_the_same_requirements():
    environment = yaml.safe_load((ENVS / "workflow.yaml").read_text())
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    text = (ENVS / "requirements.txt").read_text().split("# tests and benchmarks")[0]
    lines = [line.split("  #")[0].strip() for line in text.splitlines()]
    assert pip == [line for line in lines if line and not line.startswith("#")]


def test_predicting_asks_for_what_the_workflow_does():
    """But for torch: a notebook has its own, and would download another one."""
    asked = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["optional-dependencies"]["predict"]
    wanted = {each.name: each.specifier for each in requirements("requirements.txt")}
    mine = {each.name: each.specifier for each in map(Requirement, asked)}
    assert {name: specifier for name, specifier in mine.items() if specifier != wanted[name]}.keys() == {"torch"}
    (torch,) = wanted["torch"]
    assert mine["torch"].contains(torch.version)


def test_no_address_of_a_registry_is_written_down():
    for path in ENVS.iterdir():
        assert "://" not in path.read_text(), path


def test_pre_commit_runs_the_tools_of_the_lock():
    pins = {pin.name: pin.specifier for pin in requirements("requirements.lock")}
    (hooks,) = [repo["hooks"] for repo in yaml.safe_load((REPO / ".pre-commit-config.yaml").read_text())["repos"]]
    tools = [Requirement(text) for hook in hooks for text in hook.get("additional_dependencies", [])]
    assert {tool.name for tool in tools} == {"ruff", "snakefmt", "black", "codespell"}
    assert [tool for tool in tools if tool.specifier != pins.get(tool.name, tool.specifier)] == []


def test_one_version_is_told_everywhere():
    citation = yaml.safe_load((REPO / "CITATION.cff").read_text())
    newest = re.search(r"^## \[(\d\S*)\]", (REPO / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert citation["version"] == newest[1] == cloudseg.__version__
