"""Free text of a config or a sheet is text in the page that `snakemake --report` writes, whatever it holds."""

import json
import re
import shutil
import subprocess
import sys
import time
from html.parser import HTMLParser

import pytest
import yaml
from browser import CHROMIUM, MISSING, browser, errors
from own_data import CONFIG, SHEET

SCRIPT = "</script><script>document.title = 'run'</script>"
TAGS = "<img src=x onerror=alert(1)><b>bold</b><!-- <script>"
MARKS = "**b** _i_ `c` | [l](javascript:alert(1)) {{ 7*7 }} {wildcards.x} .. raw:: html"
HOSTILE = f"{SCRIPT}{TAGS}{MARKS}"
EQUALIZE = {"name": "Equalize", "p": 0.0, "mask_params": [HOSTILE]}


class Elements(HTMLParser):
    """Counts the elements of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.names.append(tag)


def write_hostile(folder, **recipe):
    ensembles = {"all": CONFIG["ensembles"]["all"] | {"note": f"{HOSTILE}\n\n.. raw:: html\n\n   <b>x</b>"}}
    recipes = {"tiny": CONFIG["recipes"]["tiny"] | recipe}
    config = CONFIG | {"recipes": recipes, "experiments": "hostile.tsv", "ensembles": ensembles}
    (folder / "hostile.yaml").write_text(yaml.safe_dump(config))
    head, row = SHEET.splitlines()
    columns = ("note", "date", f"odd {SCRIPT}")
    (folder / "hostile.tsv").write_text("\t".join([head, *columns]) + "\n" + "\t".join([row, *[HOSTILE] * 3]) + "\n")


def test_no_job_that_the_report_shows_has_a_param_that_could_end_a_script(finished_run, repo, tmp_path):
    shutil.copytree(finished_run.folder / "images", tmp_path / "images")
    write_hostile(tmp_path, augmentation=[EQUALIZE])
    words = map(str, (repo / "tests/golden/dry_run.py", repo / "Snakefile", "hostile.yaml", tmp_path))
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = json.loads(done.stdout)["jobs"]
    shown = [job for job in jobs if any("report:" in str(path) for path in job["output"].values())]
    assert {job["rule"] for job in shown} == {
        *("dataset_sheet", "augmented", "curves", "job_times", "leaderboard", "shift", "loading", "quantising"),
        *("provenance_page", "masks", "decision", "explorer", "labels", "submission_page"),
    }
    for job in shown:
        assert not any("<" in text for text in job["params"].values()), job["rule"]
    told = {job["rule"] for job in shown if any(r"\x3c/script>" in text for text in job["params"].values())}
    assert told == {"augmented", "leaderboard", "loading"}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory, make_workflow, finished_run):
    workflow = make_workflow(tmp_path_factory.mktemp("hostile"))
    shutil.copytree(finished_run.folder, workflow.folder, dirs_exist_ok=True)
    write_hostile(workflow.folder)
    workflow.printed = workflow.run("--cores", "2", "--configfile", "hostile.yaml")
    return workflow


def test_a_note_is_text_in_the_page_of_the_report(hostile):
    pages = []
    for config in ("config", "hostile"):
        hostile.run("--report", f"{config}.html", "--configfile", f"{config}.yaml")
        pages.append((hostile.folder / f"{config}.html").read_text())
    assert r"\\x3c/script>" in pages[1]  # as JSON: the note is there
    for fragment in ("</script><script>document", "<img src=x", "<b>", "<!-- <script>"):
        assert pages[1].count(fragment) == pages[0].count(fragment), fragment
    plain, odd = (Elements(page).names for page in pages)
    assert odd == plain


def test_a_note_is_text_in_the_leaderboard_and_is_kept_as_it_was_written(hostile):
    page = (hostile.folder / "results/tiny/report/leaderboard.md").read_text()
    assert page in (hostile.folder / "results/tiny/logs/leaderboard.log").read_text()
    [line] = [line for line in page.splitlines() if line.startswith("- all: ")]
    assert r"\*\*b\*\* \_i\_ \`c\` \| \[l\](javascript:alert(1)) {{ 7\*7 }}" in line
    diary = (hostile.folder / "results/tiny/report/diary.md").read_text()
    assert diary.startswith("### &lt;/script&gt;")
    for text in (page, diary):
        assert "<" not in text
    assert HOSTILE in (hostile.folder / "results/tiny/report/leaderboard.tsv").read_text()


def test_a_report_shows_what_is_there_and_no_more(hostile):
    """A page that was never made, or was removed, is no error; a study is shown when it was made."""
    report = hostile.folder / "results/tiny/report"
    (report / "time.html").rename(report / "kept.html")
    try:
        hostile.run("--report", "less.html", "--configfile", "config.yaml")
    finally:
        (report / "kept.html").rename(report / "time.html")
    page = (hostile.folder / "less.html").read_text()
    categories = json.loads(re.search(r"var categories = (.*);", page)[1])
    assert list(map(str, sorted(categories))) == ["1 Data", "2 Training", "3 Ensembles", "4 Submission"]


@pytest.mark.skipif(CHROMIUM is None, reason=MISSING)
def test_every_page_of_the_report_is_drawn_also_one_beyond_two_megabytes(hostile):
    page = hostile.folder / "results/tiny/report/leaderboard.html"
    page.write_text(page.read_text() + f"<!-- {'x' * 3 * 2**20} -->\n")
    hostile.run("--report", "large.html", "--configfile", "config.yaml")
    drawn = {}
    with browser(1280) as driver:
        driver.get((hostile.folder / "large.html").as_uri())
        wait_for(driver, "return typeof app !== 'undefined' && document.querySelector('.prose svg') !== null")
        before = None
        for path in driver.execute_script("return Object.keys(results).filter(path => path.endsWith('.html'))"):
            show = "new ButtonViewManager(app).handleHtml(results[arguments[0]], arguments[0]).props.onClick()"
            driver.execute_script(show, path)
            wait_for(driver, f"return (document.querySelector('iframe')?.src ?? '{before}') !== '{before}'")
            frame = driver.find_element("css selector", "iframe")
            before = frame.get_attribute("src")
            driver.switch_to.frame(frame)
            whole = "[...document.querySelectorAll('.chart')].every(place => place.querySelector('svg'))"
            wait_for(driver, f"return document.readyState === 'complete' && document.title !== '' && {whole}")
            drawn[path.partition("/report/")[2]] = driver.execute_script("return document.title")
            driver.switch_to.default_content()
        assert errors(driver) == []
    assert drawn == {
        "dataset.html": "Images and labels",
        "labels.html": "Doubtful labels",
        "augmented/tiny.html": "Augmentation of tiny",
        "curves.html": "Learning curves",
        "leaderboard.html": "Leaderboard",
        "decision/all.html": "Decision of all",
        "masks/all.html": "Masks of all",
        "explorer-sample.html": "What a threshold does",
        "submission.html": "The submission beside training",
        "provenance.html": "Where the submission comes from",
        "time.html": "Time and memory",
    }


def wait_for(driver, condition):
    until = time.monotonic() + 60
    while not driver.execute_script(condition):
        assert time.monotonic() < until, f"{condition}: {errors(driver)}"
        time.sleep(0.1)
