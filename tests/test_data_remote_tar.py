"""Images in a tar archive that is an address: a whole archive, read by several threads."""

from __future__ import annotations

import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from data_support import in_memory
from PIL import Image

from torchlift.transfer.data.remote_files import RemoteFile


def test_a_local_tar_of_folders_is_an_address_without_an_archive_too(tmp_path: Path) -> None:
    for index in range(6):
        file = tmp_path / "train" / ("cat", "dog")[index % 2] / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (5, 6), (40 * index, 0, 0)).save(file)
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        archive.add(tmp_path / "train", "train")
    for source in (f"tar://{tmp_path}/all.tar", f"tar://::{tmp_path}/all.tar"):
        found = in_memory(source)
        assert found.names == ("cat", "dog")
        assert found.images[:, 0, 0, 0].tolist() == [0, 80, 160, 40, 120, 200]
    assert RemoteFile.at(f"tar://{tmp_path}/all.tar").name == "all.tar"


class Crowded:
    """A file system that counts how many threads read at once."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def cat_file(self, path: str) -> bytes:
        self.now += 1
        self.most = max(self.most, self.now)
        time.sleep(0.005)
        self.now -= 1
        return b""


@pytest.mark.parametrize(
    ("root", "alone"),
    [("tar://::a.tar", True), ("zip://b.zip::tar://::a.tar", True), ("memory://a", False)],
)
def test_members_of_a_tar_are_read_one_after_another(
    root: str, alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They share one open file: two at once would get each other's bytes."""
    system = Crowded()
    monkeypatch.setattr(RemoteFile, "_system", system)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda index: RemoteFile(root, f"{index}.png").read(), range(16)))
    assert (system.most == 1) is alone
