"""The settings of what operators see: the log, metrics and traces."""

import socket
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings

from service import logs
from service.variables import Collector, OptionalAddress


class Telemetry(BaseSettings):
    metrics_listen: OptionalAddress = Field(
        default=None,
        description="host:port for metrics, in plain text and to whoever asks; unset serves none",
    )
    log_format: logs.Format = Field(
        default="auto", description="json, text, or auto: text on a terminal and json elsewhere"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="debug, info, warning or error"
    )
    replica: str = Field(
        default_factory=socket.gethostname,
        pattern=r"^[!-~]{1,253}$",
        description="the name of this replica in the log and in traces, 1 to 253 characters without spaces; by default"
        " the name of the host, which is that of the pod in Kubernetes",
    )
    otel_exporter_otlp_endpoint: Collector = Field(
        default=None,
        validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        description="the collector that traces are sent to by OTLP over gRPC, such as http://localhost:4317; unset"
        " traces nothing",
    )
    otel_traces_sampler: Literal[
        "always_on",
        "always_off",
        "traceidratio",
        "parentbased_always_on",
        "parentbased_always_off",
        "parentbased_traceidratio",
    ] = Field(
        default="parentbased_always_on",
        validation_alias="OTEL_TRACES_SAMPLER",
        description="which calls are traced: always_on, always_off or traceidratio; with parentbased_ before it,"
        " callers that trace decide for their calls",
    )
    otel_traces_sampler_arg: float = Field(
        default=1.0,
        ge=0,
        le=1,
        validation_alias="OTEL_TRACES_SAMPLER_ARG",
        description="the part of calls that traceidratio traces, 0 to 1",
    )
