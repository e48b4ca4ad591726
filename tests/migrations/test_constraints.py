"""The constraints: their names, what callers are told, and that each is seen to refuse."""

import re
from collections.abc import Mapping

import psycopg2
import pytest

from service.constraints import CONSTRAINTS
from tests.conftest import Database
from tests.contract.methods import CREATES, METHODS, OUTPUT_ONLY, UPDATES, behaviour, bounds
from tests.migrations.conftest import IN_ORGANIZATIONS, fill


def _variables(name: str, description: str, required: str, default: str, most: int = 1, more: str = "") -> str:
    """Answer SQL for so many variables of these values."""
    members = f"'name', {name}, 'description', {description}, 'required', {required}, 'default_value', {default}{more}"
    return f"(select jsonb_agg(jsonb_build_object({members})) from generate_series(1, {most}) n)"


BOUNDS: dict[str, tuple[str, list[str], list[str]]] = {
    "users_clerk_id_within_bounds": (
        "update users set clerk_id = {} where id = 'u1'",
        ["'x'", "repeat('x', 255)", "repeat('é', 255)"],
        ["''", "repeat('x', 256)"],
    ),
    "template_types_name_is_hyphenated_words": (
        "update template_types set name = {} where id = 't1'",
        ["'a'", "'a-1-b'", "repeat('a', 64)"],
        ["''", "'A'", "'é'", "'a_b'", "'a--b'", "'-a'", "'a-'", "E'a\\n'", "repeat('a', 65)"],
    ),
    "template_types_description_within_bounds": (
        "update template_types set description = {}",
        ["''", "repeat('é', 2000)"],
        ["repeat('x', 2001)"],
    ),
    "template_tools_name_within_bounds": (
        "update template_tools set name = {} where id = 'o1'",
        ["'a'", "'A-1_z'", "repeat('a', 64)"],
        ["''", "'a b'", "'é'", "E'a\\n'", "repeat('a', 65)"],
    ),
    "template_tools_description_within_bounds": (
        "update template_tools set description = {}",
        ["''", "repeat('é', 1024)"],
        ["repeat('x', 1025)"],
    ),
    "template_tools_schema_within_bounds": (
        "update template_tools set schema = {} where id = 'o2'",
        ["repeat('é', 32768)"],
        ["repeat('é', 32768) || 'x'"],
    ),
    "openai_models_openai_id_within_bounds": (
        "update openai_models set openai_id = {} where id = 'm1'",
        ["'!'", "repeat('~', 128)"],
        ["''", "'a b'", "'é'", "E'a\\n'", "repeat('x', 129)"],
    ),
    "templates_labels_fit": (
        "update templates set labels = {}",
        ["'{{}}'", """'{{"a": 1}}'""", """'{{"staging-2_b": 1}}'"""],
        [
            "'[]'",
            "'null'",
            """'{{"latest": 1}}'""",
            """'{{"A": 1}}'""",
            """'{{"": 1}}'""",
            """'{{"a": 0}}'""",
            """'{{"a": 2}}'""",
            """'{{"a": 1.5}}'""",
            """'{{"a": "1"}}'""",
            """'{{"a": null}}'""",
            "jsonb_build_object(repeat('a', 65), 1)",
            "(select jsonb_object_agg('a' || n, 1) from generate_series(1, 33) n)",
        ],
    ),
    "user_template_selections_revision_from_one": (
        "update user_template_selections set revision = {}",
        ["null", "1"],
        ["0", "-1"],
    ),
    "openai_models_name_within_bounds": (
        "update openai_models set name = {}",
        ["'x'", "repeat('é', 256)"],
        ["''", "repeat('x', 257)"],
    ),
    "openai_models_description_within_bounds": (
        "update openai_models set description = {}",
        ["''", "repeat('é', 2000)"],
        ["repeat('x', 2001)"],
    ),
    **{
        f"openai_models_{price}_within_bounds": (
            f"update openai_models set {price} = {{}}",
            ["null", "0", "0.000000001", "1000000"],
            ["-0.000000001", "1000000.000000001", "'NaN'"],
        )
        for price in ("input_price", "cached_input_price", "output_price")
    },
    "templates_title_within_bounds": (
        "update templates set title = {}",
        ["'x'", "repeat('é', 256)"],
        ["''", "repeat('x', 257)"],
    ),
    "templates_description_within_bounds": (
        "update templates set description = {}",
        ["''", "repeat('é', 2000)"],
        ["repeat('x', 2001)"],
    ),
    "templates_instructions_within_bounds": (
        "update templates set instructions = {}",
        ["'x'", "repeat('é', 256000)"],
        ["''", "repeat('x', 256001)"],
    ),
    "templates_temperature_within_bounds": (
        "update templates set temperature = {}",
        ["null", "0", "2"],
        ["-0.001", "2.001", "'NaN'", "'Infinity'", "'-Infinity'"],
    ),
    "templates_variables_within_bounds": (
        "update templates set variables = {}",
        [
            "'[]'",
            _variables("repeat('a', 64)", "repeat('é', 128)", "false", "repeat('é', 256)"),
            _variables("'a' || n", "''", "true", "''", 64),
        ],
        [
            "'{{}}'",
            "'null'",
            "'[1]'",
            "'[{{}}]'",
            _variables("'a' || n", "''", "false", "''", 65),
            _variables("'a'", "''", "false", "''", 2),
            *(_variables(name, "''", "false", "''") for name in ("repeat('a', 65)", "'A'", "'1'", "''", "'é'")),
            _variables("'a'", "repeat('x', 129)", "false", "''"),
            _variables("'a'", "''", "false", "repeat('x', 257)"),
            _variables("'a'", "''", "'true'", "''"),
            _variables("'a'", "null", "true", "''"),
            # What no message of the protos can be: no list with such a template could be read.
            _variables("true", "''", "true", "''"),
            _variables("'a'", "5", "true", "''"),
            _variables("'a'", "''", "false", "5"),
            _variables("'a'", "''", "false", "''", more=", 'more', 1"),
            _variables("'a'", "''", "true", "'x'"),
        ],
    ),
    "templates_response_format_within_bounds": (
        "update templates set response_format = {}",
        ["null", "repeat('é', 32768)"],
        ["repeat('é', 32768) || 'x'"],
    ),
    "templates_max_output_tokens_within_bounds": (
        "update templates set max_output_tokens = {}",
        ["null", "16", "1000000"],
        ["15", "1000001"],
    ),
    "templates_top_p_within_bounds": (
        "update templates set top_p = {}",
        ["null", "0", "1"],
        ["-0.001", "1.001", "'NaN'"],
    ),
    "templates_tool_choice_within_bounds": (
        "update templates set tool_choice = {}",
        ["null", "'none'", "'A-1_z'", "repeat('a', 64)"],
        ["''", "'a b'", "'é'", "E'a\\n'", "repeat('a', 65)"],
    ),
    "templates_disabled_tools_within_bounds": (
        "update templates set disabled_tools = {}",
        ["'{{}}'", "array_fill('A-1_z'::text, '{{128}}')", "array[repeat('a', 64)]"],
        [
            "array_fill('a'::text, '{{129}}')",
            "array['a', null]",
            "array['a b']",
            "array['']",
            "array[repeat('a', 65)]",
            "'{{{{a}}}}'",
        ],
    ),
    "templates_tags_within_bounds": (
        "update templates set tags = {}",
        ["'{{}}'", "array_fill('1a._/-'::text, '{{16}}')", "array[repeat('a', 64)]"],
        [
            "array_fill('a'::text, '{{17}}')",
            "array['a', null]",
            "array['A']",
            "array['/a']",
            "array[repeat('a', 65)]",
            "'{{{{a}}}}'",
        ],
    ),
    "template_tools_only_functions_have_a_schema": (
        "update template_tools set (type, schema) = ({}) where id = 'o2'",
        ["'function', '{{}}'", "'file_search', null"],
        ["'function', null", "'file_search', '{{}}'"],
    ),
    "template_tools_config_fits_type": (
        "update template_tools set config = {} where id = 'o1'",
        ["null", """'{{"file_search": {{}}}}'"""],
        ["""'{{"code_interpreter": {{}}}}'""", "'{{}}'", "'[]'", """'["file_search"]'""", """'"file_search"'"""],
    ),
    # Two defaults of one type, of the platform or of one organization.
    "templates_one_default_for_each_scope_and_type": (
        """
        insert into templates
          (id, title, instructions, user_id, model_id, is_default, template_type_id, organization_id)
        values ('p6', 'Six', 'Do it.', 'u1', 'm1', {})
        """,
        ["false, 't1', null", "false, 't1', 'g1'", "true, 't1', 'g2'", "true, 't2', 'g1'"],
        ["true, 't1', null", "true, 't2', null", "true, 't1', 'g1'"],
    ),
    # A template of another type than the selection's, or that is not where the selection says that it is.
    "user_template_selections_are_of_a_template_of_their_type": (
        "update user_template_selections set (template_id, template_scope) = ({}) where id = 's3'",
        ["'p4', 'g1'", "'p1', ''", "'p2', ''"],
        ["'p3', ''", "'nothing', ''", "'p1', 'g1'", "'p4', ''", "'p5', ''", "'p5', 'g1'"],
    ),
    # A template of another organization than the selection's.
    "user_template_selections_are_of_a_template_within_reach": (
        "update user_template_selections set (organization_id, template_id, template_scope) = ({}) where id = 's3'",
        ["'g1', 'p4', 'g1'", "'g1', 'p1', ''"],
        ["null, 'p4', 'g1'", "'g1', 'p5', 'g2'", "null, 'p5', 'g2'"],
    ),
    # Of one who is no member there.
    "user_template_selections_belong_to_a_member": (
        """
        insert into user_template_selections (id, user_id, template_type_id, template_id, organization_id)
        values ('s5', {})
        """,
        ["'u1', 't2', 'p3', 'g1'", "'u2', 't1', 'p1', 'g2'", "'u2', 't1', 'p1', null"],
        ["'u1', 't2', 'p3', 'g2'", "'u1', 't2', 'p3', 'nothing'"],
    ),
    "user_template_selections_one_for_each_user_scope_and_type": (
        """
        insert into user_template_selections (id, user_id, template_type_id, template_id, organization_id)
        values ('s5', {})
        """,
        ["'u1', 't2', 'p3', null", "'u1', 't2', 'p3', 'g1'", "'u2', 't1', 'p1', 'g2'"],
        ["'u1', 't1', 'p1', null", "'u1', 't1', 'p2', null", "'u1', 't1', 'p1', 'g1'", "'u2', 't1', 'p2', 'g1'"],
    ),
    "organizations_name_within_bounds": (
        "update organizations set name = {}",
        ["'x'", "repeat('é', 128)"],
        ["''", "repeat('x', 129)"],
    ),
    "organization_members_organization_and_user_are_unique": (
        "insert into organization_members (id, organization_id, user_id, role) values ('a4', {}, 'viewer')",
        ["'g2', 'u1'"],
        ["'g1', 'u1'", "'g1', 'u2'"],
    ),
    "organization_members_belong_to_an_organization": (
        "update organization_members set organization_id = {} where id = 'a3'",
        ["'g2'"],
        ["'nothing'"],
    ),
    "organization_members_belong_to_a_user": (
        "update organization_members set user_id = {} where id = 'a3'",
        ["'u1'", "'u2'"],
        ["'nobody'"],
    ),
    "organization_invitations_organization_and_user_are_unique": (
        """
        insert into organization_invitations (id, organization_id, user_id, role, expire_time)
        values ('i2', {}, 'viewer', now())
        """,
        ["'g2', 'u2'", "'g1', 'u1'"],
        ["'g1', 'u2'"],
    ),
    "organization_invitations_belong_to_an_organization": (
        "update organization_invitations set (organization_id, inviter_id) = ({})",
        ["'g2', 'u2'", "'g2', null"],
        ["'nothing', null"],
    ),
    "organization_invitations_are_for_a_user": (
        "update organization_invitations set user_id = {}",
        ["'u1'"],
        ["'nobody'"],
    ),
    # By one who is no member there.
    "organization_invitations_are_made_by_a_member": (
        "update organization_invitations set (organization_id, inviter_id) = ({})",
        ["'g1', 'u2'", "'g2', null"],
        ["'g2', 'u1'", "'g2', 'nobody'"],
    ),
    "templates_belong_to_an_organization": (
        "update templates set organization_id = {} where id = 'p5'",
        ["null", "'g1'", "'g2'"],
        ["'nothing'", "''"],
    ),
    "api_keys_belong_to_a_user": ("update api_keys set user_id = {} where id = 'k1'", ["'u2'"], ["'nobody'"]),
    "api_keys_belong_to_a_member": (
        "update api_keys set (user_id, organization_id) = ({})",
        ["'u1', 'g1'", "'u2', 'g2'", "'u2', null"],
        ["'u1', 'g2'", "'u2', 'nothing'"],
    ),
    "api_keys_belong_to_a_parent": (
        "update api_keys set parent_id = {} where id = 'k2'",
        ["null", "'k1'"],
        ["'nothing'", "''"],
    ),
    "api_keys_name_within_bounds": (
        "update api_keys set name = {}",
        ["'x'", "repeat('é', 128)"],
        ["''", "repeat('x', 129)"],
    ),
    "processing_records_belong_to_a_user": (
        "update processing_records set user_id = {} where id = 'r1'",
        ["'u2'"],
        ["'nobody'"],
    ),
    "processing_records_belong_to_an_organization": (
        "update processing_records set organization_id = {} where id = 'r1'",
        ["null", "'g2'"],
        ["'nothing'", "''"],
    ),
    "processing_inputs_belong_to_a_record": (
        "update processing_inputs set record_id = {}",
        ["'r2'"],
        ["'nothing'"],
    ),
    "processing_output_belongs_to_a_record": (
        "update processing_output set record_id = {}",
        ["'r2'"],
        ["'nothing'"],
    ),
    "processing_records_filename_within_bounds": (
        "update processing_records set filename = {}",
        ["'x'", "repeat('é', 255)"],
        ["''", "repeat('x', 256)"],
    ),
    "processing_records_openai_file_id_within_bounds": (
        "update processing_records set openai_file_id = {}",
        ["''", "repeat('é', 128)"],
        ["repeat('x', 129)"],
    ),
    "processing_records_processing_time_within_bounds": (
        "update processing_records set processing_time = {}",
        ["null", "'0'", "'720 hours'"],
        ["'-1 second'", "'720 hours 1 microsecond'"],
    ),
    "processing_records_error_reason_within_bounds": (
        "update processing_records set error_reason = {}",
        ["''", "'A-1_z.'", "repeat('a', 64)"],
        ["'a b'", "'é'", "E'a\\n'", "repeat('a', 65)"],
    ),
    "processing_records_error_message_within_bounds": (
        "update processing_records set error_message = {}",
        ["''", "repeat('é', 2000)"],
        ["repeat('x', 2001)"],
    ),
    "processing_records_template_id_within_bounds": (
        "update processing_records set template_id = {}",
        ["'nothing'", "repeat('é', 64)"],
        ["''", "repeat('x', 65)"],
    ),
    "processing_records_template_revision_within_bounds": (
        "update processing_records set template_revision = {}",
        ["0", "9223372036854775807"],
        ["-1"],
    ),
    "processing_records_template_type_revision_within_bounds": (
        "update processing_records set template_type_revision = {}",
        ["0", "9223372036854775807"],
        ["-1"],
    ),
    "processing_records_model_within_bounds": (
        "update processing_records set model = {}",
        ["''", "repeat('é', 128)"],
        ["repeat('x', 129)"],
    ),
    "processing_records_results_within_bounds": (
        "update processing_records set results = {}",
        ["''", "repeat('é', 393216)"],
        ["repeat('é', 393216) || 'x'"],
    ),
    "processing_records_output_text_within_bounds": (
        "update processing_records set output_text = {}",
        ["''", "repeat('é', 262144)"],
        ["repeat('é', 262144) || 'x'"],
    ),
    "processing_records_response_id_within_bounds": (
        "update processing_records set response_id = {}",
        ["''", "repeat('é', 128)"],
        ["repeat('x', 129)"],
    ),
    "processing_records_usage_within_bounds": (
        "update processing_records set (input_tokens, cached_tokens, output_tokens, reasoning_tokens) = ({})",
        ["null, null, null, null", "0, 0, 0, 0"],
        ["null, 0, 0, 0", "0, 0, 0, null", "-1, 0, 0, 0", "0, 0, 0, -1"],
    ),
    "assistants_by_assistant_id": (
        "insert into assistants (template_id, epoch, assistant_id) select 'p2', epoch, {} from registry",
        ["'asst_9'", "null"],
        ["'asst_1'"],
    ),
    "users_clerk_id_is_unique": ("insert into users (id, clerk_id) values ('u3', {})", ["'user_3'"], ["'user_1'"]),
    "template_types_name_is_unique": (
        "insert into template_types (id, name) values ('t3', {})",
        ["'other'"],
        ["'data-export'"],
    ),
    # The pair is unique over all types.
    "template_tools_name_and_type_are_unique": (
        "insert into template_tools (id, template_type_id, name, type) values ('o4', 't2', {})",
        ["'search', 'code_interpreter'", "'run', 'file_search'"],
        ["'search', 'file_search'"],
    ),
    "openai_models_openai_id_is_unique": (
        "insert into openai_models (id, openai_id, name) values ('m3', {}, 'GPT-5.5')",
        ["'gpt-5.4'", "'GPT-5.5'"],
        ["'gpt-5.5'"],
    ),
    "template_tools_belong_to_a_type": ("update template_tools set template_type_id = {}", ["'t2'"], ["'nothing'"]),
    "templates_have_an_author": ("update templates set user_id = {}", ["'u2'"], ["'nobody'"]),
    "templates_are_of_a_type": (
        "insert into templates (id, title, instructions, user_id, model_id, template_type_id) values ({})",
        ["'p6', 'Six', 'Do it.', 'u1', 'm1', 't1'"],
        ["'p6', 'Six', 'Do it.', 'u1', 'm1', 'nothing'"],
    ),
    "templates_name_a_model": ("update templates set model_id = {}", ["'m1'"], ["'nothing'"]),
    "user_template_selections_belong_to_a_user": (
        "update user_template_selections set user_id = {} where id = 's1'",
        ["'u2'"],
        ["'nobody'"],
    ),
}
"""By the name of a constraint: a statement with a gap, what may stand there, and what is refused."""

