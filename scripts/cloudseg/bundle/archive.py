"""The file of a bundle: a zip archive of texts and checkpoints with their digests; the same contents, the same bytes.

It is read as a stranger's: nothing in it becomes a path or code, and each part is compared with its digest.
"""

import contextlib
import hashlib
import json
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from cloudseg.config.fields import Model
from cloudseg.errors import DamagedFileError, UserError
from cloudseg.provenance.record import Checkpoint, Digest
from cloudseg.storage.files import atomic

FORMAT = 1
"""Raised when older code would make other masks of a bundle, or none."""
CONTENTS, PROVENANCE, DECISION, CARD = "bundle.json", "provenance.json", "decision.yaml", "README.md"
MOST_TEXT = 64 * 2**20
"""Bytes of a text in a bundle that are read into memory."""
COPIED_BYTES = 2**20

Pixels = Annotated[int, Field(ge=1, le=2**16)]


class NetworkEntry(Model):
    """A checkpoint in a bundle."""

    run: str
    checkpoint: Checkpoint
    sha256: Digest
    height: Pixels
    width: Pixels
    """Of the images that it sees."""

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from others: its run, and the name of the checkpoint."""
        return self.run, self.checkpoint


class Contents(Model):
    """What ``bundle.json`` says."""

    format: int
    cloudseg: str
    """The version that packed it."""
    networks: Annotated[tuple[NetworkEntry, ...], Field(min_length=1)]
    """In the order of their files."""
    texts: dict[str, Digest]
    """SHA-256 of each text beside it."""


class Archive:
    """The file of a bundle.

    Parameters
    ----------
    path : the file.

    Attributes
    ----------
    contents : what it says of itself.

    Raises
    ------
    FileNotFoundError : if there is none.
    DamagedFileError : if the file is no bundle, is cut short, or was packed by a later version of this code.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with self._opened() as archive:
            self.contents = self._read_contents(archive)

    @property
    def digest(self) -> str:
        """A digest of all that it holds, by what it says of its parts."""
        return digest_of(self.contents.model_dump_json())

    def text(self, name: str) -> str:
        """Return one of the texts.

        Raises
        ------
        DamagedFileError : if it is not the one that was packed.
        """
        with self._opened() as archive:
            data = self._read(archive, name)
            if hashlib.sha256(data).hexdigest() != self.contents.texts.get(name):
                raise self.damaged(f"{name} is not the one that was packed")
            return data.decode()

    def unpack(self, folder: str | Path) -> list[Path]:
        """Copy the checkpoints into a folder and return their files, in the order of the networks.

        Raises
        ------
        DamagedFileError : if one is not the one that was packed.
        """
        files = []
        with self._opened() as archive:
            for number, entry in enumerate(self.contents.networks):
                files.append(Path(folder, f"{number}.safetensors"))
                digest = hashlib.sha256()
                with archive.open(_network_file(number)) as source, files[-1].open("wb") as target:
                    while part := source.read(COPIED_BYTES):
                        digest.update(part)
                        target.write(part)
                if digest.hexdigest() != entry.sha256:
                    raise self.damaged(f"{_network_file(number)} is not the one that was packed")
        return files

    def damaged(self, reason: str) -> DamagedFileError:
        """Return the error for a file that is not as it was packed."""
        return DamagedFileError(f"{self.path}: not a whole bundle ({reason}); pack it again with: snakemake bundle")

    def damaged_by(self, error: Exception) -> DamagedFileError:
        """Return the error for what another one says of a part, whose own advice is for files of jobs."""
        said = " ".join(str(error).partition("; to have it made again")[0].split())
        return self.damaged(f"{said:.200}")

    @contextlib.contextmanager
    def _opened(self) -> Iterator[zipfile.ZipFile]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                self._require_honest_sizes(archive.infolist())
                yield archive
        except UserError:
            raise
        # zipfile's own, of an encrypted part, of an offset that is none, of a text in another encoding
        except (zipfile.BadZipFile, KeyError, EOFError, RuntimeError, OSError, ValueError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise self.damaged(str(error)) from None

    def _require_honest_sizes(self, entries: Sequence[zipfile.ZipInfo]) -> None:
        """Refuse parts that take more room than the file has: compressed, overlapping, or there twice."""
        stored = all(each.compress_type == zipfile.ZIP_STORED for each in entries)
        whole = sum(each.file_size for each in entries) <= self.path.stat().st_size
        once = len({each.filename for each in entries}) == len(entries)
        if not (stored and whole and once):
            raise self.damaged("its parts are compressed, overlap, or are there twice")

    def _read(self, archive: zipfile.ZipFile, name: str) -> bytes:
        if archive.getinfo(name).file_size > MOST_TEXT:
            raise self.damaged(f"{name} has more than {MOST_TEXT >> 20} MiB")
        return archive.read(name)

    def _read_contents(self, archive: zipfile.ZipFile) -> Contents:
        try:
            plain = json.loads(self._read(archive, CONTENTS))
            found = plain.get("format") if isinstance(plain, dict) else None
            if isinstance(found, int) and found > FORMAT:
                raise self.damaged(f"packed by a later version of this code, in format {found}; known is {FORMAT}")
            return Contents.model_validate(plain)
        except (ValidationError, json.JSONDecodeError, RecursionError) as error:
            raise self.damaged(f"{CONTENTS}: {' '.join(str(error).split()):.120}") from None


def write_archive(
    path: str | Path, contents: Contents, texts: Mapping[str, str], checkpoints: Sequence[str | Path]
) -> None:
    """Write the file of a bundle, uncompressed, since weights hardly shrink.

    Parameters
    ----------
    path : the file, replaced as a whole.
    contents : with the networks in the order of ``checkpoints``.
    texts : by name.
    checkpoints : safetensors files.
    """
    with atomic(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, text in {CONTENTS: contents.model_dump_json(indent=1) + "\n", **texts}.items():
            archive.writestr(_entry(name), text.encode())
        for number, checkpoint in enumerate(map(Path, checkpoints)):
            entry = _entry(_network_file(number))
            entry.file_size = checkpoint.stat().st_size
            with checkpoint.open("rb") as source, archive.open(entry, "w") as target:
                shutil.copyfileobj(source, target, COPIED_BYTES)


def digest_of(text: str) -> str:
    """Return the SHA-256 of a text, as ``Contents.texts`` has it."""
    return hashlib.sha256(text.encode()).hexdigest()


def _network_file(number: int) -> str:
    return f"networks/{number:03}.safetensors"


def _entry(name: str) -> zipfile.ZipInfo:
    """Return an entry without a time of its own, so that the same contents give the same bytes."""
    entry = zipfile.ZipInfo(name)
    entry.external_attr = 0o644 << 16
    return entry
