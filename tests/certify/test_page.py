"""docs/certify.md has every check as the code has it."""

import re
from pathlib import Path

from app.certify.checks import SUBJECTS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "certify.md").read_text()


def test_page_has_every_check() -> None:
    for heading, subject in SUBJECTS.items():
        section = PAGE.partition(f"\n### {heading}\n")[2].partition("\n#")[0]
        rows = [
            [cell.strip() for cell in row.strip("|").split(" | ")]
            for row in re.findall(r"^\| `.*$", section, re.MULTILINE)
        ]
        assert rows == [
            [f"`{check.name}`", check.severity, check.assumption, check.consequence] for check in subject.checks
        ]


def test_names_are_unique() -> None:
    names = [check.name for subject in SUBJECTS.values() for check in subject.checks]
    assert len(set(names)) == len(names)
