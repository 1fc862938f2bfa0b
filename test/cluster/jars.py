"""The class path of real RocketMQ servers: jars from Maven Central, fetched once per version into
build/rocketmq/VERSION/lib.

    python3 test/cluster/jars.py [VERSION...]     fetches them now
"""

import fcntl
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
POM = pathlib.Path(__file__).resolve().parent / "jar_list" / "pom.xml"
FOLDER = ROOT / "build" / "rocketmq"
NEWEST, OLDER = "5.5.0", "5.3.3"
VERSIONS = (NEWEST, OLDER)
FETCH_TIMEOUT_S = 900


def library(version=NEWEST):
    """The folder with a version's jars; fetched when it is not complete yet. Several processes may
    ask at once. Raises RuntimeError with what Maven said."""
    assert re.fullmatch(r"\d+\.\d+\.\d+", version), version
    folder = FOLDER / version
    stamp, lib = folder / "pom.xml", folder / "lib"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_bytes() == POM.read_bytes():
            return lib
        command = ["mvn", "-q", "-B", "-f", str(POM), f"-Drocketmq.version={version}",
                   "dependency:copy-dependencies", f"-DoutputDirectory={lib}",
                   "-DincludeScope=runtime"]
        try:
            run = subprocess.run(command, capture_output=True, text=True, check=False,
                                 stdin=subprocess.DEVNULL, timeout=FETCH_TIMEOUT_S)
        except FileNotFoundError as error:
            raise RuntimeError("mvn is not installed; run tools/install.sh test") from error
        if run.returncode != 0:
            raise RuntimeError(f"could not fetch RocketMQ {version}: {run.stdout}{run.stderr}")
        stamp.write_bytes(POM.read_bytes())
    return lib


if __name__ == "__main__":
    for wanted in sys.argv[1:] or VERSIONS:
        print(f"RocketMQ {wanted}: {len(list(library(wanted).glob('*.jar')))} jars in {library(wanted)}")
