"""Lock files that users of a machine share: opened only where nobody else can have laid a trap."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from cloudseg.errors import DeviceError

NO_ROOM = errno.ENOSPC, errno.EDQUOT, errno.EROFS


def open_folder(path: Path) -> int:
    """Open the folder of the locks, made with mode 1777 where there is none.

    Raises
    ------
    DeviceError : if it is none that all users can trust.
    """
    try:
        with contextlib.suppress(FileExistsError), _no_umask():
            path.mkdir(0o1777)
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except NotADirectoryError:
        raise DeviceError(f"{path}: expected a folder for device locks, got a link or a file; remove it") from None
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise DeviceError(f"{path}: {error.strerror}; make room there for a folder of small lock files") from None
    status = os.fstat(folder)
    of_others = status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022
    if of_others and not status.st_mode & stat.S_ISVTX:
        os.close(folder)
        raise DeviceError(
            f"{path}: expected mode 1777 (`chmod 1777`) or a folder of root's or your own, got mode "
            f"{stat.S_IMODE(status.st_mode):04o} of user {status.st_uid}, where others may replace the locks of devices"
        )
    return folder


def open_file(folder: int, path: Path, name: str, create: bool) -> int:
    """Open a lock file, made with mode 0666 when there is none.

    An existing file is never opened with O_CREAT: where fs.protected_regular is set, the kernel refuses that to all
    but the owners of the file and of the folder.

    Parameters
    ----------
    folder, path : the folder, as opened and by its name.
    name : of the file.
    create : whether to make it.

    Raises
    ------
    FileNotFoundError : if there is none and none is to be made.
    DeviceError : if it is no plain file that this user may lock.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        try:
            file = os.open(name, flags, dir_fd=folder)
        except FileNotFoundError:
            if not create:
                raise
            try:
                with _no_umask():
                    file = os.open(name, flags | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=folder)
            except FileExistsError:  # another job was faster
                file = os.open(name, flags, dir_fd=folder)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise DeviceError(f"{path / name}: {error.strerror}; make room there for small lock files") from None
        if error.errno not in (errno.EACCES, errno.EPERM, errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise
        raise DeviceError(
            f"{path / name}: {error.strerror}; expected a file with mode 0666 in a folder with mode 1777: no job can "
            "use the devices of this machine until its owner (or root) removes it or mends its mode"
        ) from None
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(file)
        raise DeviceError(
            f"{path / name}: expected a plain lock file, got a special file or a second name of another file; its "
            "owner (or root) must remove it"
        )
    return file


@contextlib.contextmanager
def _no_umask() -> Iterator[None]:
    # The mode must be right at once: another user's job may open the file in the next moment
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)
