"""The models that templates may name."""

import peewee as pw

from service.models.row import Text, Versioned


class OpenAIModel(Versioned):
    openai_id = Text(unique=True)
    name = Text()
    description = pw.TextField(default="")
    shutdown_date = pw.DateField(null=True)

    class Meta:
        table_name = "openai_models"
