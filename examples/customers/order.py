"""Orders pictures for one customer until a limit ends it. docs/tutorials/customers.md explains it.

Usage: python order.py COUNT. Settings: IMAGES_URL, IMAGES_KEY.
"""

from __future__ import annotations

import os
import sys

from orchestrator_client import Client, LimitReached


def main() -> None:
    """Order pictures, and say which limit ended it."""
    url = os.environ.get("IMAGES_URL", "http://127.0.0.1:8080")
    with Client(url, os.environ["IMAGES_KEY"], max_retries=0) as client:
        for number in range(1, int(sys.argv[1]) + 1):
            try:
                job = client.enqueue(
                    provider="hiapi", model="Nano-Banana-2", prompt=f"Poster {number}"
                )
            except LimitReached as limit:
                print(f"picture {number}: {limit.limit}, again in {limit.retry_after} s")
                return
            print(f"picture {number}: {job.id}")


if __name__ == "__main__":
    main()
