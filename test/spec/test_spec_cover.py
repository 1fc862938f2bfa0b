"""tools/spec_cover.py on small trees: what passes, and each thing that must fail."""

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools/spec_cover.py"

CODE = "/* Does it. Spec: [MQTT3-1.0.0-1] [MQTT5-1.0.0-1] */\nint thing_do(void)\n{\n}\n"
C_TEST = "/* [MQTT3-1.0.0-1] */\nstatic void does_it(void **state)\n{\n}\n"
PY_TEST = 'def test_it():\n    """Works.\n\n    [MQTT5-1.0.0-1]\n    """\n'


@pytest.fixture(name="tree")
def fixture_tree(tmp_path):
    """A tree with one covered clause and one exception in each document."""
    files = {
        "test/spec/mqtt3.txt": "# count: 2\nMQTT3-1.0.0-1\tone\nMQTT3-1.0.0-2\ttwo\n",
        "test/spec/mqtt5.txt": "# count: 1\nMQTT5-1.0.0-1\tone\n",
        "test/spec/exceptions.txt": "MQTT3-1.0.0-2\tan obligation of the client\n",
        "src/thing/thing.c": CODE,
        "src/thing/thing_test.c": C_TEST,
        "test/e2e/test_thing.py": PY_TEST,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "docs").mkdir()
    return tmp_path


def run(tree, *options):
    """Runs the tool; returns its status and its lines."""
    done = subprocess.run(
        [sys.executable, TOOL, "--root", tree, *options],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.splitlines()


def append(tree, name, text):
    """Adds text to a file of the tree."""
    with open(tree / name, "a", encoding="utf-8") as file:
        file.write(text)


def test_passes_and_writes_the_page(tree):
    """Code, tests and reasons stand in the page, with the names of the tests."""
    status, lines = run(tree)
    assert (status, lines[-1]) == (0, "3 passed, 0 failed")
    page = (tree / "docs/spec-coverage.md").read_text()
    assert "2 normative statements: 1 with code and test, 1 with a reason instead" in page
    assert (
        "| MQTT3-1.0.0-1 | one | `src/thing/thing.c` | `src/thing/thing_test.c`: does_it |" in page
    )
    assert "`test/e2e/test_thing.py`: test_it" in page
    assert "*an obligation of the client*" in page
    assert run(tree, "--check")[0] == 0


FAULTS = {
    "unknown clause": ("src/thing/thing.c", "/* [MQTT5-9.9.9-9] */\n", "unknown clause"),
    "clause without a version": ("src/thing/thing.c", "/* [MQTT-1.0.0-1] */\n", "unknown clause"),
    "unknown exception": ("test/spec/exceptions.txt", "MQTT5-9.9.9-9\tsome reason\n", "unknown"),
    "no reason": ("test/spec/exceptions.txt", "MQTT5-1.0.0-1\tx\n", "no reason"),
    "needless exception": (
        "test/spec/exceptions.txt",
        "MQTT5-1.0.0-1\tan obligation of the client\n",
        "yet an exception",
    ),
    "count": ("test/spec/mqtt5.txt", "MQTT5-1.0.0-2\ttwo\n", "lists 2 clauses, states 1"),
    "neither code nor test": ("test/spec/mqtt5.txt", "MQTT5-1.0.0-2\ttwo\n", "no code and no test"),
    "twice": ("test/spec/mqtt5.txt", "MQTT5-1.0.0-1\tone\n", "stands there twice"),
}


@pytest.mark.parametrize("case", FAULTS.values(), ids=FAULTS.keys())
def test_faults(tree, case):
    """Each fault is named and fails the run."""
    name, text, message = case
    append(tree, name, text)
    status, lines = run(tree)
    assert status == 1
    assert any(message in line for line in lines), lines
    assert not lines[-1].endswith(" 0 failed")


def test_code_alone_and_test_alone_do_not_cover(tree):
    """A clause needs both."""
    (tree / "src/thing/thing_test.c").write_text("")
    assert "MQTT3-1.0.0-1: no test names it (one)" in run(tree)[1]
    (tree / "src/thing/thing_test.c").write_text(C_TEST)
    (tree / "src/thing/thing.c").write_text("")
    lines = run(tree)[1]
    assert "MQTT3-1.0.0-1: no code names it (one)" in lines
    assert lines[-1] == "1 passed, 2 failed"


def test_ranges(tree):
    """ "[x-1] to [x-4]" names all four; one end that is unknown is a fault."""
    append(tree, "test/spec/mqtt5.txt", "".join(f"MQTT5-2.0.0-{n}\ttext\n" for n in range(1, 5)))
    both = "[MQTT5-2.0.0-1] to\n * [MQTT5-2.0.0-4]"
    append(tree, "src/thing/thing.c", f"/* {both} */\n")
    append(tree, "src/thing/thing_test.c", f"/* {both} */\nstatic void all(void **state)\n{{}}\n")
    lines = run(tree)[1]
    assert not any("names it" in line for line in lines), lines
    append(tree, "src/thing/thing.c", "/* [MQTT5-2.0.0-4] to [MQTT5-2.0.0-6] */\n")
    assert any("unknown clause 'MQTT5-2.0.0-5'" in line for line in run(tree)[1])


def test_check_finds_a_stale_page(tree):
    """--check writes nothing and fails if the page is not what would be written."""
    status, lines = run(tree, "--check")
    assert status == 1 and "docs/spec-coverage.md is stale: run tools/spec_cover.py" in lines
    run(tree)
    append(tree, "test/e2e/test_thing.py", 'def test_two():\n    """[MQTT5-1.0.0-1]"""\n')
    assert run(tree, "--check")[0] == 1
    run(tree)
    assert run(tree, "--check")[0] == 0
