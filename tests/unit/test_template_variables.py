"""What is filled into instructions: once, as it is, in a time that grows with them and no faster."""

import random
import re
from typing import Any

import pytest

from service import errors
from service.operations import template_variables
from service.operations.template_variables import MAX_CHARACTERS, fill

NAMES = ("a", "b", "name", "name2", "an_d", "x" * 64)
KIB_64 = "😀" * 16384

CASES: dict[str, tuple[str, str]] = {
    # Instructions, and what comes out with a=1, b=2, name=N, name2=M, an_d=&, and 64 times x=X.
    "alone": ("{{a}}", "1"),
    "at the beginning": ("{{a}} is it", "1 is it"),
    "at the end": ("it is {{a}}", "it is 1"),
    "twice": ("{{a}}{{a}}", "11"),
    "two": ("{{a}}-{{b}}", "1-2"),
    "two without anything between": ("{{a}}{{b}}", "12"),
    "one name begins with another": ("{{name}} {{name2}}", "N M"),
    "an underscore": ("{{an_d}}", "&"),
    "the longest name": ("{{" + "x" * 64 + "}}", "X"),
    "a name that is too long": ("{{" + "x" * 65 + "}}", "{{" + "x" * 65 + "}}"),
    "another name": ("{{c}}", "{{c}}"),
    "the beginning of a name": ("{{nam}}", "{{nam}}"),
    "a name and more": ("{{names}}", "{{names}}"),
    "upper case": ("{{A}} {{Name}}", "{{A}} {{Name}}"),
    "spaces": ("{{ a }} {{a }} {{ a}}", "{{ a }} {{a }} {{ a}}"),
    "a tab and a line": ("{{\ta}} {{a\n}}", "{{\ta}} {{a\n}}"),
    "a space of no width": ("{{a\u200b}}", "{{a\u200b}}"),
    "single braces": ("{a} {name}", "{a} {name}"),
    "three braces": ("{{{a}}}", "{1}"),
    "four braces": ("{{{{a}}}}", "{{1}}"),
    "braces that do not match": ("{{a} {a}} {{a", "{{a} {a}} {{a"),
    "nothing in braces": ("{{}} {{{}}}", "{{}} {{{}}}"),
    "a name in a name": ("{{na{{a}}me}}", "{{na1me}}"),
    "a name in the braces of another": ("{{{{a}}b}}", "{{1b}}"),
    "braces between": ("{{a}}}}{{b}}", "1}}2"),
    "Jinja's statements": ("{% if a %}{{ a | upper }}{% endif %}", "{% if a %}{{ a | upper }}{% endif %}"),
    "Jinja's comments": ("{# {{a}} #}", "{# 1 #}"),
    "Jinja's attributes": ("{{a.b}} {{a['b']}} {{a|e}}", "{{a.b}} {{a['b']}} {{a|e}}"),
    "Mustache's sections": ("{{#a}}{{/a}} {{^a}} {{!a}}", "{{#a}}{{/a}} {{^a}} {{!a}}"),
    "Mustache's partials": ("{{>a}} {{&a}}", "{{>a}} {{&a}}"),
    "Python's formats": ("{0} {a!r} %(a)s $a ${a} \\1", "{0} {a!r} %(a)s $a ${a} \\1"),
    "Go's templates": ("{{.a}} {{- a -}}", "{{.a}} {{- a -}}"),
    "JSON": ('{"a": {"b": {}}}', '{"a": {"b": {}}}'),
    "LaTeX": ("\\frac{{a}}{{b}}", "\\frac12"),
    "a name of digits": ("{{1}} {{1a}} {{_a}}", "{{1}} {{1a}} {{_a}}"),
    "letters that are like others": ("{{\u0430}} {{\uff41}} {{a\u0301}}", "{{\u0430}} {{\uff41}} {{a\u0301}}"),
    "emoji around": ("😀{{a}}👩‍👩‍👧", "😀1👩‍👩‍👧"),
    "other ends of lines": ("\u2028{{a}}\u2029\x85\r\n{{b}}\x0b", "\u20281\u2029\x85\r\n2\x0b"),
    "right to left": ("\u202e{{a}}\u05e9", "\u202e1\u05e9"),
    "nothing": ("Do it.", "Do it."),
}
VALUES = dict(zip(NAMES, "12NM&X", strict=True))

TEXTS = (
    "",
    "{{b}}",
    "{{a}}",
    "{{",
    "}}",
    "\\1 \\g<0> %s {0}",
    "\u2028\u2029",
    "👩‍👩‍👧",
    KIB_64,
    "a\u0301 \ufeff",
    "$1",
)


def variable(name: str, default: str = "", required: bool = False) -> dict[str, Any]:
    return {"name": name, "description": "", "required": required, "default_value": default}


