"""Whether a process traces: nothing of OpenTelemetry is imported where it does not."""

from importlib.util import find_spec

from service.config import ConfigurationError, Settings, variable
from service.server.parts import Part

_VARIABLE = variable("otel_exporter_otlp_endpoint")


def check(settings: Settings) -> None:
    """Raise where a collector is named, and what sends to it is not installed."""
    if settings.otel_exporter_otlp_endpoint is not None and find_spec("opentelemetry") is None:
        raise ConfigurationError(f"{_VARIABLE}: traces need OpenTelemetry: install omniflo-templates[server,tracing]")


def parts(settings: Settings) -> list[Part]:
    """Return what sends spans to the collector, where one is named."""
    if settings.otel_exporter_otlp_endpoint is None:
        return []
    from service.server.spans import Spans  # noqa: PLC0415 - see above

    return [Spans(settings.otel_exporter_otlp_endpoint, settings.replica)]
