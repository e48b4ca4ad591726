"""The names of what cached responses depend on. The triggers name what has changed in the same way."""

PREFIXES = frozenset({"template", "type", "default", "model", "user"})
"""What the triggers of migrations/0024_change_log.up.sql name, each by an id after a colon."""

EVERYTHING = "*"
"""All of them: what a TRUNCATE, or a transaction that changes very much, has changed."""


def template(id: str) -> str:
    return f"template:{id}"


def type(id: str) -> str:
    """Name a template type with its tools."""
    return f"type:{id}"


def default(type_id: str) -> str:
    """Name which templates are the defaults of a type, the platform's and the organizations'."""
    return f"default:{type_id}"


def model(id: str) -> str:
    return f"model:{id}"


def user(id: str) -> str:
    """Name a user with all selections and memberships."""
    return f"user:{id}"


def resolution(user_id: str, organization_id: str | None, type_id: str) -> str:
    """Name what a resolution found. No trigger does: it tells a process what it has seen itself."""
    return f"resolution:{user_id}:{organization_id}:{type_id}"


def copy(template_id: str) -> str:
    """Name the state of a template's copy. No trigger does, as above: for others it is a change of the template."""
    return f"copy:{template_id}"
