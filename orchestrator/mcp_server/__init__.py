"""The MCP server: image jobs as tools for agents.

It is a client of our HTTP API and knows nothing else of the product. So keys, tenants, admission,
idempotency and errors are treated in one place.
"""
