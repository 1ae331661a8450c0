"""Waits until replicas have what was written. So a failover loses nothing that was acknowledged.

WAIT counts the replicas that have the writes of its own connection. So it travels behind the
scripts on the same connection, in the same round trip.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis import Redis, RedisCluster
from redis.cluster import PipelineCommand
from redis.exceptions import AskError, ConnectionError, TimeoutError

from orchestrator.ledger.refusals import LedgerUnavailable

#: The longest wait for replicas. ms.
WAIT_MS = 1000
#: A cluster may move keys while a script is under way. The scripts run again, at most so often.
MAX_REDIRECTIONS = 3

#: A command: its name and arguments.
Command = tuple[str | int, ...]


def replicas_of(client: Redis | RedisCluster) -> int:
    """Return the number of replicas that must have each write of a client."""
    return getattr(client, "wait_replicas", 0)


def run_replicated(
    client: Redis | RedisCluster, commands: Sequence[Command], keys: Sequence[str]
) -> list[Any]:
    """Run commands in one round trip, and wait for the replicas of what they wrote.

    Args:
        client: of a Redis or of a cluster.
        commands: that may be run again.
        keys: one key of each command.

    Returns:
        The answer or the refusal of each command.

    Raises:
        LedgerUnavailable: too few replicas have the writes. The commands have run. Or a cluster
            moves the keys of a command. Other commands may have run.
    """
    replicas = replicas_of(client)
    if isinstance(client, RedisCluster):
        answers, counts = _in_cluster(client, commands, keys, replicas)
    else:
        with client.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            pipe.execute_command("WAIT", replicas, WAIT_MS)
            *answers, count = pipe.execute(raise_on_error=False)
        counts = [count]
    for count in counts:
        if isinstance(count, Exception):
            raise count
        _check(count, replicas)
    return answers


def wait_for_replicas(client: Redis | RedisCluster, key: str) -> None:
    """Wait for the replicas of a key that this thread has just written without a script.

    The client gives the same connection again: it is the only one, or the last that was used.

    Raises:
        LedgerUnavailable: too few replicas have the write.
    """
    replicas = replicas_of(client)
    if not replicas:
        return
    target: dict[str, Any] = {}
    if isinstance(client, RedisCluster):
        target["target_nodes"] = client.get_node_from_key(key)
    any_client: Any = client
    _check(any_client.execute_command("WAIT", replicas, WAIT_MS, **target), replicas)


def _check(count: int, replicas: int) -> None:
    if count < replicas:
        text = f"{count} of {replicas} replicas have the last write"
        raise LedgerUnavailable(text, "NOREPLICAS")


def _in_cluster(
    client: RedisCluster, commands: Sequence[Command], keys: Sequence[str], replicas: int
) -> tuple[list[Any], list[Any]]:
    """Return the answers, and the number of replicas at each node.

    A redirected command would run on another connection than its WAIT. So redirections are not
    followed: all commands run again.
    """
    for _ in range(MAX_REDIRECTIONS):
        nodes = [client.get_node_from_key(key) for key in keys]
        sent = [*zip(commands, nodes, strict=True)]
        sent += [(("WAIT", replicas, WAIT_MS), node) for node in dict.fromkeys(nodes)]
        stack = [
            PipelineCommand(command, {"target_nodes": node}, position)
            for position, (command, node) in enumerate(sent)
        ]
        with client.pipeline(transaction=False) as pipe:
            answers = pipe.send_cluster_commands(
                stack, raise_on_error=False, allow_redirections=False
            )
        if not any(isinstance(each, (AskError, ConnectionError, TimeoutError)) for each in answers):
            break
        client.nodes_manager.initialize()
        if any(isinstance(each, TimeoutError) for each in answers):
            break  # another round would double the wait
    for answer in answers:
        if isinstance(answer, AskError):
            raise LedgerUnavailable("the cluster moves keys to another node", "TRYAGAIN")
        if isinstance(answer, (ConnectionError, TimeoutError)):
            raise answer
    return answers[: len(commands)], answers[len(commands) :]
