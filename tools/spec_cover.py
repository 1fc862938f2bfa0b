#!/usr/bin/env python3
"""Tie every normative clause of MQTT 3.1.1 and 5.0 to the code and the tests that cover it.

The clauses are listed in test/spec/mqtt3.txt and mqtt5.txt. A mark such as [MQTT5-3.8.3-4] in a
file of src/ names code, in a *_test.c or under test/ it names a test. A clause is covered when
both exist. One that cannot have both stands in test/spec/exceptions.txt with a reason. Two marks
of one section with "to" between them stand for all from the first to the second.

    spec_cover.py           writes docs/spec-coverage.md, then checks
    spec_cover.py --check   checks, and that docs/spec-coverage.md is what would be written

The last line is "N passed, N failed"; the status is 1 if anything failed.
"""

import argparse
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

MARK = re.compile(r"\[(MQTT[0-9]*-[^\[\]\s]*)\]")
RANGE = re.compile(r"\[(MQTT[0-9]*-[0-9.]+-)(\d+)\][\s*]+to[\s*]+\[\1(\d+)\]")
COUNT = re.compile(r"^# count: (\d+)$", re.M)
C_FUNCTION = re.compile(r"^(?:static )?[A-Za-z_][A-Za-z0-9_ *]*?\b([a-z_][a-z0-9_]*)\(", re.M)
PY_TEST = re.compile(r"^ *(?:async )?def (test_\w+)\(", re.M)
SOURCES = {".c", ".h"}
TESTS = {".c", ".h", ".py", ".sh", ".java", ".go", ".js", ".mjs", ".cpp"}
DOCUMENTS = (("MQTT 3.1.1", "mqtt3.txt"), ("MQTT 5.0", "mqtt5.txt"))


@dataclass
class Clause:
    """One normative statement and where it is named."""

    ident: str
    text: str
    code: set = field(default_factory=set)
    tests: dict = field(default_factory=dict)
    reason: str = ""

    def covered(self):
        """True when code and a test both name the clause."""
        return bool(self.code and self.tests)


def clauses_read(path, faults):
    """The clauses of one list; a count that differs from the stated one is a fault."""
    content = path.read_text(encoding="utf-8")
    clauses = {}
    for line in content.splitlines():
        if not line or line.startswith("#"):
            continue
        ident, tab, text = line.partition("\t")
        if not tab or not text or len(text) > 100:
            faults.append(f"{path.name}: '{ident}' needs a tab and at most 100 characters of text")
        if ident in clauses:
            faults.append(f"{path.name}: '{ident}' stands there twice")
        clauses[ident] = Clause(ident, text)
    stated = COUNT.search(content)
    if not stated or int(stated.group(1)) != len(clauses):
        count = stated.group(1) if stated else "none"
        faults.append(f"{path.name}: lists {len(clauses)} clauses, states {count}")
    return clauses


