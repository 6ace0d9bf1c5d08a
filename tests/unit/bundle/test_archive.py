"""A bundle from a stranger: whatever is in the file, it is refused in one line and takes no more room than it has."""

import hashlib
import random
import zipfile

import pytest

from cloudseg.bundle.archive import CARD, DECISION, FORMAT, PROVENANCE, Archive, Contents, NetworkEntry, write_archive
from cloudseg.bundle.archive import digest_of as sha256
from cloudseg.bundle.provenance import read_provenance
from cloudseg.errors import DamagedFileError

TEXTS = {PROVENANCE: '{"schema_version": 1}\n', DECISION: "how: fixed\n", CARD: "# card\n"}


@pytest.fixture
def bundle(tmp_path):
    """Return the file of a bundle of two networks that are none, and what they hold."""
    data = [bytes([number]) * 1000 for number in range(2)]
    files = [tmp_path / f"{number}.safetensors" for number in range(2)]
    for file, held in zip(files, data, strict=True):
        file.write_bytes(held)
    entries = tuple(
        NetworkEntry(
            run=f"e/fpn/x4/quick/fold{n}", checkpoint="best", sha256=hashlib.sha256(held).hexdigest(), height=8, width=9
        )
        for n, held in enumerate(data)
    )
    digests = {name: sha256(text) for name, text in TEXTS.items()}
    contents = Contents(format=FORMAT, cloudseg="0", networks=entries, texts=digests)
    write_archive(tmp_path / "bundle.zip", contents, TEXTS, files)
    return tmp_path / "bundle.zip", data


def test_what_was_packed_is_unpacked(bundle, tmp_path):
    path, data = bundle
    archive = Archive(path)
    assert {name: archive.text(name) for name in TEXTS} == TEXTS
    (tmp_path / "out").mkdir()
    assert [file.read_bytes() for file in archive.unpack(tmp_path / "out")] == data


def test_a_later_format_is_refused(bundle, tmp_path):
    path, _ = bundle
    later = tmp_path / "later.zip"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(later, "w") as target:
        for entry in source.infolist():
            target.writestr(entry, source.read(entry).replace(b'"format": 1', b'"format": 2'))
    with pytest.raises(DamagedFileError, match="packed by a later version of this code, in format 2; known is 1"):
        Archive(later)


@pytest.mark.parametrize("how", ["compressed", "twice"])
def test_parts_that_may_be_larger_than_the_file_are_refused(bundle, tmp_path, how):
    path, _ = bundle
    odd = tmp_path / "odd.zip"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(odd, "w") as target:
        for entry in source.infolist():
            data = source.read(entry)
            if entry.filename.startswith("networks/"):
                entry.compress_type = zipfile.ZIP_DEFLATED if how == "compressed" else zipfile.ZIP_STORED
            target.writestr(entry, data)
        if how == "twice":
            with pytest.warns(UserWarning, match="Duplicate name"):
                target.writestr("networks/000.safetensors", b"other")
    with pytest.raises(DamagedFileError, match="its parts are compressed, overlap, or are there twice"):
        Archive(odd)


def test_overlapping_parts_are_refused(tmp_path):
    """Each part begins within the one before it, so that a small file would unpack to a large one."""
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("bundle.json", "{}" + " " * 100_000)
    entry = zipfile.ZipFile(path).infolist()[0]
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(50):
            again = zipfile.ZipInfo(f"networks/{number:03}.safetensors")
            again.file_size = again.compress_size = entry.file_size
            again.header_offset, again.CRC = entry.header_offset, entry.CRC
            archive.filelist.append(again)
            archive.NameToInfo[again.filename] = again
        archive._didModify = True
    with pytest.raises(DamagedFileError, match="its parts are compressed, overlap, or are there twice"):
        Archive(path)


def test_any_change_of_a_byte_is_noticed_or_changes_nothing(bundle, tmp_path):
    path, data = bundle
    whole, draw = path.read_bytes(), random.Random(1)
    (tmp_path / "out").mkdir()
    for _ in range(400):
        place = draw.randrange(len(whole))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << draw.randrange(8)]) + whole[place + 1 :])
        try:
            archive = Archive(path)
            assert {name: archive.text(name) for name in TEXTS} == TEXTS
            assert [file.read_bytes() for file in archive.unpack(tmp_path / "out")] == data
        except DamagedFileError as error:
            assert str(error).endswith("pack it again with: snakemake bundle")


def test_a_provenance_that_is_none_is_said_of_the_bundle(bundle):
    path, _ = bundle
    with pytest.raises(
        DamagedFileError, match=r"bundle\.zip: not a whole bundle \(provenance\.json: no provenance"
    ) as raised:
        read_provenance(Archive(path))
    assert "verify" not in str(raised.value)
