"""Each claim of SECURITY.md names a test that is there."""

import re

from tests.conftest import ROOT


def test_the_tests_that_are_named_exist() -> None:
    text = (ROOT / "SECURITY.md").read_text("utf-8")
    file, count = "", 0
    for named, test in re.findall(r"`(tests/[\w/]+\.py|…)(?:::(\w+))?`", text):
        file = file if named == "…" else named
        source = (ROOT / file).read_text("utf-8")
        assert not test or f"def {test}(" in source, f"{file}::{test}"
        count += 1
    assert count > 10


def test_each_exception_of_the_audit_has_a_reason() -> None:
    lines = (ROOT / "audit-exceptions.txt").read_text("utf-8").splitlines()
    assert all(
        re.fullmatch(r"(PYSEC|GHSA|CVE)-\S+ +\S.{20,}", line)
        for line in lines
        if line and not line.startswith("#")
    )
    ignored = [
        line
        for folder in ("server", "export")
        for path in (ROOT / folder).rglob("*.py")
        for line in path.read_text("utf-8").splitlines()
    ]
    assert not [line for line in ignored if re.search(r"# noqa: S\d+\s*$", line)]
