"""What one sandbox is told when it starts."""

from dataclasses import dataclass

from .rule_spec import Terms


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that can be chosen from outside; see ``python -m sandbox --help``."""

    host: str = "127.0.0.1"
    #: 0 picks a free port
    port: int = 8700
    #: the one API key every emulated provider accepts
    api_key: str = "sandbox"
    #: when set, HiAPI callbacks are signed with it
    hiapi_webhook_secret: str | None = None
    #: when set, the inbox says of each notification whether this `whsec_…` signed it
    inbox_secret: str | None = None
    #: how many tasks AI GPT Image runs at a time before it refuses the next
    aigptimage_active_tasks: int = 100
    #: how long a task runs, in seconds, unless the fault `slow` says otherwise
    task_seconds: float = 1.0
    #: lifts "HTTPS only" and "no private address" for callback URLs
    allow_http: bool = False
    #: waits in seconds before each retry of a callback; None takes each provider's own
    callback_retry_seconds: tuple[float, ...] | None = None
    #: the rules of a fault script; `sandbox.script.read_script` reads them
    rules: tuple[Terms, ...] = ()
    #: decides which submissions a rule's share falls on
    seed: int = 0
