"""Prefect's names for parts of the current context."""

from __future__ import annotations

__all__: list[str] = []
