"""What a new database starts with: two template types with their tools, and models that OpenAI serves."""

import json
from datetime import date
from typing import Any

from service.actor import Actor
from service.database.transactions import transaction
from service.models.openai_models import OpenAIModel
from service.models.template_types import TemplateTool, TemplateType
from service.operations import openai_models, template_tools, template_types


def _function(name: str, description: str, properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return {"name": name, "type": "function", "description": description, "schema": json.dumps(schema)}


TYPES: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "data-processing": (
        "Reads documents and takes out the data that they hold.",
        [
            {
                "name": "document_search",
                "type": "file_search",
                "description": "Finds passages in the user's documents.",
            },
            {
                "name": "data_analysis",
                "type": "code_interpreter",
                "description": "Calculates with the data of the documents.",
            },
            _function(
                "record_extraction",
                "Records one value that was found in a document.",
                {
                    "field": {"type": "string", "description": "The name of the field."},
                    "value": {"type": "string", "description": "The value, as the document spells it."},
                    "page": {"type": ["integer", "null"], "description": "The page it stands on, from 1."},
                },
                ["field", "value", "page"],
            ),
        ],
    ),
    "data-export": (
        "Brings extracted data into the form that another system reads.",
        [
            {
                "name": "file_writer",
                "type": "code_interpreter",
                "description": "Writes the data into a file, such as a spreadsheet.",
            },
            _function(
                "export_rows",
                "Hands rows over to the target of the export.",
                {
                    "format": {"type": "string", "enum": ["csv", "json", "xlsx"]},
                    "columns": {"type": "array", "items": {"type": "string"}},
                    "rows": {"type": "array", "items": {"type": "array", "items": {"type": "string"}}},
                },
                ["format", "columns", "rows"],
            ),
        ],
    ),
}

MODELS: dict[str, tuple[str, str, date | None]] = {
    "gpt-6.2-sol": ("GPT-6.2 Sol", "The larger model of the newest family.", None),
    "gpt-6-luna": ("GPT-6 Luna", "The small and fast model of the newest family.", None),
    "gpt-5.5": ("GPT-5.5", "A reasoning model for demanding documents.", None),
    "gpt-5.4-mini": ("GPT-5.4 mini", "A small reasoning model for large numbers of documents.", None),
    "gpt-5.1": ("GPT-5.1", "Takes a temperature when it does not reason.", date(2027, 4, 1)),
    "gpt-4.1": ("GPT-4.1", "Does not reason, takes every temperature.", date(2027, 1, 14)),
    "gpt-4o-mini": ("GPT-4o mini", "Small, does not reason, takes every temperature.", date(2027, 1, 14)),
}
"""Names, descriptions and known shutdown dates, by openai_id. Source: the openai SDK 3.54's `ChatModel` and the notes
on deprecation there, read on 2026-11-23."""


@transaction
def run(actor: Actor) -> list[str]:
    """Add what is missing, and return what was added. Nothing that exists is changed."""
    added = []
    for name, (description, tools) in TYPES.items():
        if not TemplateType.fetch("where t.name = %s", [name]):
            template_types.create(actor, name=name, description=description)
            added.append(f"template type {name}")
        for tool in tools:
            # The pair is unique across all types.
            if not TemplateTool.fetch("where t.name = %s and t.type = %s", [tool["name"], tool["type"]]):
                template_tools.create(actor, name, tool)
                added.append(f"tool {tool['name']}")
    for openai_id, (name, description, shutdown_date) in MODELS.items():
        if not OpenAIModel.fetch("where t.openai_id = %s", [openai_id]):
            openai_models.create(
                actor, openai_id=openai_id, name=name, description=description, shutdown_date=shutdown_date
            )
            added.append(f"model {openai_id}")
    return added
