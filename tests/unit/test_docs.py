"""What the pages name is there: files, links and their headings, commands, targets, keys and variables."""

import fnmatch
import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import snakemake.cli
import yaml
from test_layers import FLOORS

from cloudseg.config.label_presets import PRESETS
from cloudseg.config.model import Config
from cloudseg.workflow.plan import Plan

REPO = Path(__file__).parents[2]
PACKAGE = REPO / "scripts/cloudseg"
PATTERNS = ["*.md", "docs/*.md", "config/README.md", "profiles/README.md", ".github/**/*.md"]
PAGES = [path for pattern in PATTERNS for path in sorted(REPO.glob(pattern))]
NAMES = [path.relative_to(REPO).as_posix() for path in PAGES]
# Files that a person makes, and what a job leaves beside the outputs that it declares
OWN = {
    *(
        "own.yaml",
        "own.tsv",
        "config/mine.yaml",
        "config/mine.tsv",
        "config.yaml",
        "rows.txt",
        "report.html",
        "cpu.lock",
    ),
    *("groups.csv", "splits.tsv", "doubtful.txt"),
    *("bundle.json", "networks/", "onnx/000.onnx", "onnx/networks.json", "CLASS/IMAGE.png"),
}
CONTEST = {"train_images/", "test_images/", "train.csv", "sample_submission.csv", "annotations.json", "labels.csv"}
CONTEST |= {preset[key] for preset in PRESETS.values() for key in ("train_table", "sample_submission") if key in preset}
BESIDE = {
    "training.state",
    "split.json",
    "finished/",
    "train.log",
    "train.asked.json",
    "train.outputs.json",
    "predict-test.made_with.json",
    "best-valid-values.zarr",
    "reproduced/",
}
ENDINGS = "py|smk|yaml|yml|md|tsv|json|txt|lock|sh|toml|cff|csv|zarr|safetensors|state|log|svg|jpg|png|html"
PATH = re.compile(
    rf"[\w./{{}}*<>-]+\.(?:{ENDINGS})\b"
    r"|\b(?:scripts|rules|tests|config|profiles|envs|docs)/[\w./*-]*"
    r"|(?<![.\w/])[a-z_]+/(?=`|\s|$)"
)


def read(page):
    return (REPO / page).read_text(encoding="utf-8")


def code(page):
    """Return the code spans of a page and the lines of its code blocks."""
    text = read(page)
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    indented = [line.strip() for line in re.findall(r"^ {4}.+", rest, flags=re.MULTILINE)]
    return [*re.findall(r"`([^`\n]+)`", rest), *indented, *"\n".join(fenced).splitlines()]


def commands(page):
    """Return the words of each command of a page, without the variables that are set before it."""
    lines = "\n".join(code(page)).replace("\\\n", " ").splitlines()
    parts = [part for line in lines for part in re.split(r"&&|;|\|", line.split("  #")[0])]
    found = [part.strip().removeprefix(".venv/bin/") for part in parts]
    starts = re.compile(r"(?:\w+=\S+ |nice )*((?:snakemake|python3?|make)(?: .*)?)$")
    return [shlex.split(match[1]) for match in map(starts.match, found) if match]


def anchor(heading):
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "", heading).strip().lower()).replace(" ", "-")


@pytest.fixture(scope="module")
def made():
    """Every end of a path that jobs make, by the demo's golden plan and the rules, and of the folders it lies in."""
    tables = "".join(map(read, ["tests/golden/plans/demo.tsv", *REPO.glob("rules/*.smk")]))
    found = {Path(path) for path in re.findall(r"(?:<\w+>|results|predictions)/[\w./{}<>-]+", tables)}
    places = {place for path in found for place in (path, *path.parents)}
    return ["/".join(place.parts[first:]) for place in places for first in range(len(place.parts))]


@pytest.mark.parametrize("page", NAMES)
def test_links_lead_to_files_and_headings(page):
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", read(page)):
        name, _, heading = target.partition("#")
        file = (REPO / page).parent / name if name else REPO / page
        if "://" not in target and not file.exists():
            wrong.append(target)
        elif heading and "://" not in target:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
            wrong += [target] if heading not in map(anchor, headings) else []
    assert wrong == []


@pytest.mark.parametrize("page", NAMES)
def test_files_and_folders_exist(page, made):
    folders = [REPO, PACKAGE, (REPO / page).parent, *(REPO / name for name in ("config", "scripts", "tests", "docs"))]
    wrong = set()
    for word in PATH.findall("\n".join(code(page))):
        pattern = re.sub(r"\{\w+\}|(?<=^predictions/)\w+", "*", word.removeprefix("./").rstrip("/"))
        known = word in OWN | CONTEST | BESIDE or word.startswith(("results", ".snakemake", "/", "../before", "~"))
        if not known and not fnmatch.filter(made, pattern) and not any(any(place.glob(pattern)) for place in folders):
            wrong.add(word)
    assert sorted(wrong) == []


