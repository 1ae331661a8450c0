"""Keeps other web pages out: whoever visits one must not thereby change this sandbox."""

from flask import abort, request


def refuse_other_sites() -> None:
    """Refuse a change that a browser sends for another page; programs send neither header."""
    if request.method in ("GET", "HEAD"):
        return
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    # Another port of this machine is the same site, but not the same origin.
    if site not in (None, "same-origin", "none"):
        abort(403, f"Sec-Fetch-Site: {site!r} is not allowed; allowed: same-origin")
    if origin is not None and origin.partition("://")[2] != request.host:
        abort(403, f"Origin: {origin!r} is not allowed; allowed: {request.host_url.rstrip('/')}")
