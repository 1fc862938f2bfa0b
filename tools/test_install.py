"""Tests of install.sh, which every `make` command runs first."""
import pathlib
import subprocess

INSTALL = pathlib.Path(__file__).resolve().parent / "install.sh"


def test_it_is_read_to_its_end():
    """What ends a quoted list too early, such as an apostrophe, is run as a command before anything else."""
    done = subprocess.run([str(INSTALL), "nothing"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "usage: tools/install.sh build|run|test|bench\n"
