"""Tests of check_docs.py: what it must find, and what it must leave alone."""
import pathlib

import check_docs
import pytest

SH = "```sh\n{}\n```\n"


@pytest.fixture(name="check")
def fixture_check(tmp_path, monkeypatch):
    """Checks a page with this text; returns how many passed, and the faults."""
    monkeypatch.setattr(check_docs, "ROOT", tmp_path)

    def check(text):
        page = tmp_path / "page.md"
        page.write_text(text, "utf-8")
        return check_docs.check_page(page)

    return check


def test_blocks_share_one_session_and_an_empty_folder(check):
    passed, faults = check(SH.format("here=$PWD; ls -A | wc -l | grep -qx 0; echo hello > file")
                           + "and then\n" + SH.format('test "$here" = "$PWD"; grep -qx hello file'))
    assert (passed, faults) == (3, [])


@pytest.mark.parametrize("text", ["false", "false | true", "no-such-command", "exit 3"])
def test_a_failing_block_is_named_and_ends_the_page(check, text):
    passed, faults = check(SH.format("true") + SH.format(text) + SH.format("echo too far"))
    assert passed == 2
    assert len(faults) == 1
    assert "page.md:5: this block failed" in faults[0]
    assert "too far" not in faults[0]


def test_the_output_is_shown_on_failure(check):
    _, faults = check(SH.format("echo the reason; false"))
    assert "the reason" in faults[0]


@pytest.mark.parametrize("before,runs", [
    ("*(not run by the tests: it needs root)*", False),
    ("*(not run by the tests: )*", True),
    ("not run by the tests: it needs root", True),
    ("*(not run by the tests: it needs root)*\n\nand so on", True),
])
def test_only_a_reason_leaves_a_block_out(check, before, runs):
    _, faults = check(f"{before}\n" + SH.format("false"))
    assert bool(faults) == runs


def test_a_block_inside_a_list_runs(check):
    assert check("1. First:\n\n   ```sh\n   true\n   ```\n") == (2, [])


@pytest.mark.parametrize("text,fault", [
    ("```\nls\n```\n", "say what this is"),
    ("```bash\nls\n```\n", "say what this is"),
    ("```sh\nls\n", "a fence is not closed"),
    ("[x](missing.md)\n", "leads nowhere"),
    ("[x](#nothing)\n", "no such heading"),
])
def test_faults_of_form(check, text, fault):
    _, faults = check(text)
    assert len(faults) == 1
    assert fault in faults[0]


def test_what_is_not_run_and_links_that_lead_somewhere(check):
    assert check("# A `page`, that is\n\n[x](#a-page-that-is) [y](page.md) [z](https://example.org/)"
                 "\n\n```text\n[no](link.md)\n```\n```yaml\na: 1\n```\n") == (1, [])


def test_the_usual_ports_are_replaced(check):
    passed, faults = check(SH.format(
        'test 1883 != 1884; test "$TIDEMQ_LISTENERS" = "[mqtt://127.0.0.1:1883]"\n'
        'test "$TIDEMQ_ADMIN_LISTEN" = "127.0.0.1:18080"; test 11883 = $((11882 + 1))'))
    assert (passed, faults) == (2, [])


def test_what_is_left_in_the_background_is_ended(check, tmp_path):
    passed, faults = check(SH.format(f"tail -f /dev/null &\necho $! > {tmp_path}/pid"))
    assert (passed, faults) == (2, [])
    stat = pathlib.Path("/proc", (tmp_path / "pid").read_text("utf-8").strip(), "stat")
    assert not stat.exists() or stat.read_text("utf-8").rpartition(")")[2].split()[0] == "Z"
