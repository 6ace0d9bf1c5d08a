"""Pack a finished ensemble into one file."""

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
from cloudseg.bundle.bundle import member_key
from cloudseg.bundle.card import model_card
from cloudseg.config.size import Size
from cloudseg.errors import DamagedFileError
from cloudseg.provenance import here
from cloudseg.provenance.find import Known
from cloudseg.provenance.record import Provenance
from cloudseg.storage import files, stores


def pack(provenance_file: str | Path, results: str | Path, out: str | Path) -> list[str]:
    """Write the bundle of an ensemble: what makes masks of test images, as it made those of its submission.

    Parameters
    ----------
    provenance_file : ``provenance.json`` of the ensemble, beside its ``decision.yaml``.
    results : the folder of the config's results, with the checkpoints.
    out : the file to write.

    Returns
    -------
    list of str : what is in it, for a person.

    Raises
    ------
    DamagedFileError : if a checkpoint, or the decision, is not the one that the submission was made with.
    """
    path = Path(provenance_file)
    known = Known(path, Provenance.read(path), Path(results))
    provenance = known.provenance
    texts = {
        PROVENANCE: files.read_text(path),
        DECISION: files.read_text(path.with_name(DECISION)),
        CARD: model_card(provenance),
    }
    if digest_of(texts[DECISION]) != provenance.decision.sha256:
        raise files.damaged(path.with_name(DECISION), "not the decision of the submission")
    sizes = {training.run: _image_size(known, training.size) for training in provenance.trainings}
    # A checkpoint that is a member in two roles is packed once
    members = {member_key(member): member for member in provenance.predicted("test")}
    entries, checkpoints = [], []
    for (run, name), member in members.items():
        checkpoint = here.checkpoint_file(known, run, name)
        if files.sha256(checkpoint) != member.sha256:
            raise DamagedFileError(f"{checkpoint}: not the checkpoint that predicted; run the workflow again")
        height, width = sizes[run]
        entries.append(NetworkEntry(run=run, checkpoint=name, sha256=member.sha256, height=height, width=width))
        checkpoints.append(checkpoint)
    digests = {name: digest_of(text) for name, text in texts.items()}
    contents = Contents(format=FORMAT, cloudseg=cloudseg.__version__, networks=tuple(entries), texts=digests)
    write_archive(out, contents, texts, checkpoints)
    megabytes = Path(out).stat().st_size / 1e6
    return [f"{out}: {len(entries)} networks of {provenance.ensemble}, {megabytes:.0f} MB"]


def _image_size(known: Known, size: str) -> tuple[int, int]:
    """Return height and width of the images that a network saw; their store knows what a part of the original is."""
    return Size.parse(stores.read(here.pixels_file(known, "test", size)).attrs["size"]).pixels
