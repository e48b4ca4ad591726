"""The people who write and select templates."""

from service.models.row import Row, Text


class User(Row):
    clerk_id = Text(unique=True)

    class Meta:
        table_name = "users"
