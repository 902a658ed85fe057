"""Hooks of the documentation's site (mkdocs.yml): links from docs/ to files beside it work there, too.

A page of the site may link to any file of the repository. Such a file becomes a part of the site, under its
own path; the links of Markdown files among them are followed.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

_LINK = re.compile(r"(?<=\]\()(?![a-z]+:)([^)#\s]+)(?=[)#])")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside of docs/ that pages link to."""
    docs = Path(config.docs_dir)
    waiting = [docs / file.src_uri for file in files.documentation_pages()]
    while waiting:
        page = waiting.pop()
        for link in _LINK.findall(page.read_text(encoding="utf-8")):
            target = (page.parent / link).resolve()
            uri = _uri(target, docs)
            if target.is_file() and docs not in target.parents and not files.get_file_from_path(uri):
                added = File.generated(
                    config, uri, abs_src_path=str(target), inclusion=InclusionLevel.INCLUDED
                )
                files.append(added)
                if target.suffix == ".md":
                    waiting.append(target)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point the links of a page to where the site has their files."""
    docs = Path(config.docs_dir)
    source = Path(page.file.abs_src_path or "")

    def moved(link: re.Match[str]) -> str:
        uri = _uri((source.parent / link[1]).resolve(), docs)
        return posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or ".")

    return _LINK.sub(moved, markdown)


def _uri(target: Path, docs: Path) -> str:
    """Where the site has a file: below docs/ as it lies there, else as it lies in the repository."""
    root = docs if docs in target.parents else docs.parent
    return Path(os.path.relpath(target, root)).as_posix()
