"""Images of one's own: the whole run, and what a change of an image, a label or a recipe makes run again."""

import hashlib
import shutil

import cv2
import pytest
import yaml
from own_data import CONFIG, contents, settle


@pytest.fixture(scope="module")
def finished(tmp_path_factory, make_workflow, finished_run):
    workflow = make_workflow(tmp_path_factory.mktemp("own"))
    shutil.copytree(finished_run.folder, workflow.folder, dirs_exist_ok=True)
    workflow.printed = finished_run.printed
    return workflow


def test_report_of_the_check_is_printed(finished):
    assert "12 train images of 140x210" in finished.printed


def test_jobs_use_the_checkout_beside_the_snakefile(workflow, repo, small_images):
    """Not a copy of the package that is installed somewhere else."""
    settle(workflow.folder, small_images)
    (workflow.folder / "where.py").write_text(
        "import cloudseg\nprint(cloudseg.__file__, file=open(snakemake.output[0], 'w'))\n"
    )
    (workflow.folder / "Snakefile").write_text(
        f"configfile: 'config.yaml'\ninclude: '{repo}/rules/common.smk'\n"
        "rule where:\n    output: 'where.txt'\n    script: 'where.py'\n"
    )
    workflow.run("--snakefile", "Snakefile", "where.txt")
    assert (workflow.folder / "where.txt").read_text().strip() == str(repo / "scripts/cloudseg/__init__.py")


def test_a_changed_image_reruns_the_check_and_what_depends_on_it(finished):
    assert finished.planned("--configfile", "config.yaml") == {}
    path = next((finished.folder / "images/train_images").iterdir())
    before = path.read_bytes()
    image = cv2.imread(str(path))
    cv2.imwrite(str(path), 255 - image)
    planned = finished.planned("--configfile", "config.yaml")
    path.write_bytes(before)
    assert {"check", "folds", "pixels", "truth", "train", "predict", "blend", "submit"} <= set(planned)


def test_a_touched_or_copied_dataset_and_stray_files_plan_nothing(finished):
    images, aside = finished.folder / "images", finished.folder / "aside"
    images.rename(aside)
    shutil.copytree(aside, images, copy_function=shutil.copyfile)  # as cp -r or a clone does: all times are new
    (images / "train_images/.DS_Store").write_text("stray")
    (images / "test_images/notes.txt").write_text("stray")
    table = images / "train.csv"
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes().replace(b"\n", b"\r\n"))
    try:
        assert finished.planned("--configfile", "config.yaml") == {}
    finally:
        shutil.rmtree(images)
        aside.rename(images)


def test_one_more_test_image_trains_nothing(finished):
    table = finished.folder / "images/sample_submission.csv"
    before = table.read_bytes()
    path = next((finished.folder / "images/test_images").iterdir())
    added = path.with_name("added.jpg")
    shutil.copy(path, added)
    table.write_bytes(before + before[before.index(path.name.encode()) :].replace(path.name.encode(), b"added.jpg"))
    planned = finished.planned("--configfile", "config.yaml")
    added.unlink()
    table.write_bytes(before)
    one = ("check", "pixels", "blend", "submit", "submission", "all")
    one += ("masks", "explorer", "submission_page", "provenance", "provenance_page", "job_times")
    assert planned == dict.fromkeys(one, 1) | {"predict": 2}


def test_test_images_and_their_table_may_go_and_come_back(workflow, finished_run):
    """What is made out of fold stays as it is, and pages are made again without what is gone."""
    shutil.copytree(finished_run.folder, workflow.folder, dirs_exist_ok=True)
    results, images = workflow.folder / "results/tiny", workflow.folder / "images"
    (images / "test_images").rename(workflow.folder / "aside")
    (images / "sample_submission.csv").unlink()
    before = contents(workflow.folder)
    words = ("--cores", "2", "--configfile", "config.yaml")
    assert workflow.planned(*words) == {"masks": 1, "explorer": 1, "job_times": 1, "all": 1}
    workflow.run(*words)
    assert "There are no test images" in (results / "report/masks/all.html").read_text()
    assert contents(workflow.folder) == before

    (workflow.folder / "aside").rename(images / "test_images")
    assert "train" not in workflow.planned(*words)
    printed = workflow.run(*words)
    assert "Note: test images without a sample submission (1), sample_submission.csv: no such file" in printed
    rows = (workflow.folder / "submission.csv").read_text().splitlines()[1:]
    names = sorted(path.name for path in (images / "test_images").iterdir())
    classes = ["Fish", "Flower", "Gravel", "Sugar"]
    assert [row.partition(",")[0] for row in rows] == [f"{name}_{label}" for name in names for label in classes]
    assert set(rows) == set((finished_run.folder / "submission.csv").read_text().splitlines()[1:])


