"""Which submission a file is: by its bytes, by what it says, or only by where it lies."""

import json
from pathlib import Path

import pytest
from small_provenance import MASKS, csv_text, prediction, provenance, training, write_csv

from cloudseg.errors import DamagedFileError
from cloudseg.provenance.content import read_content
from cloudseg.provenance.find import beside, find, known_here, nearest_facts
from cloudseg.provenance.places import without_places
from cloudseg.provenance.record import Provenance

RESULTS = Path("results")


@pytest.fixture(autouse=True)
def two_ensembles(tmp_path, monkeypatch):
    """Two ensembles of a config, of other masks."""
    monkeypatch.chdir(tmp_path)
    for name, masks in {"all": MASKS, "fpn": MASKS | {"a.jpg_Fish": "1 1"}}.items():
        path = write_csv(RESULTS / f"tiny/ensembles/{name}/submission.csv", csv_text(masks))
        provenance(path, ensemble=name).write(path.with_name("provenance.json"))


def found(path):
    return find(path, read_content(path), RESULTS)


def test_a_copy_is_found_by_its_bytes_wherever_it_lies():
    match = found(write_csv(Path("mine/sent.csv")))
    assert (match.by, match.known.provenance.ensemble, match.known.results) == ("bytes", "all", Path("results/tiny"))


def test_one_saved_anew_is_found_by_what_it_says():
    match = found(write_csv(Path("sent.csv"), csv_text(dict(reversed(MASKS.items())), end="\r\n")))
    assert (match.by, match.known.provenance.ensemble) == ("content", "all")


def test_a_file_with_its_provenance_beside_it_needs_no_results(tmp_path):
    path = write_csv(Path("elsewhere/sent.csv"))
    provenance(path).write("elsewhere/sent.provenance.json")
    match = find(path, read_content(path), Path("elsewhere/results"))
    assert (match.by, match.known.results) == ("bytes", Path("elsewhere/results/tiny"))


def test_an_edited_file_is_not_what_the_provenance_beside_it_is_of():
    path = write_csv(RESULTS / "tiny/ensembles/all/submission.csv", csv_text(MASKS | {"b.jpg_Fish": "7 7"}))
    assert found(path).by == "beside"


def test_the_published_provenance_counts_where_the_ensembles_own_is_gone():
    own = RESULTS / "tiny/ensembles/all/provenance.json"
    own.rename(RESULTS / "tiny/submission.provenance.json")
    match = found(write_csv(Path("sent.csv")))
    assert (match.by, match.known.results) == ("bytes", Path("results/tiny"))


def test_equal_bytes_are_those_of_the_ensemble_in_whose_folder_they_lie():
    path = write_csv(RESULTS / "tiny/ensembles/fpn/submission.csv")
    provenance(path, ensemble="fpn").write(path.with_name("provenance.json"))
    assert found(path).known.provenance.ensemble == "fpn"


def test_of_a_foreign_file_the_nearest_is_told():
    known = known_here(RESULTS)
    near = read_content(write_csv(Path("near.csv"), csv_text(MASKS | {"b.jpg_Sugar": "1 1"})))
    assert find(Path("near.csv"), near, RESULTS) is None
    nearest = "nearest: results/tiny/ensembles/all/submission.csv, the same rows; "
    assert nearest_facts(near, known) == [f"{nearest}1 of 4 masks differ, the first of b.jpg_Sugar"]
    other = read_content(write_csv(Path("other.csv"), csv_text({"x.jpg_Fish": ""})))
    assert nearest_facts(other, known) == ["its 1 rows are of other images or classes than ours (4 rows)"]
    table = read_content(write_csv(Path("table.csv"), "a;b\n1;2\n"))
    assert nearest_facts(table, known) == ["its columns are a;b; a submission has Image_Label,EncodedPixels"]


def test_what_cannot_be_read_is_left_out_among_the_results_and_refused_beside_the_file():
    broken = RESULTS / "tiny/ensembles/all/provenance.json"
    broken.write_text(broken.read_text()[:100])
    assert [each.provenance.ensemble for each in known_here(RESULTS)] == ["fpn"]
    with pytest.raises(ValueError, match=r"provenance\.json: its last line does not end"):
        beside(broken.with_name("submission.csv"), RESULTS)


