"""A folder in which one call at a time makes a submission again."""

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path

from cloudseg.errors import MachineError
from cloudseg.storage.files import make_folder


@contextlib.contextmanager
def workplace(folder: Path) -> Iterator[Path]:
    """Hold a folder while the block runs, and remove it when that ends without an error.

    What a stopped or failed call left there stays, so that the next one goes on with it. The kernel frees the lock,
    however a process ends.

    Raises
    ------
    MachineError : if another call holds it.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as top:
    ...     with workplace(Path(top, "a")) as folder:
    ...         _ = Path(folder, "b.txt").write_text("half")
    ...     list(Path(top).iterdir())
    []
    """
    make_folder(folder)
    path = folder.with_name(f"{folder.name}.lock")
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MachineError(f"{folder}: another call is making this submission again; let it end") from None
        except OSError:  # a file system without locks
            pass
        yield folder
        shutil.rmtree(folder)
        path.unlink(missing_ok=True)
