"""HTML by hand: elements whose texts are escaped, and whole pages that ask nobody for anything."""

import base64
import hashlib
from collections.abc import Callable
from contextlib import suppress
from html import escape
from pathlib import Path

from toolbox.drawings import shown
from toolbox.files import own_path, write_text

HERE = Path(__file__).parent
VOID = {"img", "input", "meta", "link"}  # they have no end
HEAD = 4096  # bytes of a page that its maker's name must be in
LONGEST = 200  # letters of a name on a page


class Html(str):
    """Markup; any other text is escaped where it is put into an element."""


def html_of(content) -> Html:
    """Text, a number, markup, or several of them."""
    if isinstance(content, Html):
        return content
    if content is None:
        return Html()
    if isinstance(content, (list, tuple)):
        return Html("".join(map(html_of, content)))
    # A file's name may hold bytes that are no text.
    return Html(escape(str(content)).encode(errors="backslashreplace").decode())


def element(name: str, /, *content, **attributes) -> Html:
    """<name attributes>content</name>; class_ stands for class and data_x for data-x, None and
    False leave an attribute out."""
    start = name
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        start += " " + key.rstrip("_").replace("_", "-")
        if value is not True:
            start += f'="{html_of(value)}"'
    if name in VOID:
        return Html(f"<{start}>")
    return Html(f"<{start}>{html_of(content)}</{name}>")


def called(name: str) -> str:
    """A class's or file's name as a page shows it."""
    return shown(name, LONGEST)


def percent(share: float | None) -> str:
    if share is None:
        return "–"
    if 0.995 <= share < 1:  # not quite all
        return f"{min(share, 0.9999):.2%}"
    return f"{share:.1%}" if 0 < share < 0.0995 else f"{share:.0%}"


def in_digits(value: float | None) -> str:
    """A score, or a dash where there is none."""
    return "–" if value is None else f"{value:.3f}"


def css_color(color) -> str:
    return "#" + "".join(f"{part:02x}" for part in color)


def swatch(color) -> Html:
    """A patch of a class's colour beside its name, which says the same."""
    return element("span", class_="swatch", style=f"background:{css_color(color)}")


def color_keys(names: list[str], colors: list) -> Html:
    """The classes by their colours."""
    parts = [element("span", swatch(color), called(name)) for name, color in zip(names, colors)]
    return element("p", parts, class_="legend")


def table(caption: str, heads: list, rows: list, **attributes) -> Html:
    """Rows whose first cell names them, under heads; it can be moved sideways where it is wide."""
    first = element("tr", [element("th", head, scope="col") for head in heads])
    body = []
    for name, *others in rows:
        cells = [element("th", name, scope="row"), *(element("td", other) for other in others)]
        body.append(element("tr", cells))
    parts = [element("caption", caption), element("thead", first), element("tbody", body)]
    return scrolled(caption, element("table", parts, **attributes))


def scrolled(name: str, content: Html) -> Html:
    """What is wider than a small screen, to be moved by keys too."""
    return element("div", content, class_="wide", tabindex="0", role="region", aria_label=name)


def section(name: str, title: str, *content) -> Html:
    head = element("h2", title, id=f"{name}-title")
    return element("section", head, content, id=name, aria_labelledby=f"{name}-title")


# ---- whole pages ----


def mark(maker: str) -> str:
    """What stands in each page of a script, and in nobody else's."""
    return f"U-Net page of {maker}"


def policy(script: str) -> str:
    """What the browser is told to allow: pictures inside the page, and this one script."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = ["default-src 'none'", "img-src data:", "style-src 'unsafe-inline'"]
    return "; ".join([*allowed, f"script-src 'sha256-{digest}'"])


def page(maker: str, title: str, script: str, *content) -> str:
    """A document made by one of our scripts, whose own script is a file beside this one."""
    look = (HERE / "look.css").read_text(encoding="utf-8")
    code = (HERE / script).read_text(encoding="utf-8")
    head = [
        element("meta", charset="utf-8"),
        element("meta", name="generator", content=mark(maker)),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy(code)}">'),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("link", rel="icon", href="data:,"),
        element("style", Html(look)),
    ]
    body = element("body", element("main", content), element("script", Html(code)))
    return f'<!DOCTYPE html>\n<html lang="en">\n{element("head", head)}\n{body}\n</html>\n'


def is_page_of(maker: str) -> Callable[[Path], bool]:
    """Whether a file is a page that this script has made."""

    def is_ours(path: Path) -> bool:
        with suppress(OSError):
            if path.is_file():
                with open(path, "rb") as file:
                    return f'content="{mark(maker)}"'.encode() in file.read(HEAD)
        return False

    return is_ours


def put_page(wanted: Path, maker: str, text: str) -> Path:
    """Write a page, beside somebody else's of that name where there is one."""
    path = own_path(wanted, is_page_of(maker))
    if path != wanted:
        print(f"{wanted} is not from {maker}, and stays as it is")
    write_text(path, text)
    return path
