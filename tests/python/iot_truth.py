"""Does random things to the device registry over gRPC or REST and reads the answer over both: they tell one truth.

Reads facts as one JSON object from standard input: plain (host:port), token, folder, certificates (PEM texts), seed, steps.
Fails by an exception; prints how often each operation was done and how often it was refused.
"""

import collections
import json
import random
import sys

import grpc
import requests
from google.protobuf import empty_pb2, json_format  # noqa: F401, an Any may hold Empty
from google.rpc import status_pb2
from google.protobuf.field_mask_pb2 import FieldMask
from yandex.cloud.iot.devices.v1 import device_pb2, device_service_pb2 as devices
from yandex.cloud.iot.devices.v1 import registry_service_pb2 as registries
from yandex.cloud.iot.devices.v1.device_service_pb2_grpc import DeviceServiceStub
from yandex.cloud.iot.devices.v1.registry_service_pb2_grpc import RegistryServiceStub
from yandex.cloud.operation import operation_pb2
from yandex.cloud.operation.operation_service_pb2 import GetOperationRequest
from yandex.cloud.operation.operation_service_pb2_grpc import OperationServiceStub

facts = json.load(sys.stdin)
rng = random.Random(facts["seed"])
channel = grpc.insecure_channel(facts["plain"])
token = (("authorization", f"Bearer {facts['token']}"),)
session = requests.Session()
session.headers["authorization"] = f"Bearer {facts['token']}"
base = f"http://{facts['plain']}"
registry, device, operations = (
    RegistryServiceStub(channel),
    DeviceServiceStub(channel),
    OperationServiceStub(channel),
)
counts = collections.Counter()

REGISTRIES, DEVICES = "/iot-devices/v1/registries", "/iot-devices/v1/devices"
# Of each method: the stub, and the request by REST as verb, path and the fields that are in the path or the query.
METHODS = {
    "Registry/Get": (registry.Get, "GET", REGISTRIES + "/{registry_id}"),
    "Registry/List": (registry.List, "GET", REGISTRIES),
    "Registry/Create": (registry.Create, "POST", REGISTRIES),
    "Registry/Update": (registry.Update, "PATCH", REGISTRIES + "/{registry_id}"),
    "Registry/Delete": (registry.Delete, "DELETE", REGISTRIES + "/{registry_id}"),
    "Registry/Disable": (registry.Disable, "POST", REGISTRIES + "/{registry_id}:disable"),
    "Registry/Enable": (registry.Enable, "POST", REGISTRIES + "/{registry_id}:enable"),
    "Registry/ListCertificates": (registry.ListCertificates, "GET", REGISTRIES + "/{registry_id}/certificates"),
    "Registry/AddCertificate": (registry.AddCertificate, "POST", REGISTRIES + "/{registry_id}/certificates"),
    "Registry/DeleteCertificate": (
        registry.DeleteCertificate,
        "DELETE",
        REGISTRIES + "/{registry_id}/certificates/{fingerprint}",
    ),
    "Registry/ListDeviceTopicAliases": (
        registry.ListDeviceTopicAliases,
        "GET",
        REGISTRIES + "/{registry_id}:listDeviceTopicAliases",
    ),
    "Registry/ListOperations": (registry.ListOperations, "GET", REGISTRIES + "/{registry_id}/operations"),
    "Device/Get": (device.Get, "GET", DEVICES + "/{device_id}"),
    "Device/List": (device.List, "GET", DEVICES),
    "Device/Create": (device.Create, "POST", DEVICES),
    "Device/Update": (device.Update, "PATCH", DEVICES + "/{device_id}"),
    "Device/Delete": (device.Delete, "DELETE", DEVICES + "/{device_id}"),
    "Device/ListCertificates": (device.ListCertificates, "GET", DEVICES + "/{device_id}/certificates"),
    "Device/AddCertificate": (device.AddCertificate, "POST", DEVICES + "/{device_id}/certificates"),
    "Device/ListPasswords": (device.ListPasswords, "GET", DEVICES + "/{device_id}/passwords"),
    "Device/AddPassword": (device.AddPassword, "POST", DEVICES + "/{device_id}/passwords"),
    "Operation/Get": (operations.Get, "GET", "/operations/{operation_id}"),
}


def over_grpc(method, request):
    """The answer in JSON, or the code and the message of the refusal."""
    try:
        answer = METHODS[method][0](request, metadata=token, timeout=30)
    except grpc.RpcError as error:
        status = status_pb2.Status()
        status.ParseFromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
        return ("refused", status.code, status.message)
    return ("answered", shown(answer))


def shown(message):
    return json_format.MessageToDict(message)


def over_rest(method, request):
    _, verb, template = METHODS[method]
    fields = json_format.MessageToDict(request)
    path = template
    for name in ("registry_id", "device_id", "fingerprint", "operation_id"):
        if "{" + name + "}" in path:
            camel = "".join([name.split("_")[0], *(word.title() for word in name.split("_")[1:])])
            path = path.replace("{" + name + "}", requests.utils.quote(fields.pop(camel, ""), safe=""))
    if verb in ("GET", "DELETE"):
        response = session.request(verb, base + path, params=fields, timeout=30)
    else:
        response = session.request(verb, base + path, json=fields, timeout=30)
    body = response.json()
    if response.status_code == 200:
        return ("answered", body)
    assert set(body) <= {"code", "message", "details"}, body
    return ("refused", body["code"], body["message"])


def without_nothing(value):
    """REST prints `done` always and proto3 JSON of the SDK leaves defaults out: both mean the same."""
    if isinstance(value, dict):
        return {key: without_nothing(one) for key, one in value.items() if one not in ({}, [], "", False, None)}
    if isinstance(value, list):
        return [without_nothing(one) for one in value]
    return value


