"""The official Python SDK against a server: sdk_session.py URL CLIENT_ID CLIENT_SECRET PROFILE_ID.

Prints as JSON what the calls gave. Its own HTTP client makes the calls that it has no method for.
"""

import json
import sys
import time

from infisical_sdk import InfisicalSDKClient
from infisical_sdk.api_types import MachineIdentityLoginResponse
from infisical_sdk.infisical_requests import APIError


def main(url, client_id, client_secret, profile_id):
    with InfisicalSDKClient(host=url) as client:
        login = client.auth.universal_auth.login(client_id=client_id, client_secret=client_secret)
        time.sleep(1)
        renewed = client.api.post(
            "/api/v1/auth/token/renew", model=MachineIdentityLoginResponse, json={"accessToken": login.accessToken}
        ).data
        client.auth.token_auth.login(renewed.accessToken)
        projects = client.api.get("/api/v1/projects", model=dict).data
        issued = client.api.post(
            "/api/v3/pki/certificates/issue-certificate",
            model=dict,
            json={
                "profileId": profile_id,
                "commonName": "python.example.com",
                "ttl": "1h",
                "signatureAlgorithm": "ECDSA-SHA256",
                "keyAlgorithm": "EC_prime256v1",
            },
        ).data
        try:
            client.auth.universal_auth.login(client_id=client_id, client_secret="wrong")
            refusal = None
        except APIError as error:
            refusal = {"status": error.status_code, "body": error.response}
    return {
        "login": login.to_dict(),
        "renewed": renewed.to_dict(),
        "projects": projects,
        "certificate": issued["certificate"],
        "refusal": refusal,
    }


print(json.dumps(main(*sys.argv[1:])))
