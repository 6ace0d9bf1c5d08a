"""Which state of this code runs."""

import contextlib
import importlib.metadata
import platform
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path


def commit() -> str | None:
    """Return the git commit of this code, marked `-dirty` when files differ from it, or None outside a checkout."""
    git = shutil.which("git")
    if git is None:
        return None
    command = [
        git,
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
        "--exclude=*",
    ]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()  # noqa: S603
    return None


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of Python and of packages that are installed.

    Examples
    --------
    >>> list(versions(["numpy"]))
    ['python', 'numpy']
    """
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}
