"""What a submission was made from is recorded, whatever an ensemble asks for, and is enough to make it again."""

import contextlib
import functools
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from demo_plan import REPO
from small_chain import (
    CLOUDS,
    ENSEMBLE,
    GREY,
    LOGS,
    RESULTS,
    RULE,
    VOTES,
    Asked,
    black_store,
    known_of,
    labels_again,
    labels_store,
    make,
    run_name,
    weights_file,
    write_network,
)
from small_provenance import CODES
from small_stores import SIZE

from cloudseg.errors import DamagedFileError, DatasetError, StoreError
from cloudseg.inference.predict import made_with
from cloudseg.provenance import here, links, remake
from cloudseg.provenance.chain import provenance_of
from cloudseg.provenance.content import read_content
from cloudseg.provenance.find import Known
from cloudseg.storage import files, records, stores

PIXELS = SIZE[0] * SIZE[1]
PRESENCE = {"scores": [{"top": 60}], "thresholds": [0.72, 0.75], "pixels": PIXELS}
SHARPENED = PRESENCE | {"thresholds": [0.875, 0.88]}
BY_HEADS = PRESENCE | {"classifiers": "1/2", "thresholds": [0.6, 0.6]}
FURTHER = {
    "presence": PRESENCE,
    "best": "if_empty",
    "plane_min": {"thresholds": [0.7, 0.7], "areas": [20, 30]},
    "high": [0.65, 0.6],
    "fill_holes": True,
}
TUNED = RULE | {"how": "tune"}
# Each kind of ensemble; what only some ask for is asked for alone, and with what it meets
ASKED = {
    "a mean": Asked(TUNED),
    "a fixed decision": Asked(sharpen=0.5),
    "presence and more": Asked(RULE | FURTHER),
    "presence that was chosen": Asked(TUNED | {"presence": PRESENCE | {"thresholds": None}}),
    "roles": Asked(RULE | {"presence": SHARPENED, "best": "always"}, whether=("unet",), sharpen=0.5),
    "roles that were tuned": Asked(TUNED | {"presence": PRESENCE | {"thresholds": None}}, whether=("unet",)),
    "one run in both roles": Asked(RULE | FURTHER, whether=("fpn", "unet"), black=True),
    "a vote": Asked(TUNED, vote=True),
    "a vote beside others": Asked(RULE | {"presence": PRESENCE}, whether=("unet",), vote=True, black=True),
    "a search": Asked(TUNED, search=True),
    "a search and a fixed decision": Asked(RULE | FURTHER, search=True),
    "black": Asked(TUNED, black=True),
    "an expected Dice": Asked(RULE | {"how": "expected", "presence": PRESENCE | {"thresholds": None}}),
    "rates": Asked(RULE | {"how": "rate", "rates": "training"}),
    "all images": Asked(TUNED, full=True),
    "all images in a search": Asked(TUNED, full=True, search=True),
    "an average": Asked(TUNED, average=True),
    "heads": Asked(RULE | {"presence": BY_HEADS}, whether=("unet",), heads=("fpn", "unet"), sharpen=0.5),
    "a classifier": Asked(
        TUNED | {"presence": BY_HEADS | {"thresholds": None}}, whether=("unet",), heads=("classifier",)
    ),
    "a start from runs": Asked(TUNED, started=True),
    "labels by networks": Asked(RULE | FURTHER, taught=True),
    "all of these": Asked(
        RULE | {"presence": BY_HEADS},
        whether=("unet",),
        heads=("fpn", "classifier"),
        average=True,
        started=True,
        taught=True,
        full=False,
        black=True,
    ),
    "all images in a vote": Asked(RULE | {"presence": PRESENCE}, full=True, whether=("unet",), vote=True),
}
NEW_KEYS = {"whether", "search", "black", "earlier", "pseudo"}
OF_BEFORE = "a mean", "a fixed decision", "a start from runs"
OF_LATER_CODE = {name for name in ASKED if name.startswith("all ")} | {
    "an average",
    "heads",
    "a classifier",
    "labels by networks",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a function that makes an ensemble of a kind in a folder, which is to be copied."""

    @functools.cache
    def of_kind(kind):
        folder = tmp_path_factory.mktemp("chain")
        with contextlib.chdir(folder):
            return folder, make(ASKED[kind])

    return of_kind


@pytest.fixture
def chain(made, tmp_path, monkeypatch):
    """Return a function that gives a test a chain of its own in the working directory, and returns its ensemble."""
    monkeypatch.chdir(tmp_path)

    def of_kind(kind):
        folder, ensemble = made(kind)
        for name in (RESULTS.parts[0], str(CLOUDS)):
            shutil.rmtree(name, ignore_errors=True)
            shutil.copytree(folder / name, name)
        return ensemble

    return of_kind


def made_again(known, root=CLOUDS):
    """Make a submission again from the predictions in the results, and return the file and what is said of it."""
    device, scratch = torch.device("cpu"), Path("scratch")
    stamp = {"sha256": known.provenance.csv.sha256, "device": "cpu", **made_with(CODES["prediction"], device)}
    remake.begin(scratch, stamp)
    needed = here.members_needed(known.provenance)
    for member in needed:
        for split in member.predictions:
            ending = "-values.zarr" if member.gives else ".zarr"
            store = f"runs/{member.run}/{member.checkpoint}-{split}{ending}"
            shutil.copytree(RESULTS / store, scratch / store, dirs_exist_ok=True)
    names = list(read_content(known.submission).masks)
    options = {"scratch": scratch, "device": device, "codes": CODES, "root": root}
    return Path("again.csv"), remake.remake(known, names, "again.csv", **options)


@pytest.mark.parametrize("kind", ASKED)
def test_the_same_bytes_are_made_from_what_is_recorded(chain, kind):
    known = known_of(chain(kind))
    assert not here.lacking(known, CLOUDS)
    again, remarks = made_again(known)
    assert again.read_bytes() == known.submission.read_bytes()
    assert remarks == []


def test_planes_and_values_of_a_network_are_predicted_at_once(chain, monkeypatch):
    known = known_of(chain("heads"))
    jobs = []

    def predict(job, device):
        jobs.append(job)
        for path in job.outputs.values():
            path.mkdir(parents=True)

    monkeypatch.setattr(remake, "predict", predict)
    for member in known.provenance.predicted("test"):
        remake.predict_member(known, member, "test", Path("scratch"), torch.device("cpu"), CODES["prediction"])
    checkpoints = [path for job in jobs for path in job.checkpoints.values()]
    assert len(checkpoints) == len(set(checkpoints)) == 4
    assert all(sorted(job.outputs) == ["best", "best_values"] for job in jobs)


@pytest.mark.parametrize("kind", ["a search", "a vote", "all of these"])
def test_digests_of_jobs_are_looked_for_beside_the_logs_that_the_rules_name(chain, monkeypatch, kind):
    """Beside a log of another name there would be none, and any content would do."""
    text = "".join(path.read_text() for path in sorted((REPO / "rules").glob("*.smk")))
    run = f"{RESULTS}/runs/{{}}/{{}}/{{}}/{{}}/fold{{}}"
    folders = {"<logs>": str(LOGS), "<results>": str(RESULTS), "<run>": run, "{split}": "(valid|test)"}
    patterns = re.findall(r' log:\n +"(.+)"', text)
    for name, folder in folders.items():
        patterns = [pattern.replace(name, folder) for pattern in patterns]
    looked_at = []
    for module, name in ((links, "refuse_edited"), (records, "read_made_with")):
        monkeypatch.setattr(module, name, lambda *paths: looked_at.append(str(paths[-1])))
    provenance_of(chain(kind), CODES)
    known = re.compile("|".join(re.sub(r"\{\w*\}", "[^/]+", pattern) for pattern in patterns))
    assert [log for log in dict.fromkeys(looked_at) if not known.fullmatch(log)] == []
    assert len(set(looked_at)) > 8


def without_levels(member):
    return member.model_copy(update={"levels": None})


def as_heavy_as_its_fold(member):
    return member.model_copy(update={"weight": member.fold + 1.0})


@pytest.mark.parametrize(
    ("kind", "forgotten"),
    [
        ("one run in both roles", {"black": None}),
        ("roles", {"whether": None}),
        ("a search", {"sharpen": 1.7}),
        ("a vote", {"members": without_levels}),
        ("a search and a fixed decision", {"members": as_heavy_as_its_fold}),
    ],
)
def test_other_bytes_are_made_without_it(chain, kind, forgotten):
    known = known_of(chain(kind))
    changes = {
        name: [value(member) for member in known.provenance.members] if callable(value) else value
        for name, value in forgotten.items()
    }
    less = Known(known.path, known.provenance.model_copy(update=changes), known.results)
    assert made_again(less)[0].read_bytes() != known.submission.read_bytes()


@pytest.mark.parametrize("kind", ASKED)
def test_a_record_is_read_as_it_was_written_and_is_the_same_text_again(chain, kind):
    ensemble = chain(kind)
    known = known_of(ensemble)
    text = known.path.read_bytes()
    assert known.provenance == provenance_of(ensemble, CODES)
    known.provenance.write("again.json")
    assert Path("again.json").read_bytes() == text
    is_plain = kind in ("a mean", "a fixed decision")
    assert known.provenance.schema_version == (1 if kind in OF_BEFORE else 3 if kind in OF_LATER_CODE else 2)
    plain = json.loads(text)
    if is_plain:
        assert not NEW_KEYS & plain.keys()
        assert not any({"role", "levels"} & member.keys() for member in plain["members"])


def test_a_member_that_has_seen_all_images_is_of_the_test_blend_alone_and_said_to_have_no_score(chain):
    provenance = known_of(chain("all images")).provenance
    weights = {member.run.split("/", 1)[1]: (member.weight, member.valid_weight) for member in provenance.members}
    assert weights["fpn/64x96/quick/foldall"] == (pytest.approx(2 / 3), None)
    assert weights["fpn/64x96/quick/fold1"] == (pytest.approx(2 / 3), 2)
    assert provenance.unscored == "1 of 5"
    assert known_of(chain("a mean")).provenance.unscored is None


def test_a_training_on_all_images_of_another_length_than_its_folds_say_is_told(chain):
    ensemble = chain("all images")
    assert otherwise_of_all(ensemble) == []  # though the recipe says 4 epochs
    for fold in (0, 1):
        path = RESULTS / "runs" / run_name("fpn", fold) / "run.json"
        record = json.loads(path.read_text())
        record["epochs"]["best"] = 2 + 2 * fold
        files.write_text(path, json.dumps(record) + "\n")
    assert otherwise_of_all(ensemble) == []  # 2 and 4: the median is the same
    record["epochs"]["best"] = 2
    files.write_text(path, json.dumps(record) + "\n")
    assert otherwise_of_all(ensemble) == ["epochs 3 -> 2"]


def otherwise_of_all(ensemble):
    trainings = provenance_of(ensemble, CODES).trainings
    return [line for each in trainings if each.fold == "all" for line in each.otherwise if "images" not in line]


def test_members_of_each_role_are_recorded_with_their_weights(chain):
    known = known_of(chain("one run in both roles"))
    found = [(each.run, each.role, each.weight, each.valid_weight) for each in known.provenance.members]
    of_roles = [("where", "fpn", 2.0), ("where", "unet", 1.0), ("whether", "fpn", 2.0), ("whether", "unet", 1.0)]
    assert found == [
        (run_name(decoder, fold), role, weight / 2, weight) for role, decoder, weight in of_roles for fold in (0, 1)
    ]
    assert known.provenance.run_names == [run_name(decoder, fold) for decoder in ("fpn", "unet") for fold in (0, 1)]
    whether = stores.read(ENSEMBLE / "test-whether.zarr").attrs
    assert known.provenance.whether["test"].run == whether["run"]
    assert known.provenance.whether["valid"].images == 6


def test_the_levels_of_each_vote_are_recorded_out_of_fold_those_of_the_other_folds(chain):
    for member in known_of(chain("a vote")).provenance.members:
        assert member.levels == {"test": list(VOTES[None]), "valid": list(VOTES[member.fold])}


def test_of_a_search_the_chosen_members_are_recorded_with_the_weights_of_each_fold(chain):
    provenance = known_of(chain("a search")).provenance
    assert [(each.run, each.weight, each.valid_weight, sorted(each.predictions)) for each in provenance.members] == [
        (run_name("fpn", 0), 1.0, 1.0, ["test", "valid"]),
        (run_name("fpn", 1), 1.0, 1.0, ["test", "valid"]),
        (run_name("unet", 0), None, 1.0, ["valid"]),
    ]
    assert provenance.run_names == [run_name("fpn", 0), run_name("fpn", 1), run_name("unet", 0)]
    assert provenance.sharpen == provenance.decision.plain["sharpen"] == 0.5
    assert provenance.search.plain["all"]["counts"] == {"fpn": 2}
    assert provenance.search.plain["nested"]["0"]["counts"] == {"unet": 1, "fpn": 1}
    assert provenance.score.optimistic[-1] == "the power of p that is averaged was chosen on the images that are scored"


def test_a_member_that_was_chosen_out_of_fold_alone_is_needed_only_where_a_decision_is_chosen(chain):
    provenances = [known_of(chain("a search")).provenance]
    provenances.append(known_of(chain("a search and a fixed decision")).provenance)
    needed = [{member.run for member in here.members_needed(each)} for each in provenances]
    assert needed[0] - needed[1] == {run_name("unet", 0)}


def test_where_images_are_black_is_found_anew_where_that_is_gone(chain):
    known = known_of(chain("black"))
    assert known.provenance.black.grey == GREY
    kept = known.submission.read_bytes()
    shutil.rmtree(black_store("train"))
    shutil.rmtree(black_store("test"))
    assert not here.lacking(known, CLOUDS)
    again, _ = made_again(known)
    assert again.read_bytes() == kept
    assert not black_store("test").exists()

    with pytest.raises(DatasetError, match=r"0\.jpg"):
        (CLOUDS / "test_images/0.jpg").write_bytes((CLOUDS / "test_images/1.jpg").read_bytes())
        shutil.rmtree("scratch")
        made_again(known)
    shutil.rmtree(CLOUDS)
    lines = here.lacking(known, CLOUDS).other
    assert [line.partition(" is not there, nor what it is made of: ")[::2] for line in lines] == [
        (str(black_store("test")), "clouds"),
        (str(black_store("train")), "clouds"),
    ]


def test_other_images_than_then_are_not_looked_at_for_black(chain):
    known = known_of(chain("black"))
    black = known.provenance.black.model_copy(update={"data": {"valid": "0" * 64, "test": "1" * 64}})
    other = Known(known.path, known.provenance.model_copy(update={"black": black}), known.results)
    assert all("of other images than then" in line for line in here.lacking(other, CLOUDS).other)
    shutil.rmtree(black_store("test"))
    with pytest.raises(DatasetError, match="clouds: other test images than then"):
        made_again(other)


def test_a_decision_is_not_chosen_again_on_other_labels_than_then(chain):
    known = known_of(chain("a mean"))
    assert not here.lacking(known, CLOUDS)
    rewrite_attribute(RESULTS / "dataset/truth.zarr", data="0" * 64)
    [line] = here.lacking(known, CLOUDS).other
    assert "truth.zarr: of other images or labels than then (data 000000000000, not tttttttttttt)" in line


# Damage


def rewrite_array(path, change, name=""):
    """Write a store anew, whole and with the attributes of before, whose values are changed."""
    store = stores.read(path)
    attributes = {key: value for key, value in store.attrs.items() if key not in ("complete", "shards")}
    arrays = {"": store} if not name else {each: store[each] for each in store.array_keys()}
    blocks = {each: stores.read_images(array, slice(None)) for each, array in arrays.items()}
    dims = {each: array.metadata.dimension_names for each, array in arrays.items()}
    shutil.rmtree(path)
    specs = {each: stores.Spec(block.shape, str(block.dtype), dims[each]) for each, block in blocks.items()}
    writer = stores.Writer(path, specs, attributes)
    change(blocks[name])
    for each, block in blocks.items():
        for rows in writer.missing(each):
            writer.write(rows, block[rows], each)
    writer.finish()


def rewrite_attribute(path, **changes):
    document = json.loads((path / "zarr.json").read_text())
    document["attributes"] |= changes
    document["attributes"]["complete"] = True
    (path / "zarr.json").write_text(json.dumps(document))


def edit_yaml(path, change):
    plain = yaml.safe_load(path.read_text())
    change(plain)
    files.write_text(path, yaml.safe_dump(plain, sort_keys=False))


def flip(path):
    """Flip a byte of the first image of a store."""
    shard = next(each for each in sorted(path.rglob("*")) if each.is_file() and each.name != "zarr.json")
    data = bytearray(shard.read_bytes())
    data[16] ^= 255
    shard.write_bytes(bytes(data))


def turn_over(histograms):
    histograms[0, 0] = histograms[0, 0, ::-1].copy()


def without_record(job):
    """Forget what a job recorded of its outputs, as if it had run before jobs did."""
    records.record_file(LOGS / f"{job}.log").unlink()


def another_level(plain):
    plain["classes"]["Fish"]["level"] += 1


def another_weight(plain):
    plain["all"]["path"].append(plain["all"]["path"][0])
    plain["all"]["counts"]["fpn"] += 1


def edit(path, change, job=None):
    def spoil():
        if job:
            without_record(job)
        edit_yaml(path, change)

    return spoil


def edit_text(path, old, new):
    return lambda: files.write_text(path, path.read_text().replace(old, new, 1))


def all_white(block):
    block[:] = 0


def edit_run(decoder, change):
    """Change what a run records, as its training would have done."""

    def spoil():
        folder = RESULTS / "runs" / run_name(decoder, 0)
        record = json.loads((folder / "run.json").read_text())
        change(record)
        files.write_text(folder / "run.json", json.dumps(record) + "\n")

    return spoil


def another_weights_file():
    """Write the weights of another epoch, with a record of them, as if the training had started from those."""
    path = weights_file(1)
    write_network(path, 99)
    records.write_record(LOGS / "weights/resnet" / f"{path.stem}.log", [path])
    record_file = RESULTS / "runs" / run_name("fpn", 1) / "run.json"
    record = json.loads(record_file.read_text())
    record["weights"]["sha256"] = files.sha256(path)
    files.write_text(record_file, json.dumps(record) + "\n")


def predict_anew(decoder, fold, ending):
    store = RESULTS / "runs" / run_name(decoder, fold) / ending
    return lambda: rewrite_array(store, all_white)


def take_images(rows):
    """Label other test images than those that networks are surest of, each as they say."""
    again = labels_again(0)
    attributes = {"ids": [again.blended.ids[row] for row in rows], "classes": again.blended.classes, "run": again.run}
    spec = again.spec(len(rows))
    shutil.rmtree(labels_store(0))
    writer = stores.Writer(labels_store(0), {"mask": spec}, attributes)
    writer.write(slice(0, len(rows)), again.masks(rows).astype(spec.dtype), "mask")
    writer.finish()


SELECTED, VOTER = ENSEMBLE / "selection.yaml", RESULTS / "ensembles/unet/decision.yaml"
WHETHER = ENSEMBLE / "valid-whether.zarr"
DAMAGE = {
    "histograms that were edited": (
        "roles",
        lambda: rewrite_array(WHETHER, turn_over, "histogram"),
        r"valid-whether\.zarr: of its image a\.jpg, it has not the histograms",
    ),
    "histograms of test images": (
        "one run in both roles",
        lambda: rewrite_array(ENSEMBLE / "test-whether.zarr", turn_over, "histogram"),
        r"test-whether\.zarr: of its image 0\.jpg, it has not .*, 0 where .*black-test-10\.zarr says",
    ),
    "histograms of other members": (
        "roles",
        lambda: rewrite_attribute(WHETHER, run="0" * 64),
        r"valid-whether\.zarr: blended from other members, weights or checkpoints",
    ),
    "a byte of the histograms": (
        "roles",
        lambda: flip(WHETHER),
        r"valid-whether\.zarr/histogram/c/.*: image 0 cannot be read",
    ),
    "no histograms": ("roles", lambda: shutil.rmtree(WHETHER), r"valid-whether\.zarr: no store there"),
    "what was chosen, by hand": (
        "a search",
        edit(SELECTED, another_weight),
        r"selection\.yaml: not the file that its job",
    ),
    "what was chosen, before there were records": (
        "a search",
        edit(SELECTED, another_weight, "search/all"),
        r"test\.zarr: blended from other members, weights or checkpoints",
    ),
    "half of what was chosen": (
        "a search",
        edit(SELECTED, lambda plain: plain.pop("scores"), "search/all"),
        r"selection\.yaml: .*not a whole selection",
    ),
    "a power that was not chosen": (
        "a search",
        edit(SELECTED, lambda plain: plain["all"].update(power=0.7), "search/all"),
        r"valid\.zarr: blended from other members",
    ),
    "a level of a voter": ("a vote", edit(VOTER, another_level), r"unet/decision\.yaml: not the file that its job"),
    "a level of a voter, before there were records": (
        "a vote",
        edit(VOTER, another_level, "decide/unet"),
        r"test\.zarr: blended from other members, weights, checkpoints or levels of their votes",
    ),
    "half of a voter's decision": (
        "a vote",
        edit(VOTER, lambda plain: plain.pop("classes"), "decide/unet"),
        r"unet/decision\.yaml: .*not a whole decision",
    ),
    "where images are black": (
        "black",
        lambda: rewrite_array(black_store("train"), all_white),
        r"valid\.zarr: its image b\.jpg is not 0 just where .*black-train-10\.zarr says",
    ),
    "black of another grey value": (
        "black",
        lambda: rewrite_attribute(black_store("test"), grey=3),
        r"black-test-10\.zarr: expected .* up to the grey value 10, got up to 3",
    ),
    "a byte of where images are black": (
        "black",
        lambda: flip(black_store("test")),
        r"black-test-10\.zarr/c/.*: image 0 cannot be read",
    ),
    "a level of the decision": (
        "presence that was chosen",
        edit(ENSEMBLE / "decision.yaml", another_level, "decide/all"),
        r"decision\.yaml: .*not the decision that .*valid\.zarr, .*truth\.zarr and the config's rule lead to",
    ),
    "a level of a decision on histograms": (
        "roles that were tuned",
        edit(ENSEMBLE / "decision.yaml", another_level, "decide/all"),
        r"not the decision that .*valid\.zarr, .*truth\.zarr, .*valid-whether\.zarr and the config's rule lead to",
    ),
    "the record of another fold": (
        "a mean",
        edit_run("fpn", lambda record: record.update(fold=1)),
        r"fpn/64x96/quick/fold0/run\.json: expected the record of .*, got that of another run \(resnet/fpn, fold 1",
    ),
    "the record of another encoder": (
        "a start from runs",
        edit_run("fpn", lambda record: record.update(encoder="other")),
        r"fpn/64x96/quick/fold0/run\.json: expected the record of .*, got that of another run \(other/fpn",
    ),
    "the truth of other labels": (
        "a mean",
        lambda: rewrite_attribute(RESULTS / "dataset/truth.zarr", data="0" * 64),
        r"truth\.zarr: of other images or labels \(0{12}\) than those that networks train on \(t{12}\)",
    ),
    "the expected score, by hand": (
        "a mean",
        edit_text(ENSEMBLE / "parts.tsv", "all", "All"),
        r"parts\.tsv: not the file that its job wrote",
    ),
    "the scores, by hand": (
        "a mean",
        edit_text(ENSEMBLE / "scores.tsv", "0.", "1."),
        r"scores\.tsv: not the file that its job wrote",
    ),
    "a member of the vote that was predicted anew": (
        "a vote",
        lambda: rewrite_array(RESULTS / "runs" / run_name("fpn", 0) / "best-test.zarr", all_white),
        r"test\.zarr: its image 0\.jpg is not the vote of the members' stores",
    ),
    "a byte of what a head says": (
        "heads",
        lambda: flip(RESULTS / "runs" / run_name("fpn", 1) / "best-valid-values.zarr"),
        r"fold1/best-valid-values\.zarr/c/.*: image . cannot be read",
    ),
    "what a head says of test images, predicted anew": (
        "heads",
        predict_anew("unet", 0, "best-test-values.zarr"),
        r"test-whether\.zarr: its values are not the mean of those of the classification heads",
    ),
    "what a classifier says, predicted anew": (
        "all of these",
        predict_anew("classifier", 1, "best-valid-values.zarr"),
        r"valid-whether\.zarr: its values are not the mean of those of the classification heads",
    ),
    "values by another checkpoint": (
        "a classifier",
        lambda: rewrite_attribute(RESULTS / "runs" / run_name("classifier", 0) / "best-test-values.zarr", run="0" * 64),
        r"test-whether\.zarr: blended from other members, weights or checkpoints",
    ),
    "the mean of the values": (
        "heads",
        lambda: rewrite_array(WHETHER, all_white, "value"),
        r"valid-whether\.zarr: its values are not the mean",
    ),
    "a byte of an average's predictions": (
        "an average",
        lambda: flip(RESULTS / "runs" / run_name("fpn", 0) / "average-test.zarr"),
        r"average-test\.zarr/c/.*: image 0 cannot be read",
    ),
    "the record of an average": (
        "an average",
        edit_run("fpn", lambda record: record["sha256"].update(average="0" * 64)),
        r"average\.safetensors: its training recorded one digest in run\.json and another",
    ),
    "a byte of labels of test images": (
        "labels by networks",
        lambda: flip(labels_store(1)),
        r"64x96-fold1\.zarr/mask/c/.*: image 0 cannot be read",
    ),
    "labels of test images that were edited": (
        "all of these",
        lambda: rewrite_array(labels_store(0), all_white, "mask"),
        r"64x96-fold0\.zarr: its labels of .*\.jpg are not those that its members' stores lead to",
    ),
    "labels of an image that others are surer than": (
        "labels by networks",
        lambda: take_images([1, 2, 3, 4]),
        r"64x96-fold0\.zarr: holds other test images than the 4 at most that its members .* of, as 0\.jpg shows",
    ),
    "labels of too few images": (
        "all of these",
        lambda: take_images([0, 1, 4]),
        r"64x96-fold0\.zarr: holds other test images than the 4 at most that its members .* of, as 2\.jpg shows",
    ),
    "labels of too many images": (
        "labels by networks",
        lambda: take_images(range(5)),
        r"64x96-fold0\.zarr: holds other test images than the 4 at most that its members are surest of; delete it",
    ),
    "labels by others": (
        "labels by networks",
        lambda: rewrite_attribute(labels_store(0), run="0" * 64),
        r"64x96-fold0\.zarr: made by other members, checkpoints or numbers",
    ),
    "what a teacher says, predicted anew": (
        "labels by networks",
        predict_anew("pan", 1, "last-test.zarr"),
        r"64x96-fold1\.zarr: its labels of .*\.jpg are not those that its members' stores lead to",
    ),
    "the record of a teacher": (
        "labels by networks",
        edit_run("pan", lambda record: record["sha256"].update(last="0" * 64)),
        r"pan/64x96/quick/fold0/last\.safetensors: its training recorded one digest in run\.json and another",
    ),
    "the record of a teacher, before there were records": (
        "labels by networks",
        lambda: (
            edit_run("pan", lambda record: record["sha256"].update(last="0" * 64))(),
            records.record_file(RESULTS / "runs" / run_name("pan", 0) / "train.log").unlink(),
        ),
        r"pan/64x96/quick/fold0/last-test\.zarr: predicted by the checkpoint",
    ),
    "the last epoch of a start": (
        "a start from runs",
        lambda: write_network(RESULTS / "runs" / run_name("linknet", 0) / "last.safetensors", 99),
        r"linknet/64x96/quick/fold0/last\.safetensors: .*, and run\.json tells of",
    ),
    "the weights of a start": (
        "a start from runs",
        lambda: write_network(weights_file(0), 99),
        r"run-linknet-64x96-quick-fold0\.safetensors: not the file that its job wrote",
    ),
    "the weights of a start, made anew": (
        "a start from runs",
        another_weights_file,
        r"network-linknet-64x96-quick-fold1\.safetensors: its .* is not that of .*linknet/64x96/quick/fold1/last",
    ),
    "weights that a training did not start from": (
        "all of these",
        edit_run("fpn", lambda record: record["weights"].update(sha256="0" * 64)),
        r"run-linknet-64x96-quick-fold0\.safetensors: .*, and the training started from 000000000000",
    ),
    "a member under black that was predicted anew": (
        "black",
        lambda: rewrite_array(RESULTS / "runs" / run_name("fpn", 0) / "best-test.zarr", all_white),
        r"test\.zarr: its image 0\.jpg is not the mean of the members' stores",
    ),
}


# What no link tells, since no checkpoint is read again when the record is written


@pytest.mark.parametrize(
    ("kind", "decoder", "checkpoint", "is_member"),
    [
        ("an average", "fpn", "average", True),
        ("a classifier", "classifier", "best", True),
        ("labels by networks", "pan", "last", False),
        ("a start from runs", "linknet", "last", False),
    ],
)
def test_a_byte_of_a_checkpoint_is_found_before_anything_is_made_again(chain, kind, decoder, checkpoint, is_member):
    known = known_of(chain(kind))
    assert not here.lacking(known, CLOUDS).to_train
    run = run_name(decoder, 1)
    path = RESULTS / "runs" / run / f"{checkpoint}.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))
    lacking = here.lacking(known, CLOUDS)
    reasons = lacking.runs if is_member else lacking.earlier
    assert list(lacking.to_train) == list(reasons) == [run]
    assert f"{path} is not the file of then" in reasons[run]
    assert bool(lacking) == is_member  # the others count only where networks are trained again


def test_labels_of_test_images_that_were_changed_since_are_told(chain):
    known = known_of(chain("labels by networks"))
    flip(labels_store(0))
    rewrite_attribute(labels_store(1), run="0" * 64)
    lines = [line for line in here.changed_since(known, {}, None) if "pseudo" in line]
    assert "image 0 cannot be read" in lines[0]
    assert lines[1].startswith(f"{labels_store(1)}: ")


def test_whom_trainings_go_back_to_is_recorded(chain):
    provenance = known_of(chain("all of these")).provenance
    assert [training.run for training in provenance.earlier] == [
        run_name(decoder, fold) for decoder in ("linknet", "pan") for fold in (0, 1)
    ]
    assert provenance.run_names == [run_name(name, fold) for name in ("fpn", "unet", "classifier") for fold in (0, 1)]
    trainings = {training.run: training for training in provenance.trainings}
    for fold in (0, 1):
        training = trainings[run_name("fpn", fold)]
        assert (training.start_run, training.pseudo) == (run_name("linknet", fold), f"teachers/quick/64x96/fold{fold}")
    labels = provenance.pseudo[1]
    assert (labels.images, labels.run) == (4, stores.read(labels_store(1)).attrs["run"])  # 0.8 of 5
    [teacher] = labels.members
    assert (teacher.run, teacher.checkpoint, teacher.fold) == (run_name("pan", 1), "last", 1)
    assert teacher.sha256 == files.sha256(RESULTS / "runs" / run_name("pan", 1) / "last.safetensors")
    assert all(training.otherwise == [] for training in provenance.all_trainings)


def test_a_training_on_other_labels_than_those_that_are_there_is_told(chain):
    ensemble = chain("labels by networks")
    edit_run("fpn", lambda record: record.update(data="0" * 64))()
    trainings = {training.run: training.otherwise for training in provenance_of(ensemble, CODES).trainings}
    told = {run: otherwise for run, otherwise in trainings.items() if otherwise}
    assert told == {run_name("fpn", 0): ["images, labels or folds: others than those that are there now"]}


def test_a_training_whose_loss_was_on_another_submission_grid_is_told(chain):
    ensemble = chain("a mean")
    for size, line in ((SIZE, []), ((7, 9), ["loss_size [7, 9] -> [20, 30]"])):
        edit_run("fpn", lambda record, size=size: record.update(loss_size=list(size)))()
        assert provenance_of(ensemble, CODES).trainings[0].otherwise == line


def test_heads_are_members_of_their_own(chain):
    provenance = known_of(chain("a classifier")).provenance
    found = [(each.run, each.role, each.gives, each.weight, each.valid_weight) for each in provenance.members]
    assert [each for each in found if each[2]] == [
        (run_name("classifier", fold), "whether", "values", 1.5, 3.0) for fold in (0, 1)
    ]
    assert [member.run for member in provenance.blended("test", "whether")] == [
        run_name("unet", 0),
        run_name("unet", 1),
    ]
    assert provenance.decision.plain["classes"]["Fish"]["presence"]["score"]["classifiers"] == "1/2"


def test_an_average_of_the_best_epochs_is_chosen_on_what_is_scored(chain):
    provenance = known_of(chain("an average")).provenance
    assert {member.checkpoint for member in provenance.members} == {"average", "best"}
    assert "the epochs that are averaged were chosen on the images that are scored" in provenance.score.optimistic


@pytest.mark.parametrize(
    ("decoder", "is_told"), [("fpn", True), ("linknet", True), ("unet", False)], ids=["its own", "its start", "best"]
)
def test_a_last_epoch_that_heeds_the_images_that_are_scored_is_told(chain, decoder, is_told):
    ensemble = chain("all of these")  # the average of fpn, which starts from linknet, and the best epoch of unet
    line = "when trainings end, or lower their rate, was chosen on the images that are scored"
    assert line not in provenance_of(ensemble, CODES).score.optimistic
    edit_run(decoder, lambda record: record["recipe"].update(schedule="plateau", patience=2))()
    assert (line in provenance_of(ensemble, CODES).score.optimistic) == is_told


@pytest.mark.parametrize("what", DAMAGE)
def test_what_was_changed_is_named(chain, what):
    kind, spoil, message = DAMAGE[what]
    ensemble = chain(kind)
    provenance_of(ensemble, CODES)
    spoil()
    with pytest.raises((DamagedFileError, StoreError), match=message):
        provenance_of(ensemble, CODES)
