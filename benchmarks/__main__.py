"""`python -m benchmarks`: runs all benchmarks, and exits with 1 when a goal is missed."""

from __future__ import annotations

import sys

from benchmarks import archive, fairness, isolation, notify, receiver, submit


def main() -> int:
    """Run every benchmark."""
    print("Times depend on the machine. Only the ratios can be compared.\n")
    reached = [receiver.run(), submit.run(), archive.run(), notify.run()]
    reached += [isolation.run(), fairness.run()]
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
