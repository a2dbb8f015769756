"""Writes a conformance statement as text, for a terminal, or as HTML, for reading, printing and signing.

The HTML is one file that loads nothing and runs nothing; every word of it is escaped. Printed, heads of tables repeat
on each page and rows stay whole.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from html import escape
from itertools import zip_longest

from orthanc_deid.core.conformance import Statement
from orthanc_deid.core.conformance_tables import Section, Table

_WIDTH = 118
_CELL, _LAST = 50, 90  # widest cell of a table in text, and in its last column


def as_text(statement: Statement) -> str:
    """The statement as plain text, lines of tables as long as they have to be."""
    return "\n".join(_text(statement)) + "\n"


def _text(statement: Statement) -> Iterator[str]:
    yield statement.title
    yield "=" * len(statement.title)
    yield from (statement.subtitle, "") if statement.subtitle else ("",)
    width = max(len(name) for name, _value in statement.facts)
    yield from (f"{name:{width}}  {value}" for name, value in statement.facts)
    for number, section in enumerate(statement.sections, 1):
        heading = f"{number}. {section.title}"
        yield from ("", "", heading, "-" * len(heading))
        for paragraph in section.paragraphs:
            yield from ("", *textwrap.wrap(paragraph, _WIDTH))
        if section.points:
            yield ""
        for point in section.points:
            yield from textwrap.wrap(point, _WIDTH, initial_indent="- ", subsequent_indent="  ")
        if section.table is not None:
            yield ""
            yield from _text_table(section.table)
    if statement.signatures:
        heading = f"{len(statement.sections) + 1}. Signatures"
        yield from ("", "", heading, "-" * len(heading))
        for role in statement.signatures:
            yield from ("", "", f"{'_' * 36}   {'_' * 36}   {'_' * 16}", f"{role:36}   {'signature':36}   date")


def _text_table(table: Table) -> Iterator[str]:
    if not table.rows:
        yield "(none)"
        return
    last = len(table.columns) - 1
    rows = [
        [textwrap.wrap(cell, _LAST if column == last else _CELL) or [""] for column, cell in enumerate(row)]
        for row in (table.columns, *table.rows)
    ]
    widths = [max(len(line) for row in rows for line in row[column]) for column in range(last + 1)]
    for index, row in enumerate(rows):
        for lines in zip_longest(*row, fillvalue=""):
            yield "  ".join(f"{line:{width}}" for line, width in zip(lines, widths, strict=True)).rstrip()
        if index == 0:
            yield "  ".join("-" * width for width in widths)


def as_html(statement: Statement) -> str:
    """The statement as one HTML page."""
    return "\n".join(_html(statement)) + "\n"


def _html(statement: Statement) -> Iterator[str]:
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    yield f"<title>{escape(statement.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>"
    yield f"<header>\n<h1>{escape(statement.title)}</h1>"
    if statement.subtitle:
        yield f'<p class="subtitle">{escape(statement.subtitle)}</p>'
    yield '<table class="facts">'
    yield from (f"<tr><th>{escape(name)}</th><td>{_cell(value)}</td></tr>" for name, value in statement.facts)
    yield "</table>\n</header>\n<nav>\n<ol>"
    titles = [section.title for section in statement.sections]
    titles += ["Signatures"] if statement.signatures else []
    yield from (f'<li><a href="#s{number}">{escape(title)}</a></li>' for number, title in enumerate(titles, 1))
    yield "</ol>\n</nav>\n<main>"
    for number, section in enumerate(statement.sections, 1):
        yield from _html_section(number, section)
    if statement.signatures:
        number = len(titles)
        yield f'<section class="signatures">\n<h2 id="s{number}">{number}. Signatures</h2>'
        for role in statement.signatures:
            yield f'<div class="sign"><p>{escape(role)}</p><p>signature</p><p>date</p></div>'
        yield "</section>"
    yield "</main>\n</body>\n</html>"


def _html_section(number: int, section: Section) -> Iterator[str]:
    yield f'<section>\n<h2 id="s{number}">{number}. {escape(section.title)}</h2>'
    yield from (f"<p>{escape(paragraph)}</p>" for paragraph in section.paragraphs)
    if section.points:
        yield "<ul>"
        yield from (f"<li>{escape(point)}</li>" for point in section.points)
        yield "</ul>"
    table = section.table
    if table is not None and not table.rows:
        yield "<p>None.</p>"
    elif table is not None:
        yield (
            "<table>\n<thead><tr>"
            + "".join(f"<th>{escape(name)}</th>" for name in table.columns)
            + "</tr></thead>\n<tbody>"
        )
        for row in table.rows:
            yield (
                "<tr>"
                + "".join(
                    f"<td{_kind(name, cell)}>{_cell(cell)}</td>" for name, cell in zip(table.columns, row, strict=True)
                )
                + "</tr>"
            )
        yield "</tbody>\n</table>"
    yield "</section>"


_ACTIONS = {
    "keep": "keep",
    "enter items": "keep",
    "keep, UIDs mapped": "keep",
    "clean": "change",
    "shift": "change",
    "keep year": "change",
    "change age": "change",
    "map UID": "change",
    "pseudonym": "change",
    "claimed": "change",
    "not claimed": "soft",
    "remove": "go",
    "empty": "go",
    "dummy": "go",
}
"""Colours: what stays, what is changed, what goes. They only repeat the word."""


def _kind(column: str, cell: str) -> str:
    if column in ("tag", "code", "CID 7050", "VR", "group"):
        return ' class="tag"'
    if column in ("applies to", "reason"):
        return ' class="loose"'
    kind = _ACTIONS.get(cell) or ("go" if cell.startswith("set") and column == "profile" else None)
    return f' class="{kind}"' if kind else ""


def _cell(text: str) -> str:
    """A cell; digests may be broken anywhere, keywords of attributes between their words."""
    if len(text) == 64 and text.isalnum():
        return f"<code>{escape(text)}</code>"
    return _WORD.sub("<wbr>", escape(text))


_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[a-z]/)(?=[A-Z])")

_STYLE = """
:root { color-scheme: light; --ink: #1c2430; --soft: #5b6675; --line: #d5dbe3; --head: #eef2f6; --blue: #1f4e79;
  --keep: #8a4b00; --change: #1f4e79; --go: #1d6b3a; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 2rem 1.5rem 4rem; color: var(--ink); background: #fff;
  font: 15px/1.5 "Source Sans 3", "Segoe UI", "Helvetica Neue", Arial, "Liberation Sans", sans-serif; }
