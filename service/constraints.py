"""What a caller is told when the database refuses, by the name of the constraint."""

from collections.abc import Mapping

from service.errors import (
    Aborted,
    AlreadyExists,
    Error,
    FailedPrecondition,
    Reason,
    field_invalid,
    not_found,
)


def violated(constraint: str | None) -> Error | None:
    """Return the error of a violated constraint, or None when there is none by that name."""
    error = CONSTRAINTS.get(constraint or "")
    # A new one for each call that raises it: an exception carries its own traceback.
    return error and type(error)(error.reason, error.message, error.metadata, violations=error.violations)


_CONFLICT = Aborted("CONFLICT", "other calls changed the same rows; nothing was written")


def _taken(reason: Reason, what: str, field: str) -> Error:
    return AlreadyExists(reason, f"{what} exists already", {"field": field})


CONSTRAINTS: Mapping[str, Error] = {
    # Rules that a caller can break at any time.
    "template_types_name_is_unique": _taken(
        "TEMPLATE_TYPE_ALREADY_EXISTS", "a template type of this name", "template_type.name"
    ),
    "template_tools_name_and_type_are_unique": _taken(
        "TEMPLATE_TOOL_ALREADY_EXISTS", "a tool of this name and type", "template_tool.name"
    ),
    "openai_models_openai_id_is_unique": _taken("MODEL_ALREADY_EXISTS", "a model of this openai_id", "model.openai_id"),
    "organization_members_organization_and_user_are_unique": _taken(
        "MEMBER_ALREADY_EXISTS", "a membership of the user in the organization", "member.user_id"
    ),
    "organization_invitations_organization_and_user_are_unique": _taken(
        "INVITATION_ALREADY_EXISTS", "an invitation of the user to the organization", "invitation.user_id"
    ),
    # What a reference needs; operations look first to name the key, these hold when it vanishes meanwhile.
    "template_tools_belong_to_a_type": not_found("TEMPLATE_TYPE"),
    "templates_have_an_author": not_found("USER"),
    "templates_are_of_a_type": not_found("TEMPLATE_TYPE"),
    "templates_name_a_model": not_found("MODEL"),
    "user_template_selections_belong_to_a_user": not_found("USER"),
    "user_template_selections_are_of_a_template_of_their_type": FailedPrecondition(
        "TEMPLATE_TYPE_MISMATCH", "the template is of another type than the selection"
    ),
    "organization_members_belong_to_an_organization": not_found("ORGANIZATION"),
    "organization_members_belong_to_a_user": not_found("USER"),
    "organization_invitations_belong_to_an_organization": not_found("ORGANIZATION"),
    "organization_invitations_are_for_a_user": not_found("USER"),
    "organization_invitations_are_made_by_a_member": not_found("ORGANIZATION"),
    "templates_belong_to_an_organization": not_found("ORGANIZATION"),
    "user_template_selections_are_of_a_template_within_reach": FailedPrecondition(
        "TEMPLATE_ORGANIZATION_MISMATCH", "the template belongs to another organization than the selection"
    ),
    "user_template_selections_belong_to_a_member": not_found("ORGANIZATION"),
    "api_keys_belong_to_a_user": not_found("USER"),
    "api_keys_belong_to_a_member": not_found("ORGANIZATION"),
    "api_keys_belong_to_a_parent": not_found("API_KEY"),
    "processing_records_belong_to_a_user": not_found("USER"),
    "processing_records_belong_to_an_organization": not_found("ORGANIZATION"),
    "processing_inputs_belong_to_a_record": not_found("PROCESSING_RECORD"),
    "processing_output_belongs_to_a_record": not_found("PROCESSING_RECORD"),
    # What locks and upserts prevent; behind them these hold, and a retry succeeds.
    "assistants_by_assistant_id": _CONFLICT,
    "users_clerk_id_is_unique": _CONFLICT,
    "templates_id_type_and_scope_are_unique": _CONFLICT,
    "templates_one_default_for_each_scope_and_type": _CONFLICT,
    "user_template_selections_one_for_each_user_scope_and_type": _CONFLICT,
    # What the rules in the protos refuse before.
    "users_clerk_id_within_bounds": field_invalid(("clerk_id", "must be 1 to 255 characters")),
    "template_types_name_is_hyphenated_words": field_invalid(
        ("template_type.name", "must be at most 64 characters, lower-case words joined by hyphens")
    ),
    "template_types_description_within_bounds": field_invalid(
        ("template_type.description", "must be at most 2000 characters")
    ),
    "template_tools_name_within_bounds": field_invalid(
        ("template_tool.name", "must be 1 to 64 characters of A-Z, a-z, 0-9, _ and -")
    ),
    "template_tools_description_within_bounds": field_invalid(
        ("template_tool.description", "must be at most 1024 characters")
    ),
    "template_tools_only_functions_have_a_schema": field_invalid(
        ("template_tool.schema", "is required for a FUNCTION tool and refused for the others")
    ),
    "template_tools_schema_within_bounds": field_invalid(("template_tool.schema", "must be at most 65536 bytes")),
    "template_tools_config_fits_type": field_invalid(("template_tool.config", "must fit the type of the tool")),
    "openai_models_openai_id_within_bounds": field_invalid(
        ("model.openai_id", "must be 1 to 128 printable ASCII characters without spaces")
    ),
    "openai_models_name_within_bounds": field_invalid(("model.name", "must be 1 to 256 characters")),
    **{
        f"openai_models_{price}_within_bounds": field_invalid((f"model.{price}", "must be 0 to 1000000 USD"))
        for price in ("input_price", "cached_input_price", "output_price")
    },
    "openai_models_description_within_bounds": field_invalid(("model.description", "must be at most 2000 characters")),
    "templates_title_within_bounds": field_invalid(("template.title", "must be 1 to 256 characters")),
    "templates_description_within_bounds": field_invalid(("template.description", "must be at most 2000 characters")),
    "templates_instructions_within_bounds": field_invalid(("template.instructions", "must be 1 to 256000 characters")),
    "templates_labels_fit": FailedPrecondition("TEMPLATE_LABELS_FULL", "the template may have at most 32 labels"),
    "user_template_selections_revision_from_one": field_invalid(("revision", "must be at least 1")),
    "organizations_name_within_bounds": field_invalid(("organization.name", "must be 1 to 128 characters")),
    "api_keys_name_within_bounds": field_invalid(("api_key.name", "must be 1 to 128 characters")),
    "templates_temperature_within_bounds": field_invalid(("template.temperature", "must be 0 to 2")),
    "templates_variables_within_bounds": field_invalid(
        (
            "template.variables",
            "must be at most 64 of different names, with descriptions of at most 128 and default values of at most 256",
        )
    ),
    "templates_response_format_within_bounds": field_invalid(
        ("template.response_format", "must be at most 65536 bytes")
    ),
    "templates_max_output_tokens_within_bounds": field_invalid(("template.max_output_tokens", "must be 16 to 1000000")),
    "templates_top_p_within_bounds": field_invalid(("template.top_p", "must be 0 to 1")),
    "templates_tool_choice_within_bounds": field_invalid(
        ("template.tool_choice", "must be 1 to 64 characters of A-Z, a-z, 0-9, _ and -")
    ),
    "templates_disabled_tools_within_bounds": field_invalid(
        ("template.disabled_tools", "must be at most 128 names of 1 to 64 characters of A-Z, a-z, 0-9, _ and -")
    ),
    "templates_tags_within_bounds": field_invalid(
        ("template.tags", "must be at most 16 of 1 to 64 characters of a-z, 0-9, ., _, / and -")
    ),
    "processing_records_filename_within_bounds": field_invalid(("record.filename", "must be 1 to 255 characters")),
    "processing_records_openai_file_id_within_bounds": field_invalid(
        ("record.openai_file_id", "must be at most 128 characters")
    ),
    "processing_records_processing_time_within_bounds": field_invalid(
        ("record.processing_time", "must be 0 to 720 hours")
    ),
    "processing_records_error_reason_within_bounds": field_invalid(
        ("record.error_reason", "must be at most 64 characters of A-Z, a-z, 0-9, _, . and -")
    ),
    "processing_records_error_message_within_bounds": field_invalid(
        ("record.error_message", "must be at most 2000 characters")
    ),
    "processing_records_template_id_within_bounds": field_invalid(("record.template_id", "must be 1 to 64 characters")),
    "processing_records_template_revision_within_bounds": field_invalid(
        ("record.template_revision", "must be at least 0")
    ),
    "processing_records_template_type_revision_within_bounds": field_invalid(
        ("record.template_type_revision", "must be at least 0")
    ),
    "processing_records_model_within_bounds": field_invalid(("record.model", "must be at most 128 characters")),
    "processing_records_results_within_bounds": field_invalid(("record.results", "must be at most 786432 bytes")),
    "processing_records_output_text_within_bounds": field_invalid(
        ("record.output_text", "must be at most 524288 bytes")
    ),
    "processing_records_response_id_within_bounds": field_invalid(
        ("record.response_id", "must be at most 128 characters")
    ),
    "processing_records_usage_within_bounds": field_invalid(
        ("record.usage", "must be at least 0 of each kind of token")
    ),
}
