"""The requests of the table's rows."""

from google.protobuf.message import Message

from tests.contract.methods import METHODS, Field, Method
from tests.rights.requests import REQUESTS, VARIANTS
from tests.rights.table import Row
from tests.rights.world import GUILD, Caller, clerk_id

METHOD = {method.name: method for method in METHODS}


def naming(method: Method) -> dict[str, Field]:
    """Answer the fields of the request that name a thing, by what they are called."""
    return {str(field): field for field in method.strings() if _names_a_thing(field)}


def _names_a_thing(field: Field) -> bool:
    key = field.last.containing_oneof
    if key is not None and key.name == "key":
        return True
    names = {"id", "ids", "model", "template_type", "template_types"}
    return field.name in names or (field.name.endswith(("_id", "_ids")) and field.name != "request_id")


def request(caller: Caller, row: Row, thing: str) -> Message:
    """Answer the request of a row, with the thing in the row's field."""
    made = REQUESTS[row.method](caller)
    if row.field != "-":
        naming(METHOD[row.method])[row.field].put(made, thing)
    if row.variant:
        VARIANTS[row.variant](made)
    return made


def thing(caller: Caller, row: Row) -> str:
    """Answer what the row means for the caller."""
    if row.thing != "own":
        return "" if row.thing == "none" else row.thing
    if row.field == "clerk_id":
        return clerk_id(caller.named)
    if row.method.endswith("Invitation"):
        return f"{GUILD}-{caller.named}"
    is_key = row.method.endswith("ApiKey") and not row.field.endswith("user_id")
    return f"key{caller.named}" if is_key else caller.named