NEVER_FIRST = {"templates_id_type_and_scope_are_unique"}
"""Constraints that others always come before: this one is only there to be referred to."""

CASES = [
    pytest.param(name, sql.format(value.format()), is_refused, id=f"{name}: {value}")
    for name, (sql, accepted, refused) in BOUNDS.items()
    for values, is_refused in ((accepted, False), (refused, True))
    for value in values
]


@pytest.fixture
def filled(database: Database) -> Database:
    """The server's database with some rows."""
    fill(database)
    database.query(IN_ORGANIZATIONS)
    return database


def names_in(database: Database) -> list[str]:
    """Answer the names of the constraints that a row can break, but primary keys and not null, and the engine's own."""
    return [
        name
        for (name,) in database.query(
            """
            select conname from pg_constraint
            where connamespace = 'public'::regnamespace and contype not in ('p', 'n')
              and conrelid::regclass::text not like 'procrastinate%'
            union all
            select relname from pg_index join pg_class on pg_class.oid = indexrelid
            where relnamespace = 'public'::regnamespace and indisunique and relname not like 'procrastinate%'
              and not exists (select 1 from pg_constraint where conindid = indexrelid and contype in ('p', 'u'))
            """
        )
    ]


def test_every_constraint_has_its_answer_and_every_answer_its_constraint(database: Database) -> None:
    assert sorted(names_in(database)) == sorted(CONSTRAINTS), "on the right: what service/constraints.py has"


