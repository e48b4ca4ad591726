"""The models that templates may name."""

import peewee as pw

from service.models.row import Text, Versioned


class Price(pw.DecimalField):
    """An amount in USD, or None where it is not known."""

    def __init__(self) -> None:
        super().__init__(null=True)


class OpenAIModel(Versioned):
    openai_id = Text(unique=True)
    name = Text()
    description = pw.TextField(default="")
    shutdown_date = pw.DateField(null=True)
    input_price = Price()
    """What a million tokens cost, in USD."""
    cached_input_price = Price()
    output_price = Price()

    class Meta:
        table_name = "openai_models"
