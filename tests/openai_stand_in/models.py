"""The models that are served."""

from typing import Any

MODELS: dict[str, str | None] = {
    "gpt-4.1": "2027-01-14",
    "gpt-4o": "2027-01-14",
    "gpt-4o-mini": "2027-01-14",
    "gpt-5": "2026-12-11",
    "gpt-5-mini": "2026-12-11",
    "gpt-5.1": "2027-04-01",
    "gpt-5.4-mini": None,
    "gpt-5.5": None,
    "gpt-6-luna": None,
    "gpt-6.2-sol": None,
    "o3": "2026-12-11",
}
"""By their ids, with their shutdown dates."""


def listed(name: Any, shutdown_date: Any = None) -> dict[str, Any]:
    """Return a model as the list spells it."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "openai", "shutdown_date": shutdown_date}