def test_every_constraint_is_seen_to_refuse_in_these_tests() -> None:
    assert BOUNDS.keys() | NEVER_FIRST == CONSTRAINTS.keys(), "on the left: what BOUNDS above has"
    assert all(refused for _, _, refused in BOUNDS.values())


def test_a_message_has_the_bound_of_its_constraint(database: Database) -> None:
    definitions = dict(database.query("select conname, pg_get_constraintdef(oid) from pg_constraint"))

    def numbers(text: str) -> set[str]:
        # A digit may stand in a pattern.
        return {number for number in re.findall(r"\d+", text) if int(number) > 9}

    for name, error in CONSTRAINTS.items():
        for _, rule in error.violations:
            assert numbers(rule) == numbers(definitions[name]), f"{name}: see its message in service/constraints.py"


REFERENCES = {str(field) for method in METHODS for field in method.references()}

BOUNDED = {
    str(field).removesuffix("[0]"): rules
    for method in [*CREATES, *UPDATES]
    for field in method.fields()
    if len(field.way) == 2
    and field.name != "etag"
    and OUTPUT_ONLY not in behaviour(field.last)
    and str(field) not in REFERENCES
    and (field.last.is_repeated or field.last.message_type is None)
    if (rules := list(bounds(field.container)))
}
"""The bounds of each field that is kept. A reference has a key instead; a message has a type or `config`."""


