"""Records flame graphs of a web and a worker process, and a budget of their time by part.

    python -m benchmarks.flames [--images] [--jobs 8000] [--output build/benchmarks]

It needs py-spy (`pip install py-spy`) and the right to trace processes. The jobs are those of
`completions`. The budget spreads the CPU time of a job by samples of the threads that hold Python's
lock: a sample belongs to the part of its innermost known frame. C code counts for the Python
function that called it. Time without the lock, as in system calls, is spread over all parts.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from benchmarks import stub_provider
from benchmarks.completions import Round, play
from benchmarks.number_arguments import one_or_more
from benchmarks.processes import family, ticks
from benchmarks.product import JobKind, Product
from orchestrator.cli.dev import stop_on_sigterm

#: Samples per second.
RATE = 250
#: Parts by a pattern of a frame's file. The first pattern that matches names the part.
PARTS = {
    "Redis client": r"/redis/|hiredis",
    "ledger: calls and results": r"orchestrator/ledger/",
    "messages of Celery": r"/(kombu|celery|billiard|vine|amqp)/|orchestrator/messages|workers/app",
    "calls of providers": r"orchestrator/providers/client|orchestrator/net/|/(urllib3|requests)/",
    "documents of providers": r"orchestrator/providers/",
    "checks of requests": r"orchestrator/(jobs|job_check|enqueue)|/marshmallow/",
    "images and storage": r"orchestrator/(storage|operations/image)",
    "Flask": r"/(flask|werkzeug|flask_smorest)/",
    "HTTP server": r"webhooks/|/uvicorn/",
    "steps": r"orchestrator/steps/|workers/",
    "callbacks": r"orchestrator/callbacks/|orchestrator/security/",
    "API": r"orchestrator/api/",
    "metrics, traces, logs": r"orchestrator/(metrics|tracing|log)|/structlog/",
    "event loop": r"/asyncio/|/selectors|orchestrator/step_loop",
}
#: Jobs of a recording.
JOBS = 8000


def main() -> None:
    """Record both processes."""
    stop_on_sigterm()
    arguments = _arguments()
    folder: Path = arguments.output
    folder.mkdir(parents=True, exist_ok=True)
    kind = JobKind(images=arguments.images)
    with ExitStack() as closing:
        home = Path(closing.enter_context(tempfile.TemporaryDirectory()))
        provider, _ = closing.enter_context(stub_provider.running(home))
        product = closing.enter_context(Product(home / "product", provider))
        play(product, provider, kind, arguments.jobs // 4)
        for name in ("web", "worker"):
            pid = _busiest(product.pids()[name])
            jobs = partial(play, product, provider, kind, arguments.jobs)
            _record(pid, "flamegraph", folder / f"flame-{name}.svg", jobs)
            measured = _record(pid, "raw", folder / f"flame-{name}.txt", jobs)
            stacks = (folder / f"flame-{name}.txt").read_text("utf-8")
            _print(name, budget(stacks), measured.cpu_us[name])


def budget(stacks: str) -> Counter[str]:
    """Return the samples of each part. A line has the frames of a stack, and its samples.

    A sample that was read while the process went on may be broken, and is left out.
    """
    parts: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, samples = line.rpartition(" ")
        if samples.isdigit():
            parts[_part(stack.split(";"))] += int(samples)
    return parts


def _part(frames: list[str]) -> str:
    for frame in reversed(frames):
        for part, pattern in PARTS.items():
            if re.search(pattern, frame):
                return part
    return "other"


def _record(pid: int, form: str, path: Path, work: Callable[[], Round]) -> Round:
    with _recording(pid, form, path):
        return work()


@contextmanager
def _recording(pid: int, form: str, path: Path) -> Iterator[None]:
    program = shutil.which("py-spy")
    assert program, "py-spy is not installed. Run pip install py-spy."
    command = [program, "record", "--pid", str(pid), "--rate", str(RATE), "--format", form]
    command += [
        "--gil",
        "--full-filenames",
        "--nonblocking",
        "--duration",
        "600",
        "--output",
        str(path),
    ]
    if form == "flamegraph":
        command += ["--function"]
    recorder = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        recorder.send_signal(signal.SIGINT)
        recorder.wait()


def _busiest(pid: int) -> int:
    """Return the one process of a family that does most of the work."""
    return max(family(pid), key=ticks)


def _print(name: str, parts: Counter[str], cpu_us: float) -> None:
    whole = parts.total()
    print(f"{name}: {cpu_us:.0f} us of CPU time for a job, {whole} samples")
    for part, samples in parts.most_common():
        print(f"  {part:<28} {samples / whole * cpu_us:6.0f} us  {samples / whole:4.0%}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.flames",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--images", action="store_true", help="each job has an image of 64x64")
    parser.add_argument("--jobs", type=one_or_more, default=JOBS, help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=Path("build/benchmarks"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
