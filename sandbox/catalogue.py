"""The closed list of faults."""

from collections.abc import Mapping

from . import answer_forms as forms
from .fault_kinds import FaultKind, Stage, ValueKind
from .file_kinds import FILE_KINDS
from .link_faults import LINK_KINDS

_SUBMISSION_KINDS = (
    FaultKind(
        "400",
        Stage.SUBMISSION,
        "refused as invalid, with this HTTP status; not charged",
        ValueKind.STATUS,
        choices=forms.REFUSAL_STATUSES,
    ),
    FaultKind("401", Stage.SUBMISSION, "refused because the key is wrong; not charged"),
    FaultKind(
        "402",
        Stage.SUBMISSION,
        "refused because credits are missing, with this HTTP status; not charged",
        ValueKind.STATUS,
        choices=forms.REFUSAL_STATUSES,
    ),
    FaultKind("403", Stage.SUBMISSION, "refused because access is denied; not charged"),
    FaultKind(
        "429",
        Stage.SUBMISSION,
        "refused by the rate limit; not charged",
        ValueKind.WAIT,
        default=1.0,
        value_field="retry_after",
    ),
    FaultKind("500", Stage.SUBMISSION, "refused with the provider's own 500; not charged"),
    FaultKind(
        "503",
        Stage.SUBMISSION,
        "refused with the provider's own 503; not charged",
        ValueKind.WAIT,
        default="missing",
        value_field="retry_after",
    ),
    FaultKind(
        "stale_connection",
        Stage.SUBMISSION,
        "a connection that had a request before closes without an answer; not charged",
    ),
    FaultKind("502_html", Stage.SUBMISSION, "created and charged; the answer is a gateway's page"),
    FaultKind("504", Stage.SUBMISSION, "created and charged; the answer is the provider's own 504"),
    FaultKind(
        "lost_response",
        Stage.SUBMISSION,
        "created and charged; the connection closes without an answer",
    ),
    FaultKind(
        "trickle",
        Stage.SUBMISSION,
        "created and charged; the header of the answer comes byte by byte in this time",
        ValueKind.SECONDS,
        default=60.0,
    ),
    # The default is longer than the 30 seconds that clients usually wait.
    FaultKind(
        "hang",
        Stage.SUBMISSION,
        "created and charged; the answer comes after this time",
        ValueKind.SECONDS,
        default=60.0,
    ),
)
_CALLBACK_KINDS = (
    FaultKind("drop", Stage.TASK, "no callback is sent"),
    FaultKind(
        "duplicate",
        Stage.TASK,
        "the terminal callback is sent N times at the same time",
        ValueKind.COUNT,
        default=2,
    ),
    FaultKind("early", Stage.TASK, "the callback is answered before the submission is answered"),
    FaultKind(
        "late",
        Stage.TASK,
        "the callback is sent this long after the task ended",
        ValueKind.SECONDS,
        default=None,
    ),
    FaultKind("conflict", Stage.TASK, "a callback with the opposite outcome follows the true one"),
    FaultKind("forged", Stage.TASK, "forged callbacks are sent before the true one"),
    FaultKind(
        "envelope",
        Stage.TASK,
        "callbacks are wrapped in this form",
        ValueKind.CHOICE,
        default="data",
        choices=forms.ENVELOPES,
    ),
)
_OUTCOME_KINDS = (
    FaultKind("fail", Stage.TASK, "the task fails for a reason or with a code", ValueKind.CODE),
    FaultKind("cancelled", Stage.TASK, "the task ends as cancelled"),
    FaultKind("slow", Stage.TASK, "the task runs this long", ValueKind.SECONDS, default=None),
    FaultKind("forget", Stage.TASK, "queries answer that the task does not exist"),
    FaultKind(
        "query",
        Stage.TASK,
        "queries are refused with this status, this long after the submission, N times",
        ValueKind.COUNTED_CHOICE,
        default="404*1",
        choices=forms.QUERY_REFUSALS,
    ),
    FaultKind(
        "thin_success",
        Stage.TASK,
        "the task succeeds, but its result is missing for some time, N times or always",
        ValueKind.COUNTED_CHOICE,
        default="both*2",
        choices=forms.THIN_SUCCESSES,
    ),
    FaultKind(
        "thin_form",
        Stage.TASK,
        "how the result of a thin success is missing",
        ValueKind.CHOICE,
        default=None,
        choices=forms.THIN_FORMS,
    ),
    FaultKind(
        "thin_reason",
        Stage.TASK,
        "a thin success names a reason, as a failure does",
        ValueKind.CODE,
    ),
)
_FORM_KINDS = (
    FaultKind(
        "result_form",
        Stage.TASK,
        "the result has another form",
        ValueKind.CHOICE,
        default=None,
        choices=forms.RESULT_FORMS,
    ),
    FaultKind(
        "state_form",
        Stage.TASK,
        "the state is spelled in another way",
        ValueKind.CHOICE,
        default="upper",
        choices=forms.STATE_FORMS,
    ),
    FaultKind(
        "odd_json",
        Stage.TASK,
        "answers and callbacks are JSON that strict parsers refuse",
        ValueKind.CHOICE,
        default="bom",
        choices=forms.ODD_JSON_FORMS,
    ),
    FaultKind(
        "early_hints",
        Stage.TASK,
        "an interim answer precedes every answer and image",
        ValueKind.STATUS,
        default="103",
        choices=forms.INTERIM_STATUSES,
    ),
    FaultKind(
        "expire_at",
        Stage.TASK,
        "the time when a link expires has another form",
        ValueKind.CHOICE,
        default=None,
        choices=forms.EXPIRY_FORMS,
    ),
)
_IMAGE_KINDS = (
    FaultKind("placeholder_image", Stage.TASK, "the image link answers 200 with an HTML page"),
    FaultKind(
        "expire_links",
        Stage.TASK,
        "image links expire this long after the task ended",
        ValueKind.SECONDS,
        default=None,
    ),
    FaultKind(
        "link_form",
        Stage.TASK,
        "image links are written as only a browser accepts them",
        ValueKind.CHOICE,
        default=None,
        choices=forms.LINK_FORMS,
    ),
    FaultKind(
        "encoding",
        Stage.TASK,
        "the image has this Content-Encoding",
        ValueKind.CHOICE,
        default=None,
        choices=forms.ENCODINGS,
    ),
    FaultKind(
        "file",
        Stage.TASK,
        "the image link leads to a file of this kind",
        ValueKind.CHOICE,
        default=None,
        choices=FILE_KINDS,
    ),
    FaultKind(
        "image",
        Stage.TASK,
        "the image link fails in one of the ways below",
        ValueKind.COUNTED_CHOICE,
        default=None,
        choices=LINK_KINDS,
    ),
)

#: Every fault by its name.
CATALOGUE: Mapping[str, FaultKind] = {
    kind.name: kind
    for kind in (
        *_SUBMISSION_KINDS,
        *_CALLBACK_KINDS,
        *_OUTCOME_KINDS,
        *_FORM_KINDS,
        *_IMAGE_KINDS,
    )
}

#: The faults that create no task. Each name is the status of the refusal.
REFUSALS = frozenset({"400", "401", "402", "403", "429", "500", "503"})

#: The reasons of `fail` and `thin_reason`, with a message. Every provider has its own code for
#: them.
REASONS: Mapping[str, str] = {
    "content_policy": "The content policy does not allow this prompt.",
    "generation_failed": "The image could not be generated.",
    "timeout": "The image was not generated in time.",
    "unavailable": "The model is not available at the moment.",
}
