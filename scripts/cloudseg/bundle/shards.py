"""Cut the images of a folder into shards by a hash of their names, so that a new image changes one shard alone."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence

WHOLE = "all"
"""The name of the only shard of a folder that needs no cut."""


def cut_into_shards(names: Iterable[str], most: int) -> dict[str, list[str]]:
    """Return shards of images by their names: the first bits of the hash of each, as few as keep a shard small.

    Shards depend on which names there are, and on nothing else. A shard that grows beyond `most` parts in two; the
    others stay.

    Parameters
    ----------
    names : of images, each once.
    most : images of a shard, at least 1.

    Returns
    -------
    dict : name of a shard to its images, sorted as text; shards sorted by name, none of them empty.

    Examples
    --------
    >>> names = [f"{number}.jpg" for number in range(10)]
    >>> cut_into_shards(names[:3], 5)
    {'all': ['0.jpg', '1.jpg', '2.jpg']}
    >>> {name: len(shard) for name, shard in cut_into_shards(names, 5).items()}
    {'0': 4, '10': 5, '11': 1}
    """
    return dict(sorted(_cut([(_bits(name), name) for name in names], "", most)))


def in_shard(name: str, shard: str) -> bool:
    """Return whether an image is in a shard, whatever others are.

    Examples
    --------
    >>> in_shard("0.jpg", "all"), in_shard("0.jpg", "0"), in_shard("0.jpg", "1")
    (True, True, False)
    """
    return shard == WHOLE or _bits(name).startswith(shard)


def _bits(name: str) -> str:
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:8]
    return f"{int.from_bytes(digest, 'big'):064b}"


def _cut(hashed: Sequence[tuple[str, str]], prefix: str, most: int) -> Iterator[tuple[str, list[str]]]:
    if len(hashed) <= most or len(prefix) == 64:
        if hashed:
            yield prefix or WHOLE, sorted(name for _, name in hashed)
        return
    for bit in "01":
        half = [each for each in hashed if each[0][len(prefix)] == bit]
        yield from _cut(half, prefix + bit, most)
