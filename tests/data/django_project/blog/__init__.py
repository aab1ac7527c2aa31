"""The application of Django."""
