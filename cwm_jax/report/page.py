"""Self-contained HTML pages: one file, nothing loaded from anywhere, light and dark, fit to print.

    Page("Title").add(heading("Results"), prose("What came out."), table(header, rows)).write("report.html")

Blocks escape every text they are given; `raw` alone takes markup as it is.
"""

import html
import re
from dataclasses import dataclass
from pathlib import Path

from cwm_jax.files import write_whole

ASSETS = Path(__file__).parent / "assets"

# The page may run and style itself and load nothing: a browser then holds us to "self-contained".
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True)
class Block:
    """A piece of a page.

    Attributes:
      html: its markup.
      assets: names of the style sheets and scripts in `assets/` that it needs; a page inlines each once.
      contents: `(anchor, text)` where the block belongs into the page's table of contents.
    """

    html: str
    assets: tuple[str, ...] = ()
    contents: tuple[str, str] | None = None


def escape(text: object) -> str:
    """`str(text)` as HTML text or attribute value; lone surrogates, which no file can hold, spelled out."""
    return html.escape(str(text)).encode("utf-8", "backslashreplace").decode()


class Page:
    """A page in the making: blocks in order.

    Args:
      title: shown on top and in the browser's tab.
      lead: one sentence below the title.
    """

    def __init__(self, title: str, lead: str = ""):
        self.title, self.lead = title, lead
        self._blocks: list[Block] = []

    def add(self, *blocks: Block) -> "Page":
        self._blocks.extend(blocks)
        return self

    def html(self) -> str:
        """The whole document."""
        names = dict.fromkeys(["page.css", *(name for block in self._blocks for name in block.assets)])
        assets = {name: (ASSETS / name).read_text(encoding="utf-8") for name in names}
        styles = "\n".join(text for name, text in assets.items() if name.endswith(".css"))
        scripts = "\n".join(text for name, text in assets.items() if name.endswith(".js"))
        entries = [block.contents for block in self._blocks if block.contents]
        contents = "".join(f'<a href="#{escape(anchor)}">{escape(text)}</a>' for anchor, text in entries)
        return "\n".join(
            [
                '<!doctype html><html lang="en"><head><meta charset="utf-8">',
                f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
                '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">',
                f"<title>{escape(self.title)}</title><style>{styles}</style></head><body>",
                f"<header><h1>{escape(self.title)}</h1>{f'<p>{_inline(self.lead)}</p>' if self.lead else ''}</header>",
                f'<nav aria-label="Contents">{contents}</nav>' if len(entries) > 2 else "",
                "<main>",
                *(block.html for block in self._blocks),
                f"</main><script>{scripts}</script></body></html>\n",
            ]
        )

    def write(self, path: str | Path) -> Path:
        """Writes the page to `path`, whole or not at all; an older file there is replaced."""
        write_whole(path, self.html())
        return Path(path)


def heading(text: str, level: int = 2) -> Block:
    """A heading; those of level 2 make up the table of contents."""
    anchor = re.sub(r"\W+", "-", text.lower()).strip("-")
    markup = f'<h{level} id="{escape(anchor)}">{escape(text)}</h{level}>'
    return Block(markup, contents=(anchor, text) if level == 2 else None)


def prose(text: str) -> Block:
    """Paragraphs, parted by empty lines; `backticks` set code."""
    return Block("".join(f"<p>{_inline(paragraph)}</p>" for paragraph in re.split(r"\n\s*\n", text.strip())))


def _inline(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def key_figures(figures: list[tuple[str, str, str]]) -> Block:
    """Large numbers in a row, from `(label, value, note)`; the note may be empty."""
    cards = (
        f"<div><dt>{escape(label)}</dt><dd>{escape(value)}</dd>{f'<dd>{escape(note)}</dd>' if note else ''}</div>"
        for label, value, note in figures
    )
    return Block(f'<dl class="figures">{"".join(cards)}</dl>')


def table(header: list[str], rows: list[list[object]]) -> Block:
    """A table whose first column names the rows; the other columns are set flush right. Cells may be `Block`s."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    body = "".join(
        f'<tr><th scope="row">{_cell(first)}</th>{"".join(f"<td>{_cell(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return Block(
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(header[0])}, a table">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(cell: object) -> str:
    return cell.html if isinstance(cell, Block) else escape(cell)


def code(text: str) -> Block:
    """Preformatted text."""
    return Block(f'<pre class="code" tabindex="0">{escape(text)}</pre>')


def folded(summary: str, *blocks: Block) -> Block:
    """Blocks that open when `summary` is clicked."""
    inner = "".join(block.html for block in blocks)
    assets = tuple(name for block in blocks for name in block.assets)
    return Block(f"<details><summary>{escape(summary)}</summary>{inner}</details>", assets)


def side_by_side(*blocks: Block) -> Block:
    """Blocks beside each other where the window is wide enough."""
    inner = "".join(f"<div>{block.html}</div>" for block in blocks)
    return Block(f'<div class="beside">{inner}</div>', tuple(name for block in blocks for name in block.assets))


def raw(markup: str) -> Block:
    """Markup as it is; the caller answers for it."""
    return Block(markup)
