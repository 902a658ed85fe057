"""The report of a bag evaluation: a page, Markdown, and JUnit XML for continuous integration."""

from __future__ import annotations

from pathlib import Path

from rt_segmentation.evaluation.bag.report.markdown import to_markdown
from rt_segmentation.evaluation.bag.report.page import to_page
from rt_segmentation.evaluation.bag.result import Evaluation
from rt_segmentation.files import write_atomically
from rt_segmentation.text import printable


def write_report(result: Evaluation, folder: Path, pictures: Path | None = None) -> list[Path]:
    """Write index.html, one file that needs no other and no network, and report.md.

    Args:
        result: of an evaluation.
        folder: where the files go; it is made if it is not there.
        pictures: the folder that the result's paths of pictures start from; `folder` by default.

    Returns:
        The files written.

    Raises:
        ReportError: Jinja2 is not installed.
        OSError: a file cannot be written, when the other was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    contents = {"index.html": to_page(result, pictures or folder), "report.md": to_markdown(result)}
    problem: OSError | None = None
    for name, text in contents.items():
        try:
            write_atomically(folder / name, printable(text).encode())
        except OSError as error:
            problem = problem or error
    if problem is not None:
        raise problem
    return [folder / name for name in contents]
