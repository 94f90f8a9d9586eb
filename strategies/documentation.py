"""What is written about a strategy: a page of docs/strategies, or a file beside a user's own."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from markdown_it import MarkdownIt

from strategies.base import Strategy
from strategies.registry import Registry

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "strategies"
IMAGE_FOLDER = FOLDER.parent / "images" / "strategies"
IMAGES = "/strategies/images/"
LARGEST_CHARACTERS = 200_000
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
# The page shows the title itself, and the parameters as they are, not as they were when somebody wrote.
_NOTHING_BELOW = re.compile(r"^## [^\n]*\n\s*(?=^## |\Z)", re.MULTILINE)
_SENTENCE_END = re.compile(r"(?<=[a-z)][.!?])\s+(?=[A-Z])")
_SHOWN_ANYWAY = re.compile(r"\A\s*# [^\n]*\n|^## Parameters\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)


def documentation(registry: Registry, key: str) -> str:
    """HTML. Markup of its own has no effect in it, whoever wrote it."""
    kind, own = registry[key], registry.file(key)
    path = FOLDER / f"{key}.md" if own is None else own.path.with_suffix(".md")
    try:
        text = path.read_text()[:LARGEST_CHARACTERS]
    except (OSError, UnicodeDecodeError):
        text = _own_words(kind)
    return rendered(_NOTHING_BELOW.sub("", _SHOWN_ANYWAY.sub("", _COMMENT.sub("", text))))


def summary(kind: type[Strategy]) -> str:
    """Its first sentence."""
    return _SENTENCE_END.split(_own_words(kind).replace("\n", " "), maxsplit=1)[0]


def rendered(text: str) -> str:
    markdown = MarkdownIt("commonmark", {"html": False}).enable(["table"])
    tokens = markdown.parse(text)
    for token in tokens:
        for child in token.children or ():
            if child.type == "image":
                source = str(child.attrs.get("src", ""))
                name = source.rsplit("/", 1)[-1]
                # Images of the documentation only: another address would tell a stranger who reads what.
                child.attrs["src"] = f"{IMAGES}{name}"
    html: str = markdown.renderer.render(tokens, markdown.options, {})
    return html.replace("<table>", '<div class="table-scroll"><table class="rows">').replace(
        "</table>", "</table></div>"
    )


def _own_words(kind: type[Strategy]) -> str:
    module = inspect.getmodule(kind)
    return inspect.cleandoc(kind.__doc__ or (module.__doc__ if module is not None else "") or kind.title)
