"""A stand-in for Clerk: an HTTP server with its public keys, and the sessions that it signs."""

import itertools
import json
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

ISSUER = "https://clerk.example.com"
PARTY = "https://app.example.com"


class SigningKey:
    def __init__(self, id: str) -> None:
        self.id = id
        self.private = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @property
    def pem(self) -> str:
        """The public key."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.private.public_key().public_bytes(serialization.Encoding.PEM, form).decode()

    @property
    def jwk(self) -> dict[str, Any]:
        public = jwt.algorithms.RSAAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        return {**public, "kid": self.id, "use": "sig", "alg": "RS256"}

    def token(self, header: dict[str, Any], claims: dict[str, Any]) -> str:
        """Answer what PyJWT would not make: any header over any claims, signed as RS256 whatever the header says."""
        signed = f"{segment(json.dumps(header).encode())}.{segment(json.dumps(claims).encode())}"
        signature = self.private.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{segment(signature)}"


def segment(data: bytes) -> str:
    """Answer a part of a token."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


class Clerk:
    """Serves `keys` at `url`, unless it `is_away`, or has an `answer` of another kind."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self.keys = [self.new_key()]
        self.is_away = False
        self.answer: Callable[[BaseHTTPRequestHandler], None] | None = None
        self.fetches = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, name="clerk", daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/.well-known/jwks.json"

    def new_key(self) -> SigningKey:
        return SigningKey(f"ins_{next(self._numbers)}")

    def rotate(self) -> None:
        """Sign with another key from now on, and serve no other."""
        self.keys = [self.new_key()]

    def add_key(self) -> None:
        """Sign with another key from now on, and serve the others as well, as Clerk does."""
        self.keys = [*self.keys, self.new_key()]

    def claims(self, user: str, **claims: Any) -> dict[str, Any]:
        """Answer what a session says; a claim of None is left out."""
        now = int(time.time())
        all_claims = {
            "azp": PARTY,
            "exp": now + 60,
            "iat": now,
            "iss": ISSUER,
            "nbf": now - 10,
            # No two tokens are the same, so that nothing is remembered of one that another test made.
            "sid": f"sess_{next(self._numbers)}",
            "sts": "active",
            "sub": user,
            **claims,
        }
        return {name: value for name, value in all_claims.items() if value is not None}

    def session(
        self, user: str, *, key: SigningKey | None = None, headers: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        """Answer the token of a session; a claim of None is left out, and so is such a header."""
        key = key or self.keys[-1]
        all_headers = {"cat": "cl_B7d4PD111AAA", "kid": key.id, **(headers or {})}
        return jwt.encode(
            self.claims(user, **claims),
            key.private,
            algorithm="RS256",
            headers={name: value for name, value in all_headers.items() if value is not None},
        )

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer with the keys, unless it is away."""
        if self.is_away:
            handler.send_error(503)
            return
        body = json.dumps({"keys": [key.jwk for key in self.keys]}).encode()
        handler.send_response(200)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        clerk = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                clerk.fetches += 1
                if clerk.answer is not None:
                    clerk.answer(self)
                    return
                clerk.serve(self)

            def log_message(self, *_: Any) -> None:
                """Say nothing: the tests count the fetches."""

        return Handler