def test_a_touched_file_of_initial_weights_plans_nothing_and_another_one_does(finished):
    made = finished.folder / "results/tiny/weights/tu-test_resnet/none.safetensors"
    mine = shutil.copy(made, finished.folder / "mine.safetensors")
    recipes = {"tiny": CONFIG["recipes"]["tiny"] | {"start": "file:mine.safetensors"}}
    (finished.folder / "mine.yaml").write_text(yaml.safe_dump(CONFIG | {"name": "mine", "recipes": recipes}))
    name = hashlib.sha256(b"mine.safetensors").hexdigest()[:12]
    words = (f"results/mine/weights/tu-test_resnet/file-{name}.safetensors", "--configfile", "mine.yaml")
    finished.run("--cores", "1", *words)
    mine.touch()
    assert finished.planned(*words) == {}
    data = mine.read_bytes()
    mine.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert finished.planned(*words) == {"weights": 1}


def test_another_size_of_the_submission_trains_nothing(finished):
    (finished.folder / "larger.yaml").write_text(yaml.safe_dump(CONFIG | {"submission_size": "280x420"}))
    planned = finished.planned("--configfile", "larger.yaml")
    assert {"truth", "predict", "blend", "submit"} <= set(planned)
    assert not {"check", "folds", "pixels", "train"} & set(planned)


def test_a_changed_label_is_noticed(finished):
    table = finished.folder / "images/train.csv"
    before = table.read_bytes()
    lines = before.decode().splitlines()
    lines[1] = lines[1].partition(",")[0] + ",1 1"
    table.write_text("\n".join(lines) + "\n")
    planned = finished.planned("--configfile", "config.yaml")
    table.write_bytes(before)
    assert {"check", "folds", "truth", "train"} <= set(planned)
    assert planned["pixels"] == 1


def test_an_edited_recipe_that_fails_costs_no_training(finished):
    """Snakemake removes the files of a training before it starts anew, and what a failed job has made."""
    config = finished.folder / "config.yaml"
    before, text = contents(finished.folder), config.read_text()
    words = ("--cores", "2", "--configfile", "config.yaml")
    config.write_text(text.replace("epochs: 4", "epochs: 4\n    learning_rate: 1.0e+30"))
    assert "learning_rate 0.001 -> 1000" in finished.run("-n", *words)
    printed = finished.run(*words, check=False)
    assert "2 finished training(s) are of another recipe than the config's now" in printed
    assert "the training loss became nan" in printed
    assert not list(finished.folder.glob("results/tiny/runs/*/*/*/*/*/last.safetensors"))
    config.write_text(text)
    printed = finished.run(*words)
    assert printed.count("had finished with this recipe and these data; its files are back") == 2
    assert contents(finished.folder) == before
    refused = finished.run(
        "-F", *words, "--config", "device=cuda", check=False, environment={"CUDA_VISIBLE_DEVICES": ""}
    )
    assert "device: cuda, and this machine shows no CUDA device for predict, train" in refused
    assert contents(finished.folder) == before


def test_verifying_never_removes_a_submission_that_was_edited(finished):
    path = finished.folder / "submission.csv"
    before = path.read_bytes()
    path.write_text("edited by hand\n")
    finished.run("verify", "--cores", "2", "--configfile", "config.yaml", "--config", "remove=true")
    assert path.read_text() == "edited by hand\n"
    path.write_bytes(before)