@pytest.mark.parametrize("field", BOUNDED)
def test_a_bound_of_the_protos_is_one_of_the_database(database_session: Database, field: str) -> None:
    names = [name for name, error in CONSTRAINTS.items() if field in dict(error.violations)]
    assert names, f"no constraint bounds {field}: add one to a migration, to service/constraints.py and to BOUNDS above"
    sql = "select pg_get_constraintdef(oid) from pg_constraint where conname = any(%s)"
    found = database_session.query(sql, (names,))
    numbers = {float(number) for (text,) in found for number in re.findall(r"-?\d+(?:\.\d+)?", text)}
    missing = {*BOUNDED[field]} - numbers
    assert not missing, f"the migration of {', '.join(names)} lacks these bounds of {field}, each as a number"


def test_constraints_are_validated(database: Database) -> None:
    found = database.query("select conname from pg_constraint where not convalidated")
    assert not found, "a later migration has to validate these"


def test_every_name_begins_with_its_table_and_says_what_holds(database: Database) -> None:
    named = database.query(
        r"""
        select conrelid::regclass::text, conname from pg_constraint
        where connamespace = 'public'::regnamespace and contype not in ('p', 'n')
          and conrelid::regclass::text not like 'procrastinate%'
        union all
        select tablename, indexname from pg_indexes
        where schemaname = 'public' and indexname not like '%_pkey' and tablename not like 'procrastinate%'
          -- PostgreSQL names those of partitions.
          and tablename not like 'usages\_2%'
        """
    )
    # What PostgreSQL appends where a migration gives no name.
    generated = ("_key", "_fkey", "_check", "_idx", "_excl", "1")
    assert [name for table, name in named if not name.startswith(f"{table}_") or name.endswith(generated)] == []


