"""Refuses changes that a browser sends for another web page."""

from flask import abort, request


def refuse_other_sites() -> None:
    """Refuse a change that comes from another web page. Programs send neither header."""
    if request.method in ("GET", "HEAD"):
        return
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    # Another port of this machine is the same site but another origin.
    if site not in (None, "same-origin", "none"):
        abort(403, f"Sec-Fetch-Site must be same-origin; got {site!r}")
    if origin is not None and origin.partition("://")[2] != request.host:
        abort(403, f"Origin must be {request.host_url.rstrip('/')}; got {origin!r}")
