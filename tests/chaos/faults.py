"""What goes wrong at the providers of a chaos run: the sandbox's fault script.

A rule leaves out the providers that cannot have its faults. If two rules set the same fault, the
later rule has priority.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

Rule = tuple[str, Mapping[str, object]]


def _each(share: str, fault: str, *values: str) -> Iterator[Rule]:
    """Yield one rule for each value of a fault."""
    for value in values:
        yield share, {fault: value}


#: Submissions that are refused, or whose answer is lost, late or odd.
_SUBMISSIONS: tuple[Rule, ...] = (
    ("5%", {"429": 1}),
    *_each("1%", "429", "negative", "fraction", "past"),
    ("3%", {"500": None}),
    ("1%", {"503": None}),
    ("3%", {"stale_connection": None}),
    ("1%", {"502_html": None}),
    ("1%", {"504": None}),
    ("3%", {"lost_response": None}),
    ("3%", {"hang": "5s"}),  # Workers die in calls that are in progress.
    ("1%", {"trickle": "5s"}),
)
#: Callbacks that are lost, repeated, early, false or wrapped.
_CALLBACKS: tuple[Rule, ...] = (
    ("20%", {"drop": None}),
    ("20%", {"duplicate": 3}),
    ("10%", {"early": None}),
    ("5%", {"conflict": None}),
    ("5%", {"forged": None}),
    *_each("1%", "envelope", "data", "list", "text", "form", "form_data", "gzip"),
)
#: Tasks that fail, are slow, or succeed without a result at first. A job with a short deadline gets
#: a late result from a task of 9 seconds.
_TASKS: tuple[Rule, ...] = (
    ("5%", {"fail": None}),
    ("3%", {"slow": "4s"}),
    ("2%", {"slow": "9s"}),
    *_each("1%", "query", "404*2", "404/2s*2", "429*1", "500*2"),
    *_each("2%", "thin_success", "both*2", "both/3s", "callback", "corrected"),
    *_each("2%", "thin_form", "none", "missing", "blank"),
    ("2%", {"thin_success": "both*1", "thin_reason": None}),
    ("1%", {"thin_success": "both", "thin_reason": None}),  # These jobs fail.
)
#: Answers in a form that no document describes.
_FORMS: tuple[Rule, ...] = (
    *_each("1%", "odd_json", "bom", "surrogate", "nan", "huge_number", "long_integer"),
    *_each("1%", "odd_json", "control", "invalid_utf8"),
    *_each("1%", "early_hints", "100", "102", "103"),
    *_each("1%", "state_form", "upper", "title", "blanks", "synonym", "done"),
    *_each("1%", "result_form", "strings", "objects", "string", "object", "text", "twice"),
    *_each("1%", "result_form", "data_url", "b64_json"),
    *_each("1%", "expire_at", "seconds", "past", "milliseconds", "text", "missing"),
)
#: Links that are odd, fail or die, and files that are no usual images.
_IMAGES: tuple[Rule, ...] = (
    ("2%", {"expire_links": "1s"}),
    ("5%", {"expire_links": "20s"}),
    ("4%", {"expire_links": "3s", "image": "404"}),  # The archive is given up.
    *_each("2%", "image", *(f"{kind}*1" for kind in ("503", "json", "html", "cut", "short"))),
    *_each("1%", "image", *(f"{kind}*1" for kind in ("xml", "nothing", "redirect_odd"))),
    ("3%", {"image": "slow/3s*1"}),  # Workers die in downloads.
    *_each("1%", "link_form", "upper_scheme", "spaces", "newline", "blank", "non_ascii"),
    *_each("1%", "encoding", "empty", "aws-chunked", "aws-chunked+gzip", "utf-8", "binary"),
    *_each("1%", "encoding", "none", "identity", "gzip", "br", "zstd", "not_gzip"),
    *_each("1%", "file", "octet_stream", "wrong_type", "mpo", "gif", "tiff", "bmp", "jp2"),
    *_each("1%", "file", "heic", "svg", "video", "audio", "tiny", "png_text"),
)

#: Every rule.
FAULTS: tuple[Rule, ...] = (*_SUBMISSIONS, *_CALLBACKS, *_TASKS, *_FORMS, *_IMAGES)
