"""Download a contest's files with the Kaggle command line; nothing that somebody else made is ever removed."""

import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

from cloudseg.errors import DatasetError, DiskFullError
from cloudseg.storage.files import FULL, sync, sync_tree, write_text

CREDENTIALS = ("KAGGLE_API_TOKEN", "KAGGLE_KEY", "KAGGLE_USERNAME")
NEEDED = ("train_images", "test_images", "train.csv", "sample_submission.csv")
# Marks a folder as made by this package. Hidden, so that the dataset check does not list it.
MARKER = ".cloudseg.json"
DOWNLOADS = ".cloudseg-download"
# Unpacked size over that of the archive: about 1 for JPEGs and 4 for run-length labels; far more is a zip bomb.
MOST_EXPANSION = 50
CHUNK_BYTES = 2**20


def fetch(competition: str, root: Path, *, environment: Mapping[str, str] | None = None) -> None:
    """Make sure that `root` holds the files of a Kaggle competition: those that are there, else downloaded ones.

    Files that are there are used as they are. A download goes into a new or an empty folder only; it lies in
    `{root}/.cloudseg-download` until it is whole, and is kept when it breaks off.

    Parameters
    ----------
    competition : its name in its Kaggle address.
    root : the folder. Nothing in it is changed, overwritten or removed.
    environment : environment variables; those of this process by default.

    Raises
    ------
    DatasetError : if `root` holds other files, or another competition's; without credentials (the message has the two
        lines to type); when the command line fails; when the archive is no whole archive, or holds something else than
        the contest's layout.
    DiskFullError : when the archive does not fit on the disk.
    """
    environment = dict(os.environ if environment is None else environment)
    _refuse_other_competition(root, competition)
    whole = root / DOWNLOADS / "whole"
    if not whole.is_dir():  # else an earlier call was stopped while it moved what it had unpacked
        if not missing_files(root):
            print(f"{root}: the contest's files are there and are used as they are")
            return
        _refuse_foreign_files(root)
        if not has_credentials(environment):
            raise DatasetError(
                f"{root}: no images there, and no Kaggle credentials to fetch them with. Accept the rules of "
                f"{competition} on its Kaggle page, make a token on your account's settings page, then type:\n"
                "  export KAGGLE_API_TOKEN=...\n"
                "  snakemake submission.csv --configfile config/kaggle.yaml"
            )
        _download(competition, root / DOWNLOADS, environment)
        _unpack(competition, root / DOWNLOADS)
    _move_into_place(whole, root)
    write_marker(root, competition=competition)
    shutil.rmtree(root / DOWNLOADS)


def link(root: Path, folder: Path, names: Sequence[str] = NEEDED) -> None:
    """Make `folder` hold links to the contest's files in `root`, so that jobs read them under `<results>`.

    Parameters
    ----------
    root : the folder with the files. Where it is given relative to the working directory, so are the links.
    folder : is made; what an earlier call left in it is replaced.
    names : of the files and folders.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = root.resolve() if root.is_absolute() else Path(os.path.relpath(root.resolve(), folder.resolve()))
    parts = set(names)
    # What lies within another part comes with it; through its link, a file of the user's would be replaced
    for name in (part for part in names if parts.isdisjoint(map(str, PurePath(part).parents))):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target / name)
    write_marker(folder, links_to=str(root))


def missing_files(root: Path) -> list[str]:
    """Return which parts of the contest's layout a folder lacks."""
    return [name for name in NEEDED if not (root / name).exists()]


def write_marker(folder: Path, **facts: str) -> None:
    """Mark a folder as made by this package."""
    marker = {"made_by": "cloudseg", **facts}
    write_text(folder / MARKER, json.dumps(marker, indent=2) + "\n")


def read_marker(folder: Path) -> dict[str, str]:
    """Return the marker of a folder; empty if this package did not make the folder."""
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return marker if isinstance(marker, dict) and marker.get("made_by") == "cloudseg" else {}


def refuse_foreign_images(folder: Path) -> None:
    """Raise unless a workflow may replace a folder: it is not there, is empty, or was made by a job.

    Raises
    ------
    DatasetError : if the folder holds what somebody else made.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as name:
    ...     write_marker(Path(name), images="demo")
    ...     refuse_foreign_images(Path(name))
    """
    # Snakemake leaves this time stamp in each output folder of a finished job
    own = (folder / ".snakemake_timestamp").is_file() or bool(read_marker(folder))
    if folder.exists() and not own and not (folder.is_dir() and not any(folder.iterdir())):
        raise DatasetError(
            f"{folder}: would be replaced by this workflow's images, and it did not make what is there; move it away, "
            "or let <results> be a folder of its own"
        )


def root_problems(root: str, results: str) -> list[str]:
    """Say why a download may not go into `root`: it must hold neither this directory nor home, nor lie in results."""
    path, here, home = Path(root).resolve(), Path().resolve(), Path.home().resolve()
    if here.is_relative_to(path) or home.is_relative_to(path):
        inside = "the working directory" if here.is_relative_to(path) else "your home folder"
        return [f"dataset.root: {root!r} holds {inside}; give a folder of its own, such as data/clouds"]
    if path.is_relative_to(Path(results).resolve()):
        return [f"dataset.root: {root!r} lies where results are written; give a folder of its own, such as data/clouds"]
    if path.exists() and not path.is_dir():
        return [f"dataset.root: {root!r} is a file; give a folder"]
    return []


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


