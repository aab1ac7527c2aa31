"""Limits that workers keep together: rates, and what may run at the same time. Each is a gate (``worker/gates.py``)."""
