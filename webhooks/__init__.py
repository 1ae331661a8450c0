"""The Flask application: the callback receiver and the API."""
