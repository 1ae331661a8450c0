"""The settings of one provider, typed and checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.ledger import ProviderLimits
from orchestrator.ledger.admission import NO_LIMITS
from orchestrator.ledger.identifiers import MAX_SHARDS
from orchestrator.providers import Provider
from orchestrator.providers.prices import ANY, BadPrices, PriceTable
from orchestrator.security.secret import Secret
from orchestrator.settings.environment import (
    HTTP,
    ConfigError,
    EnvironmentReader,
    invalid_setting,
)

#: Steps of each provider that one worker process does at once. They mostly wait for its answers.
DEFAULT_CONCURRENCY = 1024
#: The most steps of a provider at once. Each may hold a connection to it.
MAX_CONCURRENCY = 8192


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """The settings of one enabled provider. Times are in seconds."""

    api_key: Secret
    base_url: str
    poll_seconds: float
    max_poll_seconds: float
    #: Submit and poll steps that one worker process does at once. They share one thread.
    concurrency: int = DEFAULT_CONCURRENCY
    confirm_callbacks: bool = False
    webhook_secrets: tuple[Secret, ...] = ()
    #: The address of the public keys that sign the callbacks.
    jwks_url: str | None = None
    prices: PriceTable | None = None
    limits: ProviderLimits = NO_LIMITS

    @classmethod
    def from_env(cls, env: EnvironmentReader, provider: Provider) -> ProviderSettings | None:
        """Read the settings of a provider. A provider without an API key is not enabled: None.

        Raises:
            ConfigError: for the first variable that is wrong.
        """
        prefix = provider.name.upper()
        api_key = env.secret(f"{prefix}_API_KEY")
        if api_key is None:
            return None
        first = env.number(f"{prefix}_POLL_SECONDS", provider.poll_seconds, 0.1, 3600)
        longest = max(first, provider.max_poll_seconds)
        return cls(
            api_key=api_key,
            base_url=_base_url(env, provider),
            poll_seconds=first,
            max_poll_seconds=env.number(f"{prefix}_MAX_POLL_SECONDS", longest, first, 86_400),
            concurrency=env.whole(f"{prefix}_THREADS", DEFAULT_CONCURRENCY, 1, MAX_CONCURRENCY),
            confirm_callbacks=provider.capabilities.callbacks
            and env.boolean(f"{prefix}_CONFIRM_CALLBACKS", default=False),
            webhook_secrets=tuple(_webhook_secrets(env, provider)),
            jwks_url=_jwks_url(env, provider),
            prices=_prices(env, provider),
            limits=_limits(env, prefix),
        )


#: What the names of a provider's variables end with.
_SUFFIXES = (
    "API_KEY",
    "BASE_URL",
    "BURST",
    "CONFIRM_CALLBACKS",
    "JWKS_URL",
    "MAX_IN_FLIGHT",
    "MAX_POLL_SECONDS",
    "POLL_SECONDS",
    "PRICES",
    "REQUESTS_PER_SECOND",
    "THREADS",
    "WEBHOOK_SECRET",
    "WEBHOOK_SECRETS_OLD",
)


def provider_variables(provider: Provider) -> frozenset[str]:
    """Return the names of the variables that are read for a provider."""
    left_out = set()
    if not provider.capabilities.callbacks:
        left_out.add("CONFIRM_CALLBACKS")
    if not provider.capabilities.signed_callbacks:
        left_out |= {"WEBHOOK_SECRET", "WEBHOOK_SECRETS_OLD"}
    if provider.capabilities.jwks_url is None:
        left_out.add("JWKS_URL")
    return frozenset(
        f"{provider.name.upper()}_{each}" for each in _SUFFIXES if each not in left_out
    )


def shards_of(env: EnvironmentReader) -> int:
    """Read the number of shards."""
    return env.whole("ORCHESTRATOR_SHARDS", 1, 1, MAX_SHARDS)


def _limits(env: EnvironmentReader, prefix: str) -> ProviderLimits:
    most, rate = f"{prefix}_MAX_IN_FLIGHT", f"{prefix}_REQUESTS_PER_SECOND"
    shards = shards_of(env)
    # Each shard has a share of the limit. A share of zero would stop its jobs for ever.
    return ProviderLimits(
        max_in_flight=env.whole(most, shards, shards, 1_000_000) if env.optional(most) else None,
        requests_per_second=env.number(rate, 1, 0.001, 100_000) if env.optional(rate) else None,
        burst=env.whole(f"{prefix}_BURST", 1, 1, 100_000),
    )


def _base_url(env: EnvironmentReader, provider: Provider) -> str:
    name = f"{provider.name.upper()}_BASE_URL"
    if provider.base_url is None and env.optional(name) is None:
        reason = f"{provider.title}'s documents name no address."
        raise ConfigError(f"{name} is not set. {reason} Set it to https://<host> of your account.")
    return env.url(name, HTTP, provider.base_url or "").rstrip("/")


def _jwks_url(env: EnvironmentReader, provider: Provider) -> str | None:
    default = provider.capabilities.jwks_url
    return env.url(f"{provider.name.upper()}_JWKS_URL", HTTP, default) if default else None


def _prices(env: EnvironmentReader, provider: Provider) -> PriceTable | None:
    name = f"{provider.name.upper()}_PRICES"
    text = env.lines(name)
    if text is None:
        return None
    try:
        table = PriceTable.parse(text)
    except BadPrices as error:
        raise invalid_setting(name, text, str(error)) from None
    unknown = [model for model in table.prices if model not in (ANY, *provider.models)]
    if unknown and provider.unlisted is None:
        known = ", ".join(provider.models)
        allowed = f"prices of the models {known}; {unknown[0]!r} is not one of them"
        raise invalid_setting(name, text, allowed)
    return table


def _webhook_secrets(env: EnvironmentReader, provider: Provider) -> Iterator[Secret]:
    if not provider.capabilities.signed_callbacks:
        return
    prefix = provider.name.upper()
    current, older = f"{prefix}_WEBHOOK_SECRET", f"{prefix}_WEBHOOK_SECRETS_OLD"
    secret = env.secret(current)
    if secret is None:
        return
    given = [(current, secret), *((older, Secret(text)) for text in env.items(older))]
    for name, each in given:
        allowed = provider.webhook_secret_refusal(each.reveal())
        if allowed:
            raise invalid_setting(name, "***", allowed)
        yield each