def both(method, request):
    one, other = over_grpc(method, request), over_rest(method, request)
    assert without_nothing(list(one)) == without_nothing(list(other)), (method, request, one, other)
    return one


def act(method, request):
    outcome = (over_grpc if rng.random() < 0.5 else over_rest)(method, request)
    counts[f"{method} {outcome[0]}"] += 1
    if outcome[0] == "answered":
        operation = json_format.ParseDict(outcome[1], operation_pb2.Operation(), ignore_unknown_fields=True)
        assert operation.done
        read = both("Operation/Get", GetOperationRequest(operation_id=operation.id))
        assert without_nothing(read[1]) == without_nothing(shown(operation)), (read, operation)
    return outcome


def compare():
    listed = both("Registry/List", registries.ListRegistriesRequest(folder_id=facts["folder"], page_size=1000))[1]
    mine = [one for one in listed.get("registries", []) if one.get("name", "").startswith("truth")]
    for one in mine:
        rid = one["id"]
        for method, request in (
            ("Registry/Get", registries.GetRegistryRequest(registry_id=rid)),
            ("Registry/ListCertificates", registries.ListRegistryCertificatesRequest(registry_id=rid)),
            ("Registry/ListDeviceTopicAliases", registries.ListDeviceTopicAliasesRequest(registry_id=rid)),
            ("Registry/ListOperations", registries.ListRegistryOperationsRequest(registry_id=rid)),
        ):
            assert both(method, request)[0] == "answered"
        found = both("Device/List", devices.ListDevicesRequest(registry_id=rid, device_view=device_pb2.FULL))[1]
        for a_device in found.get("devices", []):
            did = a_device["id"]
            both("Device/Get", devices.GetDeviceRequest(device_id=did))
            both("Device/ListCertificates", devices.ListDeviceCertificatesRequest(device_id=did))
            both("Device/ListPasswords", devices.ListDevicePasswordsRequest(device_id=did))
    return [one["id"] for one in mine]


def devices_of(rids):
    found = []
    for rid in rids:
        answer = device.List(devices.ListDevicesRequest(registry_id=rid), metadata=token, timeout=30)
        found.extend(one.id for one in answer.devices)
    return found


def random_step(rids):
    unknown = "areunknown0000000000"
    rid = rng.choice(rids) if rids and rng.random() < 0.9 else unknown
    dids = devices_of(rids)
    did = rng.choice(dids) if dids and rng.random() < 0.9 else unknown
    pem = rng.choice(facts["certificates"])
    name = rng.choice(["truth-a", "truth-b", "truth-c", "truth-d", "truth e", "x" * 51])
    labels = rng.choice([{}, {"a": "1"}, {"A": "1"}])
    aliases = rng.choice([{}, {"one/": "$devices/{id}/"}, {"one/two": "$devices/{id}/events"}, {"$x": "$devices/{id}/"}])
    mask = rng.choice([[], ["name"], ["labels", "description"], ["id"]])
    steps = [
            lambda: act(
                "Registry/Create",
                registries.CreateRegistryRequest(folder_id=facts["folder"], name=name, labels=labels),
            ),
            lambda: act(
                "Registry/Update",
                registries.UpdateRegistryRequest(
                    registry_id=rid, update_mask=FieldMask(paths=mask), name=name, labels=labels, description="changed"
                ),
            ),
            lambda: act("Registry/Delete", registries.DeleteRegistryRequest(registry_id=rid)),
            lambda: act("Registry/Disable", registries.DisableRegistryRequest(registry_id=rid)),
            lambda: act("Registry/Enable", registries.EnableRegistryRequest(registry_id=rid)),
            lambda: act(
                "Registry/AddCertificate",
                registries.AddRegistryCertificateRequest(registry_id=rid, certificate_data=pem),
            ),
            lambda: act(
                "Registry/DeleteCertificate",
                registries.DeleteRegistryCertificateRequest(registry_id=rid, fingerprint=a_fingerprint(rid)),
            ),
            lambda: act(
                "Device/Create",
                devices.CreateDeviceRequest(registry_id=rid, name=name, labels=labels, topic_aliases=aliases),
            ),
            lambda: act(
                "Device/Update",
                devices.UpdateDeviceRequest(
                    device_id=did, update_mask=FieldMask(paths=mask), name=name, labels=labels, topic_aliases=aliases
                ),
            ),
            lambda: act("Device/Delete", devices.DeleteDeviceRequest(device_id=did)),
            lambda: act(
                "Device/AddCertificate", devices.AddDeviceCertificateRequest(device_id=did, certificate_data=pem)
            ),
            lambda: act(
                "Device/AddPassword",
                devices.AddDevicePasswordRequest(device_id=did, password=rng.choice(["short", "Passw0rd-for-devices"])),
            ),
    ]
    # Registries are deleted rarely, or there would never be anything in them.
    return rng.choices(steps, weights=[2, 2, 0.3, 1, 2, 2, 1, 4, 3, 1, 3, 2])[0]


def a_fingerprint(rid):
    try:
        kept = registry.ListCertificates(
            registries.ListRegistryCertificatesRequest(registry_id=rid), metadata=token, timeout=30
        ).certificates
    except grpc.RpcError:
        kept = []
    return rng.choice([one.fingerprint for one in kept] + ["00" * 32, "AA:" * 19 + "AA"])


for _ in range(facts["steps"]):
    random_step(compare())()
compare()
assert any(key.endswith(" refused") for key in counts) and any(key.endswith(" answered") for key in counts)
json.dump(counts, sys.stdout)