def test_a_record_is_read_as_it_was_written_and_is_the_same_text_again(tmp_path):
    path = RESULTS / "tiny/ensembles/all/provenance.json"
    record = Provenance.read(path)
    record.write("again.json")
    assert Path("again.json").read_bytes() == path.read_bytes()
    assert Provenance.read("again.json") == record


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("/home/jo doe/my clouds", "my clouds"),
        ("~/clouds/", "clouds"),
        ("file:/mnt/x/weights.safetensors", "file:weights.safetensors"),
        ("file:weights/a.safetensors", "file:weights/a.safetensors"),
        ("as in /home/jo/notes.txt, p/q", "as in notes.txt, p/q"),
        ("0.65 on 1/2 of it", "0.65 on 1/2 of it"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("run:fpn/x4/quick", "run:fpn/x4/quick"),
    ],
)
def test_places_of_a_machine_are_left_out(text, kept):
    assert without_places(text) == kept


TEACHER = {
    "run": "resnet/fpn/64x96/quick/fold0",
    "fold": 0,
    "checkpoint": "last",
    "sha256": "0" * 64,
    "weight": 1.0,
    "prediction": prediction(),
}
LABELS = {
    "ensemble": "teachers",
    "recipe": "quick",
    "size": "64x96",
    "fold": 0,
    "settings": {},
    "min_area": 0,
    "run": "1" * 64,
    "images": 1,
    "members": [TEACHER],
}


def test_labels_of_test_images_are_read_as_they_were_written(tmp_path):
    path = RESULTS / "tiny/ensembles/all/submission.csv"
    record = provenance(path, pseudo=[LABELS])
    record.write("taught.json")
    assert Provenance.read("taught.json").pseudo[0].name == "teachers/quick/64x96/fold0"


# One digest and some names of a provenance become parts of paths, and what lies in such a folder may be removed
PATHS = {
    "digest of the file": lambda plain: plain["csv"].update(sha256="../../.."),
    "ensemble": lambda plain: plain.update(ensemble="../../../else"),
    "config": lambda plain: plain.update(config_name="/tmp"),  # noqa: S108
    "run of a member": lambda plain: plain["members"][0].update(run="/home/else"),
    "run of a training": lambda plain: plain["trainings"][0].update(run="../../../else"),
    "encoder": lambda plain: plain["trainings"][0].update(encoder="..", run="../fpn/64x96/quick/fold0"),
    "size": lambda plain: plain["trainings"][0].update(size="../a", run="resnet/fpn/../a/quick/fold0"),
    "checkpoint of a training": lambda plain: plain["trainings"][0]["checkpoints"].update({"../last": "0" * 64}),
    "start": lambda plain: plain["trainings"][0].update(start_run="../../else"),
    "run that others go back to": lambda plain: plain.update(earlier=[training(0) | {"run": "../else"}]),
    "ensemble of labels": lambda plain: plain.update(pseudo=[LABELS | {"ensemble": "../else"}]),
    "recipe of labels": lambda plain: plain.update(pseudo=[LABELS | {"recipe": "../else"}]),
    "run of a teacher": lambda plain: plain.update(pseudo=[LABELS | {"members": [TEACHER | {"run": "../else"}]}]),
}


@pytest.mark.parametrize("where", PATHS)
def test_no_text_of_a_strange_provenance_leads_out_of_the_results(where):
    path = write_csv(Path("mine/sent.csv"))
    plain = provenance(path).model_dump(mode="json")
    PATHS[where](plain)
    Path("mine/sent.provenance.json").write_text(json.dumps(plain) + "\n")
    with pytest.raises(DamagedFileError, match=r"sent\.provenance\.json: no provenance"):
        beside(path, RESULTS)


@pytest.mark.parametrize("text", ["[" * 200_000, "9" * 5000, '{"schema_version": ' * 50_000])
def test_a_strange_provenance_without_end_is_named(text):
    path = write_csv(Path("mine/sent.csv"))
    Path("mine/sent.provenance.json").write_text(f"{text}\n")
    with pytest.raises(DamagedFileError, match=r"sent\.provenance\.json"):
        beside(path, RESULTS)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("images", {"classes": ["Fish", "../Sugar"]}),
        ("images", {"classes": ["/Fish", "Sugar"]}),
        ("images", {"classes": ["Fish", "Fish"]}),
        ("images", {"submission_size": [20]}),
        ("images", {"submission_size": [0, 30]}),
        ("prediction_threads", 0),
        ("prediction_threads", 10**6),
        ("sharpen", -1),
    ],
)
def test_a_strangers_record_names_no_path_and_no_odd_size(tmp_path, key, value):
    path = tmp_path / "submission.csv"
    path.write_text("Image_Label,EncodedPixels\na.jpg_Fish,1 2\na.jpg_Sugar,\n")
    plain = provenance(path).model_dump(mode="json")
    plain[key] = plain[key] | value if isinstance(value, dict) else value
    with pytest.raises(DamagedFileError, match="no provenance"):
        Provenance.parse_text(json.dumps(plain), "provenance.json")
