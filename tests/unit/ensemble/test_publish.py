"""Whose `submission.csv` lies in the working directory, and what becomes of the one before."""

from pathlib import Path

import pytest

from cloudseg.ensemble.publish import publish


@pytest.fixture
def put(tmp_path, monkeypatch):
    """Publish a text as a config's submission, from a working directory; return the lines."""
    monkeypatch.chdir(tmp_path)

    def put(name, text, smoke=False):
        source = Path(f"results/{name}/ensembles/all/submission.csv")
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(text)
        root = None if smoke else Path("submission.csv")
        own = Path(f"results/{name}/submission.csv")
        provenance = source.with_name("provenance.json")
        provenance.write_text(f"of {text}")
        lines = publish(source, provenance, own=own, root=root, about=f"config {name}, ensemble all")
        assert own.read_text() == text
        assert own.with_name("submission.provenance.json").read_text() == f"of {text}"
        return lines

    return put


def files():
    return sorted(path.name for path in Path().glob("*.csv"))


def test_it_says_which_config_it_is_of(put):
    assert put("one", "a\n") == [
        "submission.csv is results/one/ensembles/all/submission.csv (config one, ensemble all)"
    ]
    assert Path("submission.csv").read_text() == "a\n"


def test_another_configs_is_replaced_since_it_lies_in_its_results(put):
    put("one", "a\n")
    lines = put("two", "b\n")
    assert lines[1:] == ["it replaces that of results/one/submission.csv, which stays there"]
    assert Path("submission.csv").read_text() == "b\n"
    assert Path("results/one/submission.csv").read_text() == "a\n"
    assert files() == ["submission.csv"]


def test_ones_own_is_replaced_without_a_word(put):
    put("one", "a\n")
    assert len(put("one", "b\n")) == 1
    assert files() == ["submission.csv"]


def test_a_file_of_nobody_here_is_kept(put):
    put("one", "a\n")
    Path("submission.csv").write_text("edited by hand\n")
    lines = put("two", "b\n")
    [kept] = set(files()) - {"submission.csv"}
    assert Path(kept).read_text() == "edited by hand\n"
    assert lines[1:] == [f"submission.csv was of no config here, or was edited since: it is {kept} now"]


def test_a_smoke_run_leaves_it_alone(put):
    Path("submission.csv").write_text("worth sending\n")
    [line] = put("one-smoke", "a\n", smoke=True)
    assert line.startswith("SMOKE RUN, not worth sending: results/one-smoke/submission.csv is ")
    assert Path("submission.csv").read_text() == "worth sending\n"


def test_a_submission_that_is_cut_short_replaces_nothing(put):
    put("one", "a\n")
    with pytest.raises(ValueError, match="its last line does not end"):
        put("two", "b")
    assert Path("submission.csv").read_text() == "a\n"
    assert files() == ["submission.csv"]


def test_the_provenance_goes_with_it_and_ones_own_file_of_that_name_is_kept(put):
    put("one", "a\n")
    put("two", "b\n")
    assert Path("submission.provenance.json").read_text() == "of b\n"
    Path("submission.provenance.json").write_text("my own\n")
    lines = put("one", "a\n")
    [kept] = [path for path in Path().glob("*.json") if path.name != "submission.provenance.json"]
    assert kept.read_text() == "my own\n"
    assert lines[-1].endswith(f"it is {kept} now")
    assert Path("submission.provenance.json").read_text() == "of a\n"


def test_a_provenance_that_is_cut_short_replaces_nothing(put):
    put("one", "a\n")
    Path("results/one/ensembles/all/provenance.json").write_text("{")
    with pytest.raises(ValueError, match="its last line does not end"):
        publish(
            "results/one/ensembles/all/submission.csv",
            "results/one/ensembles/all/provenance.json",
            own=Path("results/one/submission.csv"),
            root=Path("submission.csv"),
            about="",
        )
    assert Path("submission.provenance.json").read_text() == "of a\n"