@pytest.mark.parametrize(("name", "sql", "is_refused"), CASES)
def test_plain_sql_is_refused_by_the_constraint_and_no_sooner(
    filled: Database, name: str, sql: str, is_refused: bool
) -> None:
    if not is_refused:
        filled.query(sql)
        return
    with pytest.raises(psycopg2.IntegrityError) as caught:
        filled.query(sql)
    assert caught.value.diag.constraint_name == name


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("delete from users where id = 'u2'", "templates_have_an_author"),
        ("delete from template_types where id = 't1'", "templates_are_of_a_type"),
        ("delete from openai_models where id = 'm1'", "templates_name_a_model"),
        (
            "update templates set template_type_id = 't2', is_default = false where id = 'p2'",
            "user_template_selections_are_of_a_template_of_their_type",
        ),
        ("delete from organizations where id = 'g2'", "templates_belong_to_an_organization"),
        # A template that is selected stays where it belongs.
        (
            "update templates set organization_id = 'g2' where id = 'p4'",
            "user_template_selections_are_of_a_template_of_their_type",
        ),
        (
            "update templates set organization_id = null, is_default = false where id = 'p4'",
            "user_template_selections_are_of_a_template_of_their_type",
        ),
    ],
)
def test_what_is_referred_to_stays(filled: Database, sql: str, name: str) -> None:
    with pytest.raises(psycopg2.errors.ForeignKeyViolation) as caught:
        filled.query(sql)
    assert caught.value.diag.constraint_name == name


