"""An authorization server built with Authlib: token exchange (RFC 8693) and client credentials.

Each client has its own authentication method. Reads the broker's name and keys from stdin as one JSON object, prints its port, and logs each
request and each token that it issues as one line of JSON. Ends when stdin is closed.
"""

import json
import os
import sys
import threading
import time

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import BaseGrant, ClientMixin, TokenEndpointMixin, grants
from authlib.oauth2.rfc6749.errors import AccessDeniedError, InvalidRequestError, UnauthorizedClientError
from authlib.oauth2.rfc7523 import JWTBearerClientAssertion
from flask import Flask, request
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet
from werkzeug.serving import make_server

TOLD = json.loads(sys.stdin.readline())
LOG = open(sys.argv[1], "w", encoding="utf-8")
ISSUER = "https://login.crm.example"
RESOURCE = "https://mcp.crm.example/mcp"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
JWT = "urn:ietf:params:oauth:token-type:jwt"
OWN_KEY = ECKey.generate_key("P-256")
METHODS = ["client_secret_basic", "client_secret_post", "private_key_jwt"]
USED_IDS = set()


def log(**what):
    LOG.write(json.dumps(what) + "\n")
    LOG.flush()


class Client(ClientMixin):
    """A client, named after its only authentication method."""

    def __init__(self, client_id):
        self.client_id = client_id

    def get_client_id(self):
        return self.client_id

    def check_client_secret(self, client_secret):
        return client_secret == TOLD["client_secret"]

    def check_endpoint_auth_method(self, method, endpoint):
        return endpoint == "token" and method == self.client_id

    def check_grant_type(self, grant_type):
        return grant_type in (EXCHANGE, "client_credentials")

    def get_allowed_scope(self, scope):
        return " ".join(word for word in (scope or "").split() if word in ("crm:read", "crm:write"))


def query_client(client_id):
    return Client(client_id) if client_id in METHODS else None


class ClientAssertion(JWTBearerClientAssertion):
    CLIENT_AUTH_METHOD = "private_key_jwt"

    def get_audiences(self):
        return [ISSUER]

    def validate_jti(self, claims, jti):
        return once(jti)

    def resolve_client_public_key(self, client):
        return KeySet.import_key_set(TOLD["client_jwks"])


def once(jti):
    is_new = jti not in USED_IDS
    USED_IDS.add(jti)
    return is_new


def verified(token, kind):
    """Returns the claims of a broker assertion: for this server, short-lived, and valid once."""
    if kind != JWT:
        raise InvalidRequestError("not a JWT")
    try:
        decoded = jwt.decode(token, KeySet.import_key_set(TOLD["broker_jwks"]), algorithms=["ES256"])
        registry = jwt.JWTClaimsRegistry(
            leeway=0,
            iss={"essential": True, "value": TOLD["issuer"]},
            aud={"essential": True, "value": ISSUER},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
            jti={"essential": True},
        )
        registry.validate(decoded.claims)
    except JoseError as error:
        raise InvalidRequestError(error.description or error.error) from error
    claims = decoded.claims
    if decoded.header.get("typ") != "JWT" or claims["exp"] > time.time() + 60 or not once(claims["jti"]):
        raise InvalidRequestError("of another type, too long, or used before")
    return claims


class TokenExchange(BaseGrant, TokenEndpointMixin):
    GRANT_TYPE = EXCHANGE
    TOKEN_ENDPOINT_AUTH_METHODS = METHODS

    def validate_token_request(self):
        client = self.authenticate_token_endpoint_client()
        if not client.check_grant_type(self.GRANT_TYPE):
            raise UnauthorizedClientError()
        self.request.client = client
        form = self.request.form
        if form.get("requested_token_type") != ACCESS_TOKEN:
            raise InvalidRequestError("only access tokens are given")
        if form.get("resource") != RESOURCE:
            raise OAuth2Error(error="invalid_target", description="no such resource")
        subject = verified(form.get("subject_token"), form.get("subject_token_type"))
        act = subject.get("act")
        if form.get("actor_token"):
            actor = verified(form.get("actor_token"), form.get("actor_token_type"))
            act = {"iss": actor["iss"], "sub": actor["sub"]} | ({"act": act} if act else {})
        if subject["sub"] == "mallory":
            raise AccessDeniedError()
        self.validate_requested_scope()
        self.request.user = {"sub": subject["sub"]} | ({"act": act} if act else {})

    def create_token_response(self):
        scope = self.client.get_allowed_scope(self.request.payload.scope)
        token = self.generate_token(user=self.request.user, scope=scope, include_refresh_token=False)
        token["issued_token_type"] = ACCESS_TOKEN
        self.save_token(token)
        return 200, token, self.TOKEN_RESPONSE_HEADER


class ClientCredentials(grants.ClientCredentialsGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = METHODS


def access_token(client, grant_type, user, scope):
    claims = {"iss": ISSUER, "aud": RESOURCE, "client_id": client.client_id, "scope": scope, "jti": os.urandom(16).hex()}
    return jwt.encode({"alg": "ES256"}, claims | (user or {"sub": client.client_id}), OWN_KEY)


app = Flask(__name__)
app.config["OAUTH2_ACCESS_TOKEN_GENERATOR"] = access_token
app.config["OAUTH2_SCOPES_SUPPORTED"] = ["crm:read", "crm:write"]
app.config["OAUTH2_TOKEN_EXPIRES_IN"] = {EXCHANGE: 3600, "client_credentials": 3600}
server = AuthorizationServer(app, query_client, save_token=lambda token, _: log(gave=token["access_token"]))
server.register_client_auth_method("private_key_jwt", ClientAssertion())
server.register_grant(TokenExchange)
server.register_grant(ClientCredentials)


@app.post("/token")
def token():
    log(authorization=request.headers.get("Authorization"), form=request.form.to_dict(flat=False))
    response = server.create_token_response()
    if response.status_code != 200:
        log(refused=response.json["error"])
    return response


listener = make_server("127.0.0.1", 0, app, threaded=True)
print(listener.server_port, flush=True)
threading.Thread(target=listener.serve_forever, daemon=True).start()
sys.stdin.read()
