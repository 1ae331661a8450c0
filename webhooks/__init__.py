"""The Flask application: the callback receiver, which also mounts the API."""
