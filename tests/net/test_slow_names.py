"""A host whose name is resolved slowly delays no call to another host."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

#: Replaces the resolver of the C library. A name with "slow" takes until the process ends. Each
#: other name is this machine.
RESOLVER = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>
typedef int resolver(const char *, const char *, const struct addrinfo *, struct addrinfo **);
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **found) {
    while (name && strstr(name, "slow")) pause();
    resolver *next = (resolver *)dlsym(RTLD_NEXT, "getaddrinfo");
    return next("127.0.0.1", service, hints, found);
}
"""
#: Begins more calls to the slow host than libcurl has threads for names. Then it calls another.
PROGRAM = """
import os
from orchestrator.net.transfers import Request, Transfers
from orchestrator.step_loop import StepLoop
from tests.net.servers import answer, once, serving
from tests.support.steps import begin

with serving() as serve:
    steps = StepLoop()
    transfers = Transfers(connect_timeout=60, seconds=60, connections=8)
    for _ in range(40):
        begin(steps, transfers.exchange, Request("GET", "http://slow.example/", {}), 1000)
    url = f"http://other.example:{serve(once(answer(b'{}'))).port}/"
    transfer = begin(steps, transfers.exchange, Request("GET", url, {}), 1000).result(120)
    print("status", transfer.status, transfer.failure, flush=True)
    os._exit(0)
"""


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler to replace the resolver")
def test_a_host_whose_name_is_resolved_slowly_delays_no_other(tmp_path: Path) -> None:
    (tmp_path / "resolver.c").write_text(RESOLVER)
    library = tmp_path / "resolver.so"
    command = ["cc", "-shared", "-fPIC", "-o", str(library), str(tmp_path / "resolver.c"), "-ldl"]
    subprocess.run(command, check=True)

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )

    assert done.stdout == "status 200 None\n"
