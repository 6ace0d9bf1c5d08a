"""The commands that a run ends with: for the config that ran, and none that writes over a file of the person's."""

from pathlib import Path

import pytest

from cloudseg.report.hints import next_commands

HOME = Path(__file__).parents[3]


@pytest.fixture
def hints(monkeypatch, tmp_path):
    def hints(*configfiles, home=tmp_path, typed=None, smoke=False, own_images=False, heads=False):
        monkeypatch.chdir(tmp_path)
        paths = [str(tmp_path / name) for name in configfiles]
        settings = {"typed": typed or {}, "smoke": smoke, "own_images": own_images, "heads": heads}
        text = next_commands("page.md", home=home, configfiles=paths, **settings)
        lines = text.splitlines()
        return {line[2:22].strip(): line[23:] for line in lines[1:]} | {"look": lines[0]}

    return hints


def test_they_are_for_the_config_that_ran(hints):
    found = hints("config/mine.yaml", own_images=True)
    assert found["four GPUs"] == "snakemake --cores 8 --resources gpu=4 --configfile config/mine.yaml"
    assert "your own images" not in found
    assert "the contest's data" not in found
    assert all(line.endswith("--configfile config/mine.yaml") for name, line in found.items() if name != "look")


def test_the_page_of_heads_is_named_where_there_is_one(hints):
    assert "classifiers.html" not in hints()["look"]
    assert hints(heads=True)["look"].endswith("masks/, decision/, classifiers.html and explorer.html beside it. Next:")


def test_of_the_demo_they_lead_to_data(hints):
    found = hints()
    assert found["the contest's data"] == "snakemake submission.csv --configfile config/kaggle.yaml"
    assert found["your own images"].startswith("cp config/own.yaml config/mine.yaml; ")
    assert found["what would run"] == "snakemake -n"


def test_nothing_is_copied_over_a_persons_config(hints, tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config/mine.yaml").write_text("name: mine\n")
    assert hints()["your own images"] == "snakemake -n --configfile config/mine.yaml"


def test_after_a_smoke_run_the_first_is_the_same_at_full_size(hints):
    found = hints("mine.yaml", typed={"smoke": "true", "device": "cpu"}, smoke=True)
    assert next(iter(found.values())) == "snakemake --configfile mine.yaml --config device=cpu"
    of_this_run = "snakemake --report report.html --configfile mine.yaml --config smoke=true device=cpu"
    assert found["one page of it all"] == of_this_run
    found = hints("mine.yaml", smoke=True)
    assert next(iter(found.values())) == "snakemake --configfile mine.yaml --config smoke=False"


def test_from_another_folder_they_name_the_snakefile(hints):
    found = hints(home=HOME)
    assert found["what would run"] == f"snakemake --snakefile {HOME}/Snakefile -n"
    assert found["your own images"].startswith(f"cp {HOME}/config/own.yaml mine.yaml; ")


def test_no_line_is_wider_than_a_terminal(hints):
    assert all(len(line) + 23 <= 120 for line in hints().values())
