"""`python -m benchmarks`: run all, print ratios, exit 1 if a goal is missed."""

from __future__ import annotations

import sys

from benchmarks import archive, notify, receiver, submit


def main() -> int:
    """Run every benchmark."""
    print("Times depend on this machine and this minute; only the ratios mean something.\n")
    reached = [receiver.run(), submit.run(), archive.run(), notify.run()]
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
