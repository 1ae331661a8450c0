"""A worker whose leases end sooner than in the product, for tests that wait for the end of one.

python -m tests.support.brief_worker
"""

from orchestrator.steps import submit
from workers.__main__ import main

if __name__ == "__main__":
    vars(submit).update(LEASE_MARGIN_MS=4_000, LOST_LEASE_SECONDS=4.0)
    main("worker")
