"""The closed lists of the faults that change the form of an answer, a callback, a link or a file.

Each list is the value of one fault. The module in the comment applies it.
"""

from .choices import Choice, choices

#: Values of `thin_success`; `thin_success.py`.
THIN_SUCCESSES = choices(
    Choice("both", "queries and callbacks", takes_seconds=True),
    Choice("query", "only queries", takes_seconds=True),
    Choice("callback", "only callbacks; queries have the result at once", takes_seconds=True),
    Choice("corrected", "only the first callback; one with the result follows it"),
)
#: Values of `thin_form`; `thin_success.py`.
THIN_FORMS = choices(
    Choice("empty", "an empty list; UniAll has null"),
    Choice("none", "null"),
    Choice("missing", "the field is missing"),
    Choice("blank", "an empty text"),
)
#: Values of `result_form`; `result_forms.py`.
RESULT_FORMS = choices(
    Choice("strings", "a list of links"),
    Choice("objects", "a list of objects with `url`"),
    Choice("string", "the first link as a text"),
    Choice("object", "one object with `url`, the first link"),
    Choice("text", "a JSON text of a list of links"),
    Choice("twice", "JSON text of a JSON text of an object with `resultUrls`"),
    Choice("data_url", "the usual form, with `data:` URLs that hold the images"),
    Choice("b64_json", "a list of objects with `b64_json`; there is no link"),
)
#: Values of `state_form`; `state_forms.py`.
STATE_FORMS = choices(
    Choice("upper", "in upper case"),
    Choice("title", "with a capital"),
    Choice("blanks", "with a blank before it and a line break after it"),
    Choice("synonym", "terminal states in another provider's word, such as `completed`"),
    Choice("done", "every success is `done` and every failure is `error`"),
)
#: Values of `odd_json`; `odd_json.py`.
ODD_JSON_FORMS = choices(
    Choice("bom", "begins with a byte order mark"),
    Choice("surrogate", "a text ends with half of an emoji, as in a prompt that was cut"),
    Choice("nan", "a number is `NaN`"),
    Choice("huge_number", "a number is `1e400`"),
    Choice("long_integer", "a number has 5000 digits"),
    Choice("control", "a text has a raw line break and a raw tab"),
    Choice("invalid_utf8", "a text has a byte that is not UTF-8"),
    Choice("deep", "a field is a list in a list, 5000 deep; a client may refuse it"),
)
#: Values of `envelope`; `envelopes.py`.
ENVELOPES = choices(
    Choice("data", '`{"code": 200, "message": "success", "data": {…}}`'),
    Choice("list", "a list of one"),
    Choice("text", "a JSON text of the JSON"),
    Choice("form", "form-encoded, with one field for each field of the task"),
    Choice("form_data", "form-encoded, with the JSON in the field `data`"),
    Choice("gzip", "compressed, with `Content-Encoding: gzip`"),
)
#: Values of `link_form`; `link_forms.py`.
LINK_FORMS = choices(
    Choice("upper_scheme", "`HTTP://…`"),
    Choice("spaces", "blanks before and after the link"),
    Choice("newline", "a line break after the link"),
    Choice("blank", "a raw blank in the path"),
    Choice("non_ascii", "a letter ü in the path"),
    Choice("no_scheme", "`//host/…`, which means https; a proxy with TLS must be in front"),
)
#: Values of `early_hints`; `server.py`.
INTERIM_STATUSES = choices(
    Choice("100", "100 Continue"),
    Choice("102", "102 Processing"),
    Choice("103", "103 Early Hints with a `Link`"),
)
#: Values of `encoding`; `files.py`.
ENCODINGS = choices(
    Choice("empty", "an empty value"),
    Choice("aws-chunked", "`aws-chunked`; the body is not chunked"),
    Choice("aws-chunked+gzip", "`aws-chunked,gzip`; the body is compressed"),
    Choice("utf-8", "`utf-8`"),
    Choice("binary", "`binary`"),
    Choice("none", "`none`"),
    Choice("identity", "`identity`"),
    Choice("gzip", "`gzip`; the body is compressed"),
    Choice("br", "`br`; the body is compressed"),
    Choice("zstd", "`zstd`; the body is compressed"),
    Choice("not_gzip", "`gzip`; the body is not compressed"),
)
#: Values of `expire_at`; `hiapi.py`.
EXPIRY_FORMS = choices(
    Choice("seconds", "3600, a number of seconds"),
    Choice("past", "an hour ago"),
    Choice("milliseconds", "Unix milliseconds"),
    Choice("text", "a time as text"),
    Choice("missing", "the field is missing"),
)
#: Values of `query`: the status of the refusal; `provider.py`.
QUERY_REFUSALS = choices(
    *(
        Choice(status, f"{words}", takes_seconds=True)
        for status, words in (
            ("401", "the key is refused"),
            ("403", "access is denied"),
            ("404", "the task does not exist"),
            ("429", "the rate limit is exceeded"),
            ("500", "an internal error"),
            ("502", "a bad gateway, in the provider's own words"),
            ("503", "the service is not available"),
        )
    )
)
#: HTTP statuses of `400` and `402`. The body does not change.
REFUSAL_STATUSES = choices(
    *(Choice(status, f"HTTP status {status}") for status in ("200", "400", "402", "403", "502"))
)
