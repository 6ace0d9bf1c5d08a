"""The folder that each test of the check spoils."""

import pytest
from small_folder import Folder


@pytest.fixture
def folder(tmp_path) -> Folder:
    return Folder(tmp_path / "clouds")
