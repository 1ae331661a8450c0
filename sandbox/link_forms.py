"""Links that a browser opens and that a strict parser refuses."""

from collections.abc import Callable, Mapping

#: Folders below `/files` that link forms name. A file lies in each of them.
BLANK_FOLDER, NON_ASCII_FOLDER = "two words", "grün"
_ODD_FOLDER = f"{BLANK_FOLDER} {NON_ASCII_FOLDER}"
#: Every folder. The empty name is `/files` itself.
FOLDERS = frozenset({"", BLANK_FOLDER, NON_ASCII_FOLDER, _ODD_FOLDER})


def _in_folder(folder: str) -> Callable[[str], str]:
    return lambda link: link.replace("/files/", f"/files/{folder}/", 1)


_FORMS: Mapping[str, Callable[[str], str]] = {
    "upper_scheme": lambda link: link.replace("http", "HTTP", 1),
    "spaces": lambda link: f"  {link} ",
    "newline": lambda link: f"{link}\n",
    "blank": _in_folder(BLANK_FOLDER),
    "non_ascii": _in_folder(NON_ASCII_FOLDER),
    "no_scheme": lambda link: link.partition(":")[2],
}


def shape_link(link: str, form: str | None) -> str:
    """Return the link in the form of `link_form`."""
    return link if form is None else _FORMS[form](link)


def odd_location(link: str) -> str:
    """Return the same link with a blank and a letter ü in its path, as raw bytes in Latin-1."""
    return _in_folder(_ODD_FOLDER)(link).encode().decode("latin-1")
