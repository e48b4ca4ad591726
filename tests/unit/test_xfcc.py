"""The header of proxies: what it names, and that it is that or refused, whatever it is."""

import random
import re
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from urllib.parse import quote

import pytest

from service.identity.xfcc import names
from tests.certificates import Authority, Files

ADMIN = "spiffe://mesh/admin"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("URI=spiffe://mesh/a", ["spiffe://mesh/a"]),
        ("uri=spiffe://mesh/a", ["spiffe://mesh/a"]),
        ("DNS=a.internal", ["a.internal"]),
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
        (f'Cert="";URI={ADMIN}', []),
    ],
)
def test_the_names_are_those_of_the_certificate(value: str, expected: list[str]) -> None:
    assert list(names([value])) == expected


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
        # Names are not quoted, so one may look like several, and leave its own key empty.
        [f"URI=;DNS=;URI={ADMIN}"],
        [f"DNS=;URI={ADMIN}"],
        [f"URI=;URI={ADMIN}"],
        ["DNS=;DNS=a.internal"],
        ["DNS=a.internal;DNS=b.internal"],
        ["URI=;DNS=a.internal"],
        [f"URI={ADMIN};DNS=a.internal"],
        [f'URI="{ADMIN}"'],
        [f"URI={ADMIN};Hash=00"],
        [f"Subject=;URI={ADMIN}"],
        [f"URI={ADMIN};Own=a"],
        [f'URI={ADMIN};Cert=""'],
        [f'Cert="";Cert="";URI={ADMIN}'],
        [f"Hash=00;By=a;URI={ADMIN}"],
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


def written(uris: Sequence[str], dns: Sequence[str], keys: Collection[str], cert: Files) -> str:
    """Answer the header as Envoy writes it, which neither quotes nor escapes a name."""
    pairs = ["By=spiffe://mesh/server", "Hash=00ff"]
    if "cert" in keys:
        pairs.append(f'Cert="{quote(cert.cert.read_text(), safe="")}"')
    if "subject" in keys:
        pairs.append('Subject="CN=a"')
    if "uri" in keys:
        pairs.append(f"URI={uris[0] if uris else ''}")
    if "dns" in keys:
        pairs += [f"DNS={name}" for name in dns]
    return ";".join(pairs)


PARTS = [ADMIN, "a.internal", "b.internal", ";", ";", ",", '"', "=", "URI=", "DNS=", "By=", "Cert=", 'Cert=""', "x"]


@pytest.mark.parametrize(
    "keys", [("uri",), ("dns",), ("uri", "dns"), ("subject", "uri", "dns"), ("cert", "uri", "dns")]
)
def test_no_name_is_found_that_the_certificate_has_not(tmp_path: Path, keys: tuple[str, ...]) -> None:
    authority = Authority(tmp_path)
    random_ = random.Random(20261126)
    found = Counter[str]()
    for _ in range(150 if "cert" in keys else 5000):
        uris, dns = (
            ["".join(random_.choices(PARTS, k=random_.randrange(1, 6))) for _ in range(random_.choice(counts))]
            for counts in ([0, 1, 1, 2], [0, 1, 2])
        )
        cert = authority.issue("cert", uris=uris, dns=dns) if "cert" in keys else Files(Path(), Path())
        header = written(uris, dns, keys, cert)
        try:
            taken = names([header])
        except ValueError:
            found["refused"] += 1
            continue
        found["names" if taken else "none"] += 1
        assert set(taken) <= {*uris, *dns}, header
        # Who has a URI is called by it alone, wherever the proxy tells of them.
        assert "uri" not in keys or not uris or set(taken) <= set(uris), header
    assert found["refused"]
    assert found["names"]


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
