"""Umbel."""
