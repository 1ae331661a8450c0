"""The settings of one sandbox."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .rule_spec import RuleSpec


@dataclass(frozen=True, kw_only=True)
class SandboxSettings:
    """The settings of one sandbox. `python -m sandbox --help` lists most of them."""

    host: str = "127.0.0.1"
    #: TCP port. 0 picks a free port.
    port: int = 8700
    #: The API key that every emulated provider accepts.
    api_key: str = "sandbox"
    #: Secrets that sign callbacks, by provider. The callbacks of others are unsigned.
    webhook_secrets: Mapping[str, str] = field(default_factory=dict)
    #: A secret `whsec_…` that the inbox verifies notifications with. None verifies nothing.
    inbox_secret: str | None = None
    #: Tasks that a provider with a limit runs at the same time. It refuses one more.
    max_active_tasks: int = 100
    #: Most tasks in flight of each provider. It replaces the provider's own limit.
    max_in_flight: Mapping[str, int] = field(default_factory=dict)
    #: Run time of a task without the fault `slow`. Seconds.
    task_seconds: float = 1.0
    #: How much run times differ: the standard deviation of their natural logarithm. With 0.3, two
    #: thirds of the tasks take 0.74 to 1.35 times `task_seconds`. 0 gives every task the same time.
    task_spread: float = 0.0
    #: True also accepts callback URLs with plain HTTP or a private address.
    allow_http: bool = False
    #: Delays before each retry of a callback, in seconds. None uses the provider's delays.
    callback_retry_seconds: tuple[float, ...] | None = None
    #: The rules of a fault script, as `sandbox.script.read_script` returns them.
    rules: tuple[RuleSpec, ...] = ()
    #: Decides which submissions the share of a rule hits, and the run times.
    seed: int = 0
