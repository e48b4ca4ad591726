"""The header of proxies: what it names, and that it is that or refused, whatever it is."""

import random
import re

import pytest

from service.identity.xfcc import names

ADMIN = "spiffe://mesh/admin"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("URI=spiffe://mesh/a", ["spiffe://mesh/a"]),
        ("uri=spiffe://mesh/a", ["spiffe://mesh/a"]),
        ('URI="spiffe://mesh/a"', ["spiffe://mesh/a"]),
        ("DNS=a.internal", ["a.internal"]),
        ("DNS=a.internal;DNS=b.internal", ["a.internal", "b.internal"]),
        ("URI=spiffe://mesh/a;DNS=a.internal", ["spiffe://mesh/a"]),
        ("URI=;DNS=a.internal", ["a.internal"]),
        ("DNS=;URI=spiffe://mesh/a", ["spiffe://mesh/a"]),
        ("By=spiffe://mesh/server;Hash=00ff;URI=spiffe://mesh/a", ["spiffe://mesh/a"]),
        ("By=spiffe://mesh/server;By=spiffe://mesh/other;Hash=00ff;URI=spiffe://mesh/a", ["spiffe://mesh/a"]),
        (f"By={ADMIN};Hash=00ff", []),
        ("Hash=00ff", []),
        ("URI=", []),
        ('Subject="";URI=spiffe://mesh/a', ["spiffe://mesh/a"]),
        ('Subject="CN=a,O=b;c=d";URI=spiffe://mesh/a', ["spiffe://mesh/a"]),
        (f'Subject="CN=\\";URI={ADMIN};X=\\"";URI=spiffe://mesh/a', ["spiffe://mesh/a"]),
        (f'Subject="CN=a\\\\";URI={ADMIN}', [ADMIN]),
        (f'Cert="-----BEGIN%20CERTIFICATE-----%0A";Chain=",;URI={ADMIN}"', []),
        ('DNS="a\\"b"', ['a"b']),
    ],
)
def test_the_names_are_those_of_the_certificate(value: str, expected: list[str]) -> None:
    assert names([value]) == expected


@pytest.mark.parametrize(
    "values",
    [
        [],
        [f"URI={ADMIN}", f"URI={ADMIN}"],
        ["", f"URI={ADMIN}"],
        [""],
        [" "],
        ["URI"],
        ["="],
        [f"={ADMIN}"],
        [ADMIN],
        [f"URI={ADMIN},URI={ADMIN}"],
        [f"URI={ADMIN},"],
        [f",URI={ADMIN}"],
        [f"Hash=00,By=a;URI={ADMIN}"],
        [f"URI={ADMIN};"],
        [f";URI={ADMIN}"],
        [f"Hash=00;;URI={ADMIN}"],
        [f"Hash=00; URI={ADMIN}"],
        [f"URI={ADMIN};URI={ADMIN}"],
        [f"URI=spiffe://mesh/a;uRi={ADMIN}"],
        [f"DNS=a.internal;URI={ADMIN}"],
        [f"DNS=a.internal;URI={ADMIN};URI="],
        [f'Subject="CN=a;URI={ADMIN}'],
        [f'Subject="CN=a"URI={ADMIN}'],
        [f'Subject="CN=a"";URI={ADMIN}'],
        [f'Subject="CN=a\\";URI={ADMIN}'],
        [f'Subject=CN"=a;URI={ADMIN}'],
        [f"Subject=a\\;URI={ADMIN}"],
        [f"Subject=CN=a;URI={ADMIN}"],
        [f"U RI={ADMIN}"],
        [f"URI\0={ADMIN}"],
        [f"URI={ADMIN}\n"] * 2,
    ],
)
def test_what_no_such_proxy_sends_is_refused(values: list[str]) -> None:
    with pytest.raises(ValueError, match=r".*"):
        names(values)


PIECES = [
    *'",;=\\ ',
    "URI",
    "uri",
    "DNS",
    "By",
    "Subject",
    "Hash",
    ADMIN,
    "a.internal",
    "URI=",
    ";URI=",
    '\\"',
    "é",
    "\n",
]


def test_whatever_comes_is_names_or_refused() -> None:
    # Fixed, so that a failure comes again.
    random_ = random.Random(20261124)
    understood = 0
    for _ in range(20_000):
        if random_.random() < 0.2:
            value = random_.randbytes(random_.randrange(40)).decode("latin-1")
        else:
            value = "".join(random_.choices(PIECES, k=random_.randrange(12)))
        try:
            found = names([value])
        except ValueError:
            continue
        understood += 1
        assert all(found), value
        # Every name stands behind a key of its own, and one that is not quoted is all of it.
        for name in found:
            assert re.search(rf'(?i)(^|;)(uri|dns)=("|{re.escape(name)}(;|$))', value), (value, name)
    assert understood > 20


@pytest.mark.parametrize(
    "value", ['"' * 8000, 'Subject="' + "\\" * 8000, "a=;" * 3000, 'a="' + '\\"' * 4000, "A" * 8000]
)
def test_long_nonsense_is_soon_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        names([value])