def exceptions_read(path, clauses, faults):
    """Puts the reasons of the exceptions file into their clauses."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        ident, tab, reason = line.partition("\t")
        if ident not in clauses:
            faults.append(f"{path.name}:{number}: unknown clause '{ident}'")
        elif not tab or len(reason) < 10:
            faults.append(f"{path.name}:{number}: '{ident}' has no reason")
        elif clauses[ident].reason:
            faults.append(f"{path.name}:{number}: '{ident}' stands there twice")
        else:
            clauses[ident].reason = reason


def c_test_name(text, at):
    """The cmocka test a mark belongs to: the one around it, else the next one after it."""
    start = text.rfind("\n", 0, at) + 1
    inside = text[start : start + 1] == " " and text[start : start + 2] != " *"
    names = list(C_FUNCTION.finditer(text))
    before = [m.group(1) for m in names if m.start() < at]
    after = [m.group(1) for m in names if m.start() > at]
    if inside and before:
        return before[-1]
    return after[0] if after else ""


def py_test_name(text, at):
    """The pytest function whose body, above all its docstring, holds the mark."""
    before = [m for m in PY_TEST.finditer(text) if m.start() < at]
    return before[-1].group(1) if before else ""


def is_test(relative):
    """True for files whose marks name tests."""
    return relative.parts[0] == "test" or relative.name.endswith("_test.c")


def files_of(root):
    """The files that may carry marks, in a stable order."""
    for folder, suffixes in (("src", SOURCES), ("test", TESTS)):
        for path in sorted((root / folder).rglob("*")):
            relative = path.relative_to(root)
            if path.suffix not in suffixes or not path.is_file():
                continue
            if any(part in ("node_modules", "__pycache__") for part in relative.parts):
                continue
            if relative.parts[:2] != ("test", "spec"):
                yield path, relative


def marks_of(text):
    """Every mark as (place, id); "[x-1] to [x-4]" also stands for what lies between."""
    for match in MARK.finditer(text):
        yield match.start(), match.group(1)
    for match in RANGE.finditer(text):
        for number in range(int(match.group(2)) + 1, int(match.group(3))):
            yield match.start(), f"{match.group(1)}{number}"


def marks_scan(root, clauses, faults):
    """Enters every mark of the tree into its clause; an unknown one is a fault."""
    for path, relative in files_of(root):
        text = path.read_text(encoding="utf-8", errors="replace")
        for at, ident in marks_of(text):
            clause = clauses.get(ident)
            if clause is None:
                line = text.count("\n", 0, at) + 1
                faults.append(f"{relative}:{line}: unknown clause '{ident}'")
            elif not is_test(relative):
                clause.code.add(str(relative))
            else:
                finder = py_test_name if path.suffix == ".py" else c_test_name
                clause.tests.setdefault(str(relative), set()).add(finder(text, at))


def clause_faults(clause):
    """What is wrong with one clause: an empty list is a pass."""
    if clause.covered() and clause.reason:
        return [f"{clause.ident}: covered, and yet an exception"]
    if clause.covered() or clause.reason:
        return []
    missing = [word for word, found in (("code", clause.code), ("test", clause.tests)) if not found]
    return [f"{clause.ident}: no {' and no '.join(missing)} names it ({clause.text})"]


def tests_cell(tests):
    """The tests of one clause as a table cell."""
    cells = []
    for path in sorted(tests):
        names = sorted(name for name in tests[path] if name)
        shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        cells.append(f"`{path}`" + (f": {shown}" if names else ""))
    return "<br>".join(cells)


def table(title, clauses):
    """The Markdown section of one specification."""
    rows = list(clauses.values())
    covered = sum(row.covered() for row in rows)
    lines = [
        f"## {title}",
        "",
        f"{len(rows)} normative statements: {covered} with code and test, "
        f"{sum(bool(row.reason) for row in rows)} with a reason instead.",
        "",
        "| clause | what it asks | code | tests |",
        "| --- | --- | --- | --- |",
    ]
    for row in rows:
        code = "<br>".join(f"`{path}`" for path in sorted(row.code))
        tests = tests_cell(row.tests)
        if row.reason:
            tests = "<br>".join(part for part in (tests, f"*{row.reason}*") if part)
        text = row.text.replace("|", "\\|")
        lines.append(f"| {row.ident} | {text} | {code} | {tests} |")
    return "\n".join(lines) + "\n"


def page(tables):
    """The whole of docs/spec-coverage.md."""
    head = (
        "# Which code and which test cover which clause\n\n"
        "Generated by `tools/spec_cover.py`; do not edit. The clauses are the normative\n"
        "statements of each specification's Appendix B, in our own words. A clause is covered\n"
        "when code and a test both name it; where one of them is missing, the reason stands in\n"
        "italics.\n\n"
    )
    return head + "\n".join(tables)


def run(root, check):
    """Reads, scans, writes or compares; returns the process status."""
    faults, known, sections = [], {}, []
    for title, name in DOCUMENTS:
        clauses = clauses_read(root / "test/spec" / name, faults)
        sections.append((title, clauses))
        known.update(clauses)
    exceptions_read(root / "test/spec/exceptions.txt", known, faults)
    marks_scan(root, known, faults)

    per_clause = [clause_faults(clause) for clause in known.values()]
    failed = sum(bool(found) for found in per_clause)
    faults += [fault for found in per_clause for fault in found]
    content = page([table(title, clauses) for title, clauses in sections])
    target = root / "docs/spec-coverage.md"
    if not check:
        target.write_text(content, encoding="utf-8")
    elif not target.exists() or target.read_text(encoding="utf-8") != content:
        faults.append("docs/spec-coverage.md is stale: run tools/spec_cover.py")

    for fault in faults:
        print(fault)
    for title, clauses in sections:
        covered = sum(clause.covered() for clause in clauses.values())
        reasons = sum(bool(clause.reason) for clause in clauses.values())
        print(f"{title}: {len(clauses)} clauses, {covered} covered, {reasons} with a reason")
    other = len(faults) - failed
    print(f"{len(known) - failed} passed, {failed + other} failed")
    return 1 if faults else 0


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if stale")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    options = parser.parse_args()
    return run(options.root, options.check)


if __name__ == "__main__":
    sys.exit(main())
