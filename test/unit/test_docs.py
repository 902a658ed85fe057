"""The pages of the documentation: links that lead somewhere, and Python that is Python."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from rt_segmentation.models import find_model

REPOSITORY = Path(__file__).resolve().parents[2]


def pages() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=REPOSITORY, capture_output=True, text=True)
    return [REPOSITORY / name for name in listed.stdout.split()] or sorted(REPOSITORY.glob("**/*.md"))


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere_and_python_is_python(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", prose)]
    missing = [
        link for link in links if link and "://" not in link and not (page.parent / link).resolve().exists()
    ]
    assert not missing
    for snippet in re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S):
        compile(snippet, str(page), "exec")


def test_every_page_is_in_the_index() -> None:
    index = (REPOSITORY / "docs" / "README.md").read_text(encoding="utf-8")
    for page in (REPOSITORY / "docs").glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index, page.name


@pytest.mark.parametrize("page", ["README.md", "docs/models.md"])
def test_scores_of_the_models_are_those_of_their_manifests(page: str) -> None:
    rows = re.findall(
        r"^\| `(\w+)`.*?\| (0\.\d{3}) \|", (REPOSITORY / page).read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(rows) == 3
    for name, said in rows:
        stored = [score for score in find_model(name).scores if score.dataset == "camvid"]
        assert abs(float(said) - stored[0].value) < 0.0006, name
