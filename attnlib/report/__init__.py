"""Notebooks, report page, README."""