h1 { margin: 0; font-size: 1.9rem; line-height: 1.2; color: var(--blue); }
h2 { margin: 2.4rem 0 .6rem; padding-bottom: .2rem; font-size: 1.2rem; color: var(--blue);
  border-bottom: 2px solid var(--line); }
.subtitle { margin: .3rem 0 1.2rem; font-size: 1.1rem; color: var(--soft); }
p, ul { max-width: 52rem; margin: .5rem 0 .8rem; }
li { margin: .25rem 0; }
nav ol { columns: 2; max-width: 52rem; padding-left: 1.6rem; }
a { color: var(--blue); }
table { width: 100%; border-collapse: collapse; margin: .8rem 0; font-size: .86rem; line-height: 1.35; }
th, td { text-align: left; vertical-align: top; padding: .22rem .55rem .22rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: break-word; }
thead th { background: var(--head); border-bottom: 2px solid var(--line); padding-top: .4rem; font-weight: 600; }
thead th:first-child, tbody td:first-child { padding-left: .4rem; }
.facts { width: auto; max-width: 52rem; }
.facts th { font-weight: 600; color: var(--soft); white-space: nowrap; padding-right: 1.5rem; }
code, .loose { overflow-wrap: anywhere; }
.loose { min-width: 11rem; }
code, .tag { font-family: "Source Code Pro", Consolas, "Liberation Mono", monospace; font-size: .92em; }
.tag { white-space: nowrap; }
.keep { color: var(--keep); font-weight: 600; white-space: nowrap; }
.change { color: var(--change); white-space: nowrap; }
.go { color: var(--go); white-space: nowrap; }
.soft { color: var(--soft); white-space: nowrap; }
.sign { display: grid; grid-template-columns: 2fr 2fr 1fr; gap: 1.5rem; margin-top: 3.2rem; }
.sign p { margin: 0; border-top: 1px solid var(--ink); padding-top: .2rem; color: var(--soft); font-size: .86rem; }
@page { size: A4; margin: 16mm 14mm; }
@media print {
  body { max-width: none; padding: 0; font-size: 9.5pt; }
  table { font-size: 7.6pt; }
  nav { display: none; }
  thead { display: table-header-group; }
  tr, .sign { break-inside: avoid; }
  h2 { break-after: avoid; }
  .signatures { break-inside: avoid; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
}
"""
