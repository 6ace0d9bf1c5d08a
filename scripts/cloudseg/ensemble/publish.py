"""Put a config's submission, and its provenance, where a person looks for it, and lose none that lies there."""

import filecmp
from pathlib import Path

from cloudseg.storage.files import read_text, sha256, write_text

PROVENANCE = "provenance.json"


def publish(source: str | Path, provenance: str | Path, *, own: Path, root: Path | None, about: str) -> list[str]:
    """Copy the submission of an ensemble into its config's results and to the working directory.

    Every config has one `submission.csv` in the working directory to share. What lies there is replaced when some
    config here still has it in its results; anything else is somebody's own, or edited, and is kept under another name.
    The same holds for the provenance beside it, `submission.provenance.json`. A stop between the two leaves a
    provenance that is of another file by the digest in it.

    Parameters
    ----------
    source, provenance : of the ensemble.
    own : the file in the results of the config, `results/{name}/submission.csv`; those of others lie beside it.
    root : the file in the working directory; None for a smoke run, which leaves it alone.
    about : which config and ensemble it is of, for the reader.

    Returns
    -------
    list of str : lines that say what lies where now.

    Raises
    ------
    DamagedFileError : if one of them is cut short; nothing is replaced then.
    """
    text, written = read_text(source), read_text(provenance)
    if root is None:
        write_text(own, text)
        write_text(provenance_beside(own), written)
        return [f"SMOKE RUN, not worth sending: {own} is {source} ({about}); submission.csv is left alone"]
    lines = [f"{root} is {source} ({about})"]
    for name, content, mine in ((root, text, own), (provenance_beside(root), written, provenance_beside(own))):
        lines += _what_becomes_of(name, content, mine)
        write_text(name, content)
        write_text(mine, content)
    return lines


def provenance_beside(submission: str | Path) -> Path:
    """Return the file beside a published submission that says what it was made from.

    Examples
    --------
    >>> provenance_beside("results/demo/submission.csv").as_posix()
    'results/demo/submission.provenance.json'
    """
    submission = Path(submission)
    return submission.with_name(f"{submission.stem}.{PROVENANCE}")


def is_of_another_config(root: str | Path, own: str | Path) -> bool:
    """Return whether the working directory has a submission that some config made, and not the one of `own`."""
    return _owner(Path(root), Path(own)) not in (None, Path(own))


def _what_becomes_of(root: Path, text: str, own: Path) -> list[str]:
    """Say whose the file is that is replaced; keep it when no config here has it."""
    if not root.exists() or root.read_bytes() == text.encode():
        return []
    owner = _owner(root, own)
    if owner == own:
        return []
    if owner is not None:
        return [f"it replaces that of {owner}, which stays there"] if root.suffix == ".csv" else []
    kept = root.with_name(f"{root.stem}.{sha256(root)[:8]}{root.suffix}")
    root.rename(kept)
    return [f"{root} was of no config here, or was edited since: it is {kept} now"]


def _owner(root: Path, own: Path) -> Path | None:
    """Return the first file of any config, this one's own first, that equals the one in the working directory."""
    if not root.is_file():
        return None
    results = own.parent.parent
    of_ensembles = PROVENANCE if own.name.endswith(PROVENANCE) else own.name
    paths = [own, *sorted(results.glob(f"*/{own.name}")), *sorted(results.glob(f"*/ensembles/*/{of_ensembles}"))]
    return next((path for path in paths if path.is_file() and filecmp.cmp(path, root, shallow=False)), None)
