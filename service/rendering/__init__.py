"""What to send to OpenAI. Pure: nothing is sent, and nothing is read but the table beside it."""

from service.rendering.families import Family, family_of
from service.rendering.responses import Adjustment, Rendered, Tool, days_left, render

__all__ = ["Adjustment", "Family", "Rendered", "Tool", "days_left", "family_of", "render"]