@pytest.mark.parametrize(("instructions", "filled"), CASES.values(), ids=CASES)
def test_a_name_in_two_braces_is_replaced_and_nothing_else(instructions: str, filled: str) -> None:
    declared = [variable(name) for name in NAMES]
    assert fill(instructions, declared, VALUES) == (filled, [])
    # Without declared variables everything stays, whatever is sent.
    assert fill(instructions, [], VALUES) == (instructions, sorted(NAMES))


@pytest.mark.parametrize("value", TEXTS, ids=range(len(TEXTS)))
def test_what_is_in_a_value_is_never_looked_into(value: str) -> None:
    declared = [variable("a"), variable("b", "B")]
    assert fill("{{a}}, {{b}}, {{{a}}}", declared, {"a": value}) == (f"{value}, B, {{{value}}}", [])
    assert fill("{{a}}}} {{{{a}}", declared, {"a": value}) == (f"{value}}}}} {{{{{value}", [])


def test_values_come_from_the_request_then_from_the_default_and_are_then_missing() -> None:
    declared = [variable("a", "A"), variable("b"), variable("name", required=True)]
    text = "{{a}}|{{b}}|{{name}}"
    assert fill(text, declared, {"name": "N"}) == ("A||N", [])
    # One that is empty is one that was given.
    assert fill(text, declared, {"a": "", "name": ""}) == ("||", [])
    assert fill(text, declared, {"name": "N", "z": "1", "c": "2"}) == ("A||N", ["c", "z"])
    with pytest.raises(errors.InvalidArgument) as caught:
        fill(text, [*declared, variable("an_d", required=True)], {"a": "1"})
    assert [field for field, _ in caught.value.violations] == ["variables.name", "variables.an_d"]


def test_instructions_may_become_as_long_as_they_may_be_and_no_longer() -> None:
    declared = [variable("a")]
    room = "x" * (MAX_CHARACTERS - 2 * len(KIB_64))
    filled, _ = fill(f"{{{{a}}}}{room}{{{{a}}}}", declared, {"a": KIB_64})
    assert len(filled) == MAX_CHARACTERS
    with pytest.raises(errors.InvalidArgument) as caught:
        fill(f"{{{{a}}}}{room}x{{{{a}}}}", declared, {"a": KIB_64})
    ((field, rule),) = caught.value.violations
    assert (field, str(MAX_CHARACTERS) in rule) == ("variables", True)
    # What would be 3 GB is never made.
    with pytest.raises(errors.InvalidArgument):
        fill("{{a}}" * 51_200, declared, {"a": "x" * 65_536})


@pytest.mark.parametrize(
    ("names", "instructions", "wrong"),
    [
        ([], "{{a}}", []),
        (["a", "b"], "{{b}} {{a}}", []),
        (["a"], "{{{a}}}", []),
        (["a", "b"], "{{a}} {{ b }} {b} {{B}}", [1]),
        (["a", "a"], "{{a}}", [1]),
        (["a", "b", "a"], "", [0, 1, 2]),
    ],
)
def test_each_variable_has_a_name_of_its_own_that_the_instructions_use(
    names: list[str], instructions: str, wrong: list[int]
) -> None:
    declared = [variable(name) for name in names]
    if not wrong:
        template_variables.check(declared, instructions)
        return
    with pytest.raises(errors.InvalidArgument) as caught:
        template_variables.check(declared, instructions)
    assert [field for field, _ in caught.value.violations] == [f"template.variables[{index}].name" for index in wrong]


def test_random_instructions_are_filled_as_a_simple_reading_says() -> None:
    draw = random.Random(15)
    pieces = ["{", "{{", "}", "}}", "a", "b", "name", "{{a}}", "{{b}}", " ", "\n", "😀", "\u2028", "\\", "$", "%"]
    for _ in range(2000):
        instructions = "".join(draw.choices(pieces, k=draw.randrange(30)))
        values = {name: "".join(draw.choices(pieces, k=draw.randrange(5))) for name in ("a", "b")}
        filled, _ = fill(instructions, [variable("a"), variable("b")], values)
        assert filled == read(instructions, values)


def read(text: str, values: dict[str, str]) -> str:
    """Answer the filled text, from left to right."""
    out = ""
    while text:
        found = next((name for name in values if text.startswith(f"{{{{{name}}}}}")), None)
        # An undeclared name is passed by whole.
        passed = re.match(r"\{\{[a-z][a-z0-9_]{0,63}\}\}", text)
        end = passed.end() if passed else 1
        out += values[found] if found else text[:end]
        text = text[end:]
    return out


@pytest.mark.parametrize("unit", ["{", "{{", "{{a", "{{a}", "{{{{a}}", "{{" + "a" * 63, "}}", "{{a}}"])
def test_the_steps_grow_with_the_text_and_no_faster(unit: str) -> None:
    # Each place where a name may begin is looked at once, for no more than the longest name.
    text = unit * (MAX_CHARACTERS // len(unit))
    filled, _ = fill(text, [variable("a", "1")], {})
    assert filled == text.replace("{{a}}", "1")
