"""Undo what a training does to its process."""

import sys

import pytest


@pytest.fixture(autouse=True)
def denormal_numbers():
    """Training flushes denormal numbers to zero for the whole thread, which hypothesis cannot live with."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)
