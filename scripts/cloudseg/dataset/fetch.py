"""Download a contest's files with the Kaggle command line."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

CREDENTIALS = ("KAGGLE_API_TOKEN", "KAGGLE_KEY", "KAGGLE_USERNAME")
NEEDED = ("train_images", "test_images", "train.csv", "sample_submission.csv")


def fetch(competition: str, root: Path, *, environment: Mapping[str, str] | None = None) -> None:
    """Download the files of a Kaggle competition into `root`; the folder appears whole or not at all.

    Parameters
    ----------
    competition : its name in its Kaggle address.
    root : the folder to make. The download lies in `{root}.part` and is kept when it breaks off.
    environment : environment variables; those of this process by default.

    Raises
    ------
    ValueError : without credentials (the message has the two lines to type), when the command line fails, or
        when the archive holds something else than the contest's layout.
    """
    environment = dict(os.environ if environment is None else environment)
    if not has_credentials(environment):
        raise ValueError(
            f"{root}: no images there, and no Kaggle credentials to fetch them with. Accept the rules of "
            f"{competition} on its Kaggle page, make a token on your account's settings page, then type:\n"
            "  export KAGGLE_API_TOKEN=...\n"
            "  snakemake submission.csv --configfile config/kaggle.yaml"
        )
    part = root.with_name(root.name + ".part")
    part.mkdir(parents=True, exist_ok=True)
    _download(competition, part, environment)
    archive = part / f"{competition}.zip"
    unpacked = part / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    with zipfile.ZipFile(archive) as file:
        _refuse_escapes(archive, file)
        file.extractall(unpacked)  # names were checked one line above
    missing = [name for name in NEEDED if not (unpacked / name).exists()]
    if missing:
        raise ValueError(f"{archive}: holds no {', '.join(missing)}; is {competition} a contest with this layout?")
    shutil.rmtree(root, ignore_errors=True)
    unpacked.replace(root)
    shutil.rmtree(part)


def has_credentials(environment: Mapping[str, str]) -> bool:
    """Return whether the Kaggle command line will find a token, without reading one.

    Examples
    --------
    >>> has_credentials({"HOME": "/nowhere", "KAGGLE_API_TOKEN": "x"}), has_credentials({"HOME": "/nowhere"})
    (True, False)
    """
    home = Path(environment.get("HOME", "~")).expanduser()
    folders = [Path(environment.get("KAGGLE_CONFIG_DIR", home / ".kaggle")), home / ".config/kaggle"]
    files = [folder / name for folder in folders for name in ("access_token", "kaggle.json", "credentials.json")]
    by_name = environment.get("KAGGLE_KEY") and environment.get("KAGGLE_USERNAME")
    return bool(environment.get("KAGGLE_API_TOKEN") or by_name or any(file.is_file() for file in files))


def _download(competition: str, folder: Path, environment: Mapping[str, str]) -> None:
    beside = Path(sys.executable).with_name("kaggle")
    command = str(beside) if beside.exists() else shutil.which("kaggle", path=environment.get("PATH"))
    if command is None:
        raise ValueError("the command kaggle is missing: pip install -r envs/requirements.lock")
    done = subprocess.run(  # noqa: S603  # a list of words, no shell; the name's form is checked by the schema
        [command, "competitions", "download", "-c", competition, "-p", str(folder)],
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stdout + done.stderr).strip()
        for name in CREDENTIALS:
            if environment.get(name):
                said = said.replace(environment[name], f"<{name}>")
        last_lines = "\n  ".join(said.splitlines()[-4:])
        raise ValueError(f"kaggle competitions download -c {competition} failed:\n  {last_lines}")


def _refuse_escapes(archive: Path, file: zipfile.ZipFile) -> None:
    for name in file.namelist():
        if Path(name).is_absolute() or ".." in Path(name).parts or "\\" in name:
            raise ValueError(f"{archive}: the entry {name!r} would leave the folder; nothing was unpacked")
