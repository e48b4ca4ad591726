"""Texts that are JSON."""

import json


def is_valid(text: str) -> bool:
    """Whether a text is JSON, however large its numbers are."""
    try:
        json.loads(text, parse_float=len, parse_int=len, parse_constant=refuse)
    except (ValueError, RecursionError):
        return False
    return True


def refuse(constant: str) -> None:
    """Raise ValueError for NaN and the like, which Python's parser takes."""
    raise ValueError(f"{constant} is no number")
