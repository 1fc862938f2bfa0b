"""Disks, and servers and clients as in the end-to-end tests."""

import pytest
from disks import Disk
from fleet import fixture_make_server, fixture_new_client  # noqa: F401 (fixtures)


@pytest.fixture(name="make_disk")
def fixture_make_disk(tmp_path):
    """Makes disks that live as long as the test. Asked for before servers, they go after them."""
    disks = []

    def make_disk(size_mib, room_mib=None):
        disks.append(Disk(tmp_path / f"disk{len(disks)}", size_mib, room_mib))
        return disks[-1]

    yield make_disk
    for disk in disks:
        disk.close()
