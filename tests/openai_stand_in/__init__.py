"""A stand-in for OpenAI: a real HTTP server that checks what it gets as strictly as the SDK's request types allow."""

from tests.openai_stand_in.faults import Fault
from tests.openai_stand_in.models import MODELS, listed
from tests.openai_stand_in.server import KEY, StandIn

__all__ = ["KEY", "MODELS", "PORT", "Fault", "StandIn", "listed"]

PORT = 50080
"""Where `python -m tests.openai_stand_in` serves, so that the documentation can name it."""