def _refuse_other_competition(root: Path, competition: str) -> None:
    other = read_marker(root).get("competition", competition)
    if other != competition:
        raise DatasetError(
            f"{root}: expected the files of {competition}, got those of {other}; give another `root`, or remove the "
            "folder"
        )


def _refuse_foreign_files(root: Path) -> None:
    """Raise if a download would mix with files that this package did not write."""
    found = sorted(path.name for path in root.iterdir() if not path.name.startswith(".")) if root.is_dir() else []
    if not found:
        return
    if present := [name for name in NEEDED if name in found]:
        raise DatasetError(
            f"{root}: holds {', '.join(present)}, but no {', '.join(missing_files(root))}; nothing was changed. "
            "Complete it, or give a new or empty folder as `root` to download into"
        )
    some = ", ".join(found if len(found) < 4 else [*found[:3], "..."])
    raise DatasetError(
        f"{root}: holds other files ({some}) and none of the contest's; "
        "nothing was changed. Give a new or empty folder as `root` to download into"
    )


def _download(competition: str, folder: Path, environment: Mapping[str, str]) -> None:
    beside = Path(sys.executable).with_name("kaggle")
    command = str(beside) if beside.exists() else shutil.which("kaggle", path=environment.get("PATH"))
    if command is None:
        raise DatasetError("the command kaggle is missing: pip install -r envs/requirements.lock")
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(  # noqa: S603  # a list of words, no shell; the name's form is checked by the schema
        [command, "competitions", "download", "-c", competition, "-p", str(folder)],
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        for path in new:
            if not any(path.iterdir()):
                path.rmdir()
        output = (done.stdout + done.stderr).strip()
        for name in CREDENTIALS:
            if environment.get(name):
                output = output.replace(environment[name], f"<{name}>")
        last_lines = "\n  ".join(output.splitlines()[-4:])
        raise DatasetError(f"kaggle competitions download -c {competition} failed:\n  {last_lines}")


def _unpack(competition: str, folder: Path) -> None:
    """Unpack the archive of a download into its folder `whole`, which appears only when it is."""
    archive, unpacking = folder / f"{competition}.zip", folder / "unpacking"
    shutil.rmtree(unpacking, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as file:
            entries = file.infolist()
            _refuse_unsafe_entries(archive, entries)
            _refuse_too_large(archive, entries)
            for entry in entries:
                _extract(archive, file, entry, unpacking)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:  # RuntimeError: a password
        shutil.rmtree(unpacking, ignore_errors=True)
        raise DatasetError(
            f"{archive}: not a whole archive ({error}); remove it and run the same command again"
        ) from None
    if missing := missing_files(unpacking):
        shutil.rmtree(unpacking, ignore_errors=True)
        raise DatasetError(f"{archive}: holds no {', '.join(missing)}; is {competition} a contest with this layout?")
    sync_tree(unpacking)
    unpacking.rename(folder / "whole")
    sync(folder)


def _refuse_unsafe_entries(archive: Path, entries: list[zipfile.ZipInfo]) -> None:
    """Raise for names that leave the folder, and for links and devices."""
    for entry in entries:
        path = Path(entry.filename)
        if path.is_absolute() or ".." in path.parts or "\\" in entry.orig_filename:
            raise DatasetError(f"{archive}: the entry {entry.filename!r} would leave the folder; nothing was unpacked")
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise DatasetError(
                f"{archive}: the entry {entry.filename!r} is neither file nor folder; nothing was unpacked"
            )


def _refuse_too_large(archive: Path, entries: list[zipfile.ZipInfo]) -> None:
    """Raise before anything is written if the files would not fit, or are far larger than their archive."""
    unpacked, packed = sum(entry.file_size for entry in entries), archive.stat().st_size
    free = shutil.disk_usage(archive.parent).free
    if unpacked > MOST_EXPANSION * packed:
        raise DatasetError(
            f"{archive}: expected to unpack to at most {MOST_EXPANSION} times its {packed:,} bytes, got {unpacked:,}; "
            "nothing was unpacked. Is it the contest's archive?"
        )
    if unpacked + FULL > free:
        raise DiskFullError(
            f"{archive}: unpacks to {unpacked:,} bytes, and its disk has {free:,} left; nothing was unpacked. Make "
            "room, or give a `root` on another disk"
        )


def _extract(archive: Path, file: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path) -> None:
    """Write one entry below `folder`, and no more bytes than its header declares."""
    path = folder / entry.filename
    if entry.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with file.open(entry) as source, path.open("xb") as target:
        while chunk := source.read(CHUNK_BYTES):
            written += len(chunk)
            if written > entry.file_size:
                break
            target.write(chunk)
    if written != entry.file_size:
        got = "more" if written > entry.file_size else f"{written}"
        raise zipfile.BadZipFile(f"{entry.filename}: expected {entry.file_size} bytes, got {got}")


def _move_into_place(whole: Path, root: Path) -> None:
    """Move what was unpacked into `root`; the next call resumes one that was stopped in between."""
    entries = sorted(whole.iterdir())
    if clash := [path.name for path in entries if (root / path.name).exists()]:
        raise DatasetError(
            f"{root}: {', '.join(clash)} appeared during the download; nothing was replaced. Move it away"
        )
    for path in entries:
        path.rename(root / path.name)
    sync(root)
