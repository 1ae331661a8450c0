"""The arguments of the tools. The API checks what the values mean."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, field_validator

#: The longest wait of one call. Many clients give up after 30 s or more. Seconds.
MAX_WAIT_SECONDS = 25.0
#: A key stands in an HTTP header, where other characters and blanks at the ends do not survive.
KEY_PATTERN = "^[!-~]([ -~]*[!-~])?$"
#: An id stands in a path, where `.`, `..` and an empty id would lead to another call.
JOB_ID_PATTERN = "^[0-9A-Za-z_-]+$"
#: What the patterns allow, in words.
PATTERNS = {
    KEY_PATTERN: "printable ASCII, without blanks at its ends",
    JOB_ID_PATTERN: "the job_id of submit_image_job or list_jobs, such as job_01k...",
}
#: The longest name of a provider that is looked for.
MAX_PROVIDER_CHARACTERS = 80
#: The most levels of a value that is sent. The API takes fewer, and says how many.
MAX_LEVELS = 100
#: What a value must be that can be sent.
SENDABLE = (
    "must be JSON without NaN, Infinity and halves of surrogate pairs,"
    f" at most {MAX_LEVELS} levels deep"
)


def _parsed(value: Any) -> Any:
    """Return the value of a JSON text. Some agents write lists and objects as text."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value
    except RecursionError:
        raise ValueError(SENDABLE) from None


def _is_deep(value: Any, levels: int) -> bool:
    """Return whether a value has more levels of objects and lists than this."""
    if not isinstance(value, dict | list):
        return False
    children = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deep(child, levels - 1) for child in children)


Written = BeforeValidator(_parsed)
_ANYTHING: TypeAdapter[Any] = TypeAdapter(Any)
Status = Literal[
    "queued", "submitting", "unconfirmed", "running", "succeeded", "failed", "cancelled"
]
JobId = Annotated[
    str,
    Field(
        max_length=80,
        pattern=JOB_ID_PATTERN,
        description="The job_id of submit_image_job, such as job_01k...",
    ),
]


class Arguments(BaseModel):
    """The arguments of a tool. A misspelt one is refused, because it could change the result."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    @field_validator("*", mode="after")
    @classmethod
    def _can_be_sent(cls, value: Any) -> Any:
        """Refuse what no JSON can carry, so that the agent learns which argument is wrong."""
        if _is_deep(value, MAX_LEVELS):
            raise ValueError(SENDABLE)
        try:
            json.dumps(_ANYTHING.dump_python(value), allow_nan=False, ensure_ascii=False).encode()
        except ValueError:
            raise ValueError(SENDABLE) from None
        return value


class Target(Arguments):
    """A provider that is tried next, with its model."""

    provider: str
    model: str


class WantedImages(Arguments):
    """What is wanted, from which provider and model."""

    provider: Annotated[str, Field(description="The provider, by its name in list_models.")]
    model: Annotated[
        str | None,
        Field(description="A model or a family of this provider in list_models."),
    ] = None
    prompt: Annotated[str | None, Field(description="What the image shows.")] = None
    images: Annotated[
        list[str] | None,
        Written,
        Field(description="Reference images: public https links that the provider can load."),
    ] = None
    aspect_ratio: Annotated[str | None, Field(description="Such as 16:9.")] = None
    resolution: Annotated[str | None, Field(description="Such as 1K, 2K or 4K.")] = None
    output_format: Annotated[str | None, Field(description="Such as png, jpeg or webp.")] = None
    n: Annotated[
        int | None, Field(description="The number of images. Many models make one only.")
    ] = None
    provider_options: Annotated[
        dict[str, Any] | None,
        Written,
        Field(description="More fields of the provider's own body, merged last."),
    ] = None
    request: Annotated[
        dict[str, Any] | None,
        Written,
        Field(
            description="The provider's own body, in place of prompt, images and the other options."
        ),
    ] = None
    metadata: Annotated[
        dict[str, Any] | None, Written, Field(description="Your own data. It returns with the job.")
    ] = None
    deadline_seconds: Annotated[
        float | None, Field(description="The job fails after this time. Seconds.")
    ] = None
    on_unconfirmed: Annotated[
        Literal["fail", "resubmit"] | None,
        Field(
            description="What happens when nobody knows whether the provider accepted the request:"
            " fail (the default), or resubmit with the risk of paying twice."
        ),
    ] = None
    fallback: Annotated[
        list[Target] | None,
        Written,
        Field(
            description="Providers that are tried next, in order. The next one is tried only when"
            " the one before has certainly not accepted the job."
        ),
    ] = None

    def body(self) -> dict[str, Any]:
        """Return the body of the API call."""
        return self.model_dump(exclude={"key"}, exclude_none=True)


class SubmitArguments(WantedImages):
    """The arguments of `submit_image_job`."""

    key: Annotated[
        str,
        Field(
            max_length=255,
            pattern=KEY_PATTERN,
            description="Names the wanted result, and makes the call safe to repeat. Choose it once"
            " for each wanted image, before the first call, for example"
            " 'invitation-anna-front-v1', and write it down. After a crash, a time-out or a lost"
            " answer, call again with the same key and the same arguments: you get the same job,"
            " and nothing is bought twice. Another image needs another key. Printable ASCII.",
        ),
    ]


class WaitArguments(Arguments):
    """The arguments of `wait_for_job`."""

    job_id: JobId
    seconds: Annotated[
        float,
        Field(ge=0, le=MAX_WAIT_SECONDS, description="The longest wait. Seconds."),
    ] = MAX_WAIT_SECONDS


class JobArguments(Arguments):
    """The arguments of a tool about one job."""

    job_id: JobId


class ImageArguments(JobArguments):
    """The arguments of `view_image`."""

    index: Annotated[int, Field(ge=0, description="The number of the image, from 0.")] = 0


class ModelsArguments(Arguments):
    """The arguments of `list_models`."""

    provider: Annotated[
        str | None,
        Field(
            max_length=MAX_PROVIDER_CHARACTERS,
            description="Show this provider only, with the options and limits of each model.",
        ),
    ] = None


class JobsArguments(Arguments):
    """The arguments of `list_jobs`."""

    key: Annotated[
        str | None,
        Field(description="The key of submit_image_job: finds its job."),
    ] = None
    status: Annotated[
        Literal[
            "queued", "submitting", "unconfirmed", "running", "succeeded", "failed", "cancelled"
        ]
        | None,
        Field(description="Only jobs in this state."),
    ] = None
    provider: Annotated[str | None, Field(description="Only jobs of this provider.")] = None
    limit: Annotated[int, Field(ge=1, le=50, description="The most jobs of a page.")] = 10
    cursor: Annotated[str | None, Field(description="The next_cursor of the page before.")] = None
