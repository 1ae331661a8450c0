"""JSON that lenient parsers take and that strict ones refuse."""

from collections.abc import Mapping

#: Depth of `deep`. More than the recursion limit of Python.
_DEPTH = 5000

#: The value of a field that is put at the beginning of the object.
_VALUES: Mapping[str, bytes] = {
    "surrogate": rb'"A red cube \ud83d"',
    "nan": b"NaN",
    "huge_number": b"1e400",
    "long_integer": b"9" * 5000,
    "control": b'"A red\n\tcube"',
    "invalid_utf8": b'"A red caf\xe9"',
    "deep": b"[" * _DEPTH + b"]" * _DEPTH,
}


def make_odd(body: bytes, form: str | None) -> bytes:
    """Return a JSON object in the form of `odd_json`."""
    if form is None:
        return body
    if form == "bom":
        return b"\xef\xbb\xbf" + body
    return b'{"echo":' + _VALUES[form] + b"," + body.lstrip()[1:]
