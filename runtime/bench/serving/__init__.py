"""Servers under load: what many clients get of them, and how they bear it for a while."""