@pytest.mark.parametrize("page", NAMES)
def test_snakemake_understands_its_commands(page):
    parser = snakemake.cli.get_argument_parser()
    rules = {"all", *re.findall(r"^ *rule (\w+):", "".join(map(read, REPO.glob("rules/*.smk"))), flags=re.MULTILINE)}
    for words in commands(page):
        if words[0] == "snakemake" and "kubernetes" not in words:
            typed = parser.parse_args(words[1:])
            assert {name for name in typed.targets if not re.search(r"[/.]", name)} <= rules, words
            files = [str(file) for file in typed.configfile or []]
            assert [file for file in files if file not in OWN and not (REPO / file).is_file()] == [], words
            keys = {word.split("=")[0] for word in typed.config or []}
            assert keys <= Config.model_fields.keys(), words


@pytest.mark.parametrize("page", NAMES)
def test_modules_scripts_and_make_targets_exist(page):
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), flags=re.MULTILINE))
    for program, *words in commands(page):
        if program == "make":
            assert {word for word in words if "=" not in word} <= targets, words
        elif program != "snakemake" and words[:1] == ["-m"]:
            assert importlib.util.find_spec(words[1]), words
        elif program != "snakemake" and words and not words[0].startswith("-"):
            assert (REPO / words[0]).is_file(), words


@pytest.mark.parametrize("page", NAMES)
def test_variables_are_read_somewhere(page):
    files = [path for folder in ("scripts", "tests") for path in (REPO / folder).rglob("*.py")]
    known = {name for path in files for name in re.findall(r"CLOUDSEG_[A-Z]+", path.read_text(encoding="utf-8"))}
    assert set(re.findall(r"CLOUDSEG_[A-Z]+", read(page))) <= known


def ensembles_of(page):
    """Return the YAML of a page that has ensembles, each block as what it adds to a config."""
    blocks = [yaml.safe_load(text) for text in re.findall(r"^```yaml\n(.*?)^```", read(page), re.MULTILINE | re.DOTALL)]
    return [block if "ensembles" in block else {"ensembles": block} for block in blocks]


@pytest.mark.parametrize("block", ensembles_of("docs/decisions.md"), ids=lambda block: ", ".join(block["ensembles"]))
def test_the_demo_can_decide_in_every_way_that_the_page_on_decisions_has(block):
    demo = yaml.safe_load(read("config/config.yaml"))
    planned = Plan(demo | block | {"ensembles": demo["ensembles"] | block["ensembles"]}, REPO)
    for name in block["ensembles"]:
        assert planned.ensembles[name].members
        assert planned.ensembles[name].decision_rule["how"] in ("fixed", "tune", "rate", "expected")


def test_every_page_can_be_reached_from_the_readme():
    reached, left = set(), [REPO / "README.md"]
    while left:
        page = left.pop()
        if page not in reached and page.suffix == ".md":
            reached.add(page)
            links = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
            left += [(page.parent / link).resolve() for link in links if "://" not in link]
    assert [page for page in PAGES if page not in reached and ".github" not in page.parts] == []


def test_the_readme_has_the_one_test_command_that_ci_runs():
    assert len(re.findall(r"^    (python3 .*pytest.*)$", read("README.md"), flags=re.MULTILINE)) == 1


def test_what_make_quick_runs_is_there():
    named = re.findall(r"(?:tests|scripts)/[\w/*.]+", read("Makefile").split("\nQUICK")[1].split("\n\n")[0])
    assert len(named) >= 5
    assert [name for name in named if not any(REPO.glob(name))] == []


def test_the_form_for_errors_has_what_github_asks_for():
    assert yaml.safe_load(read(".github/ISSUE_TEMPLATE/bug.md").split("---")[1]).keys() == {"name", "about"}


def drawn(picture):
    """Return the names in a picture, from the lowest line to the highest."""
    lines = {}
    for height, text in re.findall(r'<text class="rule"[^>]* y="([\d.]+)">([^<]+)<', read(f"docs/{picture}")):
        lines.setdefault(float(height), set()).update(text.split())
    return [lines[height] for height in sorted(lines, reverse=True)]


def test_the_picture_of_the_workflow_has_its_rules():
    rules = re.findall(r"^ *rule (\w+):", "".join(map(read, REPO.glob("rules/*.smk"))), flags=re.MULTILINE)
    inputs = {"demo", "fetch", "sample"}  # the box on the left
    studied = {"probe_one"}  # part of probe
    apart = {"status", "tracker", "tensorboard", "mlflow", "wandb"}  # they show runs, and nothing follows from them
    assert set().union(*drawn("workflow.svg")) == {*rules} - inputs - studied - apart


def test_the_picture_of_the_package_has_its_floors():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    assert drawn("package.svg") == [rooms & folders for rooms in FLOORS if rooms & folders]
