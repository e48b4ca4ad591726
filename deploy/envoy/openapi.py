"""Writes the OpenAPI document (2.0) of what rest.yaml serves: `make openapi`, which needs Go.

grpc-gateway's generator reads the protos. It describes grpc-gateway, and this makes of it what Envoy does.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parent.parent.parent
GENERATOR = "github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-openapiv2@v2.33.0"
OPTIONS = [
    "allow_merge=true",
    "merge_file_name=omniflo",
    # Otherwise the generator hides the mask, which a caller may send with any body.
    "allow_patch_feature=false",
    "json_names_for_fields=false",
    "omit_enum_default_value=true",
    "preserve_rpc_order=true",
]
ERRORS = {
    "400": "INVALID_ARGUMENT, FAILED_PRECONDITION or OUT_OF_RANGE, or a request that Envoy could not read.",
    "401": "UNAUTHENTICATED.",
    "403": "PERMISSION_DENIED.",
    "404": "NOT_FOUND.",
    "409": "ALREADY_EXISTS or ABORTED.",
    "413": "The body is too large.",
    "429": "RESOURCE_EXHAUSTED.",
    "503": "UNAVAILABLE.",
    "504": "DEADLINE_EXCEEDED.",
}


def generate() -> Any:
    """Return what the generator writes."""
    with TemporaryDirectory() as folder:
        template = {
            "version": "v2",
            "inputs": [{"directory": str(ROOT), "paths": [str(ROOT / "protos" / "omniflo")]}],
            "plugins": [{"local": ["go", "run", GENERATOR], "out": folder, "strategy": "all", "opt": OPTIONS}],
        }
        buf = Path(sys.executable).with_name("buf")
        subprocess.run([buf, "generate", "--template", json.dumps(template)], cwd=ROOT, check=True)
        return json.loads((Path(folder) / "omniflo.swagger.json").read_text())


def adapt(document: Any) -> None:
    """Make the document say what Envoy does."""
    document["info"] = {"title": "omniflo.templates.v1", "version": "v1"}
    document["securityDefinitions"] = {"bearer": {"type": "apiKey", "name": "Authorization", "in": "header"}}
    document["security"] = [{"bearer": []}]
    paths: dict[str, Any] = {}
    for path, operations in document["paths"].items():
        # {template.id} and {id} would make two paths that differ only in a name, which OpenAPI does not allow.
        at = paths.setdefault(re.sub(r"\{\w+\.id\}", "{id}", path), {})
        for verb, operation in operations.items():
            at[verb] = operation
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path" and parameter["name"].endswith(".id"):
                    parameter["name"] = "id"
            success, refused = operation["responses"]["200"], operation["responses"].pop("default")
            if "result" in success["schema"].get("properties", {}):
                # The response is a stream, and this describes one line of it.
                success["schema"] = success["schema"]["properties"]["result"]
            operation["responses"] |= {code: {**refused, "description": text} for code, text in ERRORS.items()}
    document["paths"] = paths


if __name__ == "__main__":
    made = generate()
    adapt(made)
    Path(sys.argv[1]).write_text(json.dumps(made, indent=1) + "\n")
