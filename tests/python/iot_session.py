"""Clients of Yandex IoT Core against a server: iot_session.py FACTS, a bootstrap.json with a TLS listener.

Prints as JSON what the calls gave: gRPC as it is, in clear and over TLS; the vendor's SDK, which finds the services by
itself; reflection in both versions, and health.
"""

import json
import sys

import grpc
import yandexcloud
from google.rpc import error_details_pb2, status_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from yandex.cloud.endpoint.api_endpoint_service_pb2 import GetApiEndpointRequest, ListApiEndpointsRequest
from yandex.cloud.endpoint.api_endpoint_service_pb2_grpc import ApiEndpointServiceStub
from yandex.cloud.iam.v1.iam_token_service_pb2 import (
    CreateIamTokenForServiceAccountRequest,
    CreateIamTokenRequest,
    RevokeIamTokenRequest,
)
from yandex.cloud.iam.v1.iam_token_service_pb2_grpc import IamTokenServiceStub
from yandex.cloud.iot.devices.v1.registry_service_pb2 import GetRegistryRequest
from yandex.cloud.iot.devices.v1.registry_service_pb2_grpc import RegistryServiceStub


CREATE_TOKEN = "/yandex.cloud.iam.v1.IamTokenService/Create"


def endpoints(channel):
    listed = ApiEndpointServiceStub(channel).List(ListApiEndpointsRequest(page_size=100), timeout=20)
    one = ApiEndpointServiceStub(channel).Get(GetApiEndpointRequest(api_endpoint_id="iam"), timeout=20)
    return {"all": {endpoint.id: endpoint.address for endpoint in listed.endpoints}, "iam": one.address}


def failure(call):
    """How a call fails: the code, the names of the details, the fields that are wrong, the headers."""
    try:
        call()
    except grpc.RpcError as error:
        trailers = dict(error.trailing_metadata() or ())
        headers = {**dict(error.initial_metadata() or ()), **trailers}
        status = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
        found = {"code": error.code().name, "details": [any.type_url for any in status.details], "fields": []}
        for any in status.details:
            request, bad = error_details_pb2.RequestInfo(), error_details_pb2.BadRequest()
            if any.Unpack(request):
                found["isNamed"] = request.request_id == headers.get("x-request-id") == headers.get("x-server-trace-id")
            elif any.Unpack(bad):
                found["fields"] = [violation.field for violation in bad.field_violations]
        return found
    return None


def tokens(channel, facts):
    stub = IamTokenServiceStub(channel)
    pair = f"{facts['clientId']}:{facts['clientSecret']}"
    made = stub.Create(CreateIamTokenRequest(yandex_passport_oauth_token=pair), timeout=20)
    again = stub.Create(CreateIamTokenRequest(yandex_passport_oauth_token=made.iam_token), timeout=20)
    bearer = (("authorization", f"Bearer {made.iam_token}"),)
    service_account = CreateIamTokenForServiceAccountRequest(service_account_id="aje")
    revocation = RevokeIamTokenRequest(iam_token=made.iam_token)
    failures = {
        "wrong": failure(lambda: stub.Create(CreateIamTokenRequest(yandex_passport_oauth_token="a:b"))),
        "empty": failure(lambda: stub.Create(CreateIamTokenRequest())),
        "jwt": failure(lambda: stub.Create(CreateIamTokenRequest(jwt="a.b.c"))),
        "other": failure(lambda: stub.CreateForServiceAccount(service_account, metadata=bearer)),
        "nobody": failure(lambda: stub.Revoke(revocation)),
    }
    revoked = stub.Revoke(revocation, metadata=bearer, timeout=20)
    failures["revoked"] = failure(lambda: stub.Revoke(revocation, metadata=bearer))
    return {
        "token": made.iam_token,
        "isSame": again.iam_token == made.iam_token,
        "lifetime": made.expires_at.seconds,
        "subject": revoked.subject_id,
        "failures": failures,
    }


def reflected(channel, package):
    """The services by `grpc.reflection.<package>`, and the files that describe one of them with its options."""
    call = channel.stream_stream(
        f"/grpc.reflection.{package}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="yandex.cloud.iam.v1.IamTokenService"),
    ]
    listed, described = call(iter(asked), timeout=20)
    files = described.file_descriptor_response.file_descriptor_proto
    return {
        "services": sorted(service.name for service in listed.list_services_response.service),
        "hasOptions": any(b"/iam/v1/tokens:revoke" in file for file in files),
    }


def main(path):
    with open(path, encoding="utf-8") as file:
        facts = json.load(file)
    with open(facts["tlsCa"], "rb") as file:
        ca = file.read()
    plain = grpc.insecure_channel(facts["url"].removeprefix("http://"))
    at = facts["tlsUrl"].removeprefix("https://")
    secure = grpc.secure_channel(at, grpc.ssl_channel_credentials(root_certificates=ca))
    said = {
        "plain": endpoints(plain),
        "secure": endpoints(secure),
        "tokens": [tokens(channel, facts) for channel in (plain, secure)],
        "reflection": [reflected(secure, package) for package in ("v1", "v1alpha")],
        "health": plain.unary_unary("/grpc.health.v1.Health/Check")(b"").hex(),
        "sdk": [],
        "refused": {
            "unknown": failure(lambda: plain.unary_unary("/yandex.cloud.iot.NoSuchService/Get")(b"")),
            "garbage": failure(lambda: plain.unary_unary(CREATE_TOKEN)(b"\x0a\xff")),
            "large": failure(lambda: secure.unary_unary(CREATE_TOKEN)(bytes(5 << 20))),
        },
    }
    # The SDK finds the services by itself. It sends no token to `iam`, so another service shows that it has one: given to it,
    # or got for a client's id and secret.
    pair = f"{facts['clientId']}:{facts['clientSecret']}"
    request = CreateIamTokenRequest(yandex_passport_oauth_token=pair)
    made = yandexcloud.SDK(endpoint=at, root_certificates=ca).client(IamTokenServiceStub).Create(request)
    for credential in ({"iam_token": made.iam_token}, {"token": pair}, {"token": "a:b"}):
        registries = yandexcloud.SDK(endpoint=at, root_certificates=ca, **credential).client(RegistryServiceStub)
        said["sdk"].append(failure(lambda: registries.Get(GetRegistryRequest(registry_id="none")))["code"])
    return said


print(json.dumps(main(*sys.argv[1:])))
