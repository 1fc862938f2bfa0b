"""What a sync of the disk takes by itself: the least that a durable PUBACK can take."""
import os
import pathlib
import time

SYNCS = 2000
BLOCK = 4096
BLOCKS = 1024


def sync_times(folder):
    """Microseconds, p50 and p99, of a pwrite of 4 KiB and fdatasync in a file written before."""
    path = pathlib.Path(folder) / "disk-probe"
    took = []
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.pwrite(file, bytes(BLOCK * BLOCKS), 0)
        os.fsync(file)
        block = b"\x55" * BLOCK
        for n in range(SYNCS):
            began = time.perf_counter()
            os.pwrite(file, block, n % BLOCKS * BLOCK)
            os.fdatasync(file)
            took.append((time.perf_counter() - began) * 1e6)
    finally:
        os.close(file)
        path.unlink()
    took.sort()
    return {"p50": took[SYNCS // 2], "p99": took[SYNCS * 99 // 100]}
