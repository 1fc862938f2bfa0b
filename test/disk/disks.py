"""Small real disks: ext4 images behind loop devices, in a mount namespace of the tests' own.

What is mounted here nobody else sees, and it is gone with the process, however that ends: the
kernel unmounts the namespace's file systems and lets go of the loop devices (autoclear).
"""

import ctypes
import errno
import os
import pathlib
import shutil
import subprocess

MIB = 1 << 20
TABLES_MIB = 8
CLONE_NEWNS = 0x00020000
_own = []


def _run(*command):
    subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True)


def own_mounts():
    """Makes the mounts of this thread, and of what it starts, its own; once."""
    if _own:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"mounting needs root: {os.strerror(error)}")
    _run("mount", "--make-rprivate", "/")
    _own.append(True)


class Disk:
    """An ext4 file system of `size_mib` MiB at `path`. With room_mib its image lies on a tmpfs of so
    many MiB, less than it promises: writing beyond that fails with EIO, when the kernel writes back."""

    def __init__(self, folder, size_mib, room_mib=None):
        own_mounts()
        self.folder = pathlib.Path(folder)
        self.path = self.folder / "disk"
        self.store = self.folder / "store"
        self.mounted = []
        self.path.mkdir(parents=True)
        self.store.mkdir()
        try:
            self._make(size_mib, room_mib)
        except BaseException:
            self.close()
            raise

    def _make(self, size_mib, room_mib):
        if room_mib:
            _run("mount", "-t", "tmpfs", "-o", f"size={room_mib}m", "tmpfs", self.store)
            self.mounted.append(self.store)
        image = self.store / "image"
        with open(image, "wb") as out:
            out.truncate(size_mib * MIB)
            if room_mib:  # the file system's own tables have their room: what fails is data
                os.posix_fallocate(out.fileno(), 0, TABLES_MIB * MIB)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", "-N", "2048", "-J", "size=4", "-E",
             "nodiscard,packed_meta_blocks=1,lazy_itable_init=0", image)
        _run("mount", "-t", "ext4", "-o", "loop,nodiscard", image, self.path)
        self.mounted.append(self.path)

    def free(self):
        """Bytes that files may still take."""
        state = os.statvfs(self.path)
        return state.f_bavail * state.f_frsize

    def fill(self, leave=0):
        """Takes the room with a file, but for about so many bytes."""
        size = self.free()
        with open(self.path / "ballast", "ab") as out:
            while size := min(size, self.free() - leave) // 4096 * 4096:
                try:
                    os.posix_fallocate(out.fileno(), os.fstat(out.fileno()).st_size, size)
                except OSError as error:  # some of the room is for the file's own tables
                    if error.errno != errno.ENOSPC:
                        raise
                    size //= 2

    def empty(self):
        """Gives the room back."""
        (self.path / "ballast").unlink(missing_ok=True)

    def grow(self, room_mib):
        """More room for an image on a tmpfs."""
        _run("mount", "-o", f"remount,size={room_mib}m", self.store)

    def close(self):
        """Unmounts what was mounted here, and removes the image."""
        while self.mounted:
            _run("umount", "--lazy", self.mounted.pop())
        shutil.rmtree(self.folder, ignore_errors=True)
