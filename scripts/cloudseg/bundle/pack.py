"""Pack a finished ensemble into one file."""

from collections.abc import Iterable
from pathlib import Path

import cloudseg
from cloudseg.bundle.archive import (
    CARD,
    DECISION,
    FORMAT,
    PROVENANCE,
    Contents,
    NetworkEntry,
    digest_of,
    write_archive,
)
from cloudseg.bundle.card import model_card
from cloudseg.bundle.provenance import member_key
from cloudseg.config.size import Size
from cloudseg.errors import DamagedFileError
from cloudseg.provenance.record import Provenance
from cloudseg.storage import files, stores
from cloudseg.texts import number_of


def pack(
    provenance_file: str | Path,
    decision_file: str | Path,
    checkpoints: Iterable[str | Path],
    pixels: Iterable[str | Path],
    out: str | Path,
) -> list[str]:
    """Write the bundle of an ensemble: what makes masks of test images, as it made those of its submission.

    Parameters
    ----------
    provenance_file, decision_file : ``provenance.json`` and ``decision.yaml`` of the ensemble.
    checkpoints : of its runs, in their folders; of a search also those that it did not choose.
    pixels : the stores of test images, by whose names the sizes are known that networks saw.
    out : the file to write.

    Returns
    -------
    list of str : what is in it, for a person.

    Raises
    ------
    DamagedFileError : if a checkpoint, or the decision, is not the one that the submission was made with.
    """
    provenance = Provenance.read(provenance_file)
    texts = {
        PROVENANCE: files.read_text(provenance_file),
        DECISION: files.read_text(decision_file),
        CARD: model_card(provenance),
    }
    if digest_of(texts[DECISION]) != provenance.decision.sha256:
        raise files.damaged(decision_file, "not the decision of the submission")
    stores_of = {Path(path).stem: path for path in pixels}
    size_of = {training.run: _image_size(stores_of[training.size]) for training in provenance.trainings}
    file_of = {_key_of_file(path): Path(path) for path in checkpoints}
    # A checkpoint that is a member in two roles is packed once
    members = {member_key(member): member for member in provenance.predicted("test")}
    entries = []
    for (run, name), member in members.items():
        if files.sha256(file_of[run, name]) != member.sha256:
            raise DamagedFileError(f"{file_of[run, name]}: not the checkpoint that predicted; run the workflow again")
        height, width = size_of[run]
        entries.append(NetworkEntry(run=run, checkpoint=name, sha256=member.sha256, height=height, width=width))
    digests = {name: digest_of(text) for name, text in texts.items()}
    contents = Contents(format=FORMAT, cloudseg=cloudseg.__version__, networks=tuple(entries), texts=digests)
    write_archive(out, contents, texts, [file_of[key] for key in members])
    megabytes = Path(out).stat().st_size / 1e6
    return [f"{out}: {number_of(len(entries), 'network')} of {provenance.ensemble}, {megabytes:.0f} MB"]


def _key_of_file(path: str | Path) -> tuple[str, str]:
    """Return the run and the name of a checkpoint.

    Examples
    --------
    >>> _key_of_file("results/demo/runs/resnet34/fpn/x4/quick/fold0/best.safetensors")
    ('resnet34/fpn/x4/quick/fold0', 'best')
    """
    parts = Path(path).parts
    return "/".join(parts[-6:-1]), Path(path).stem


def _image_size(store: str | Path) -> tuple[int, int]:
    """Return height and width of the images of a store, which knows what a part of the original is."""
    return Size.parse(stores.read(store).attrs["size"]).pixels