@pytest.mark.parametrize(
    ("sql", "left"),
    [
        ("delete from templates where id = 'p2'", {"user_template_selections": ["s2", "s3", "s4"]}),
        (
            "delete from templates where user_id = 'u2'; delete from users where id = 'u2'",
            {
                "users": ["u1"],
                "user_template_selections": ["s1", "s3"],
                "organization_members": ["a1"],
                "organization_invitations": [],
                "organizations": ["g1", "g2"],
                "api_keys": ["k1"],
                "processing_records": ["r1", "r2"],
            },
        ),
        (
            "delete from organization_members where id = 'a2'",
            {
                "user_template_selections": ["s1", "s2", "s3"],
                "api_keys": ["k1"],
                "templates": ["p1", "p2", "p3", "p4", "p5"],
            },
        ),
        (
            "delete from templates where organization_id = 'g1'; delete from organizations where id = 'g1'",
            {
                "organization_invitations": [],
                "organization_members": ["a3"],
                "user_template_selections": ["s1", "s2"],
                "api_keys": ["k1"],
                "processing_records": ["r1", "r3"],
                "users": ["u1", "u2"],
            },
        ),
        # Who invited leaves.
        ("delete from organization_members where id = 'a1'", {"organization_invitations": []}),
        (
            "delete from templates where template_type_id = 't1'; delete from template_types where id = 't1'",
            {"template_tools": ["o3"], "user_template_selections": ["s2"]},
        ),
    ],
)
def test_what_belongs_to_a_row_goes_with_it(filled: Database, sql: str, left: Mapping[str, list[str]]) -> None:
    filled.query(sql)
    for table, ids in left.items():
        assert [id for (id,) in filled.query(f"select id from {table} order by id")] == ids


@pytest.mark.parametrize("table", ["templates", "user_template_selections"])
def test_the_scope_of_a_row_is_written_with_its_organization_and_by_nobody(filled: Database, table: str) -> None:
    assert filled.query(f"select id from {table} where scope is distinct from coalesce(organization_id, '')") == []
    with pytest.raises(psycopg2.errors.GeneratedAlways):
        filled.query(f"update {table} set scope = ''")
