"""Drives the device registry with the vendor's own Python SDK, in its three ways, and calls every RPC once.

Reads facts as one JSON object from standard input: plain and tls (host:port), ca (a PEM file), token, client (id:secret),
folder, certificates (PEM texts, each of another key). Fails by an exception; prints what it saw as JSON.
"""

import json
import sys
import uuid

import grpc
import yandexcloud
from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc import error_details_pb2, status_pb2
from yandex.cloud.endpoint.api_endpoint_service_pb2 import GetApiEndpointRequest, ListApiEndpointsRequest
from yandex.cloud.endpoint.api_endpoint_service_pb2_grpc import ApiEndpointServiceStub
from yandex.cloud.iam.v1 import iam_token_service_pb2 as iam
from yandex.cloud.iam.v1.iam_token_service_pb2_grpc import IamTokenServiceStub
from yandex.cloud.iot.broker.v1 import broker_data_service_pb2 as broker_data
from yandex.cloud.iot.broker.v1 import broker_pb2, broker_service_pb2 as brokers
from yandex.cloud.iot.broker.v1.broker_data_service_pb2_grpc import BrokerDataServiceStub
from yandex.cloud.iot.broker.v1.broker_service_pb2_grpc import BrokerServiceStub
from yandex.cloud.iot.devices.v1 import device_data_service_pb2 as device_data
from yandex.cloud.iot.devices.v1 import device_pb2, device_service_pb2 as devices
from yandex.cloud.iot.devices.v1 import registry_data_service_pb2 as registry_data
from yandex.cloud.iot.devices.v1 import registry_pb2, registry_service_pb2 as registries
from yandex.cloud.iot.devices.v1.device_data_service_pb2_grpc import DeviceDataServiceStub
from yandex.cloud.iot.devices.v1.device_service_pb2_grpc import DeviceServiceStub
from yandex.cloud.iot.devices.v1.registry_data_service_pb2_grpc import RegistryDataServiceStub
from yandex.cloud.iot.devices.v1.registry_service_pb2_grpc import RegistryServiceStub
from yandex.cloud.operation.operation_service_pb2 import CancelOperationRequest, GetOperationRequest
from yandex.cloud.operation.operation_service_pb2_grpc import OperationServiceStub

PASSWORD = "Passw0rd-for-devices"

facts = json.load(sys.stdin)
seen = {}
called = set()


class Raw:
    """A raw stub with the token in its metadata, which notes what it calls."""

    def __init__(self, stub, channel, metadata):
        self.name, self.stub, self.metadata = stub.__name__.removesuffix("Stub"), stub(channel), metadata

    def __getattr__(self, method):
        def call(request, metadata=()):
            called.add(f"{self.name}/{method}")
            return getattr(self.stub, method)(request, metadata=self.metadata + tuple(metadata), timeout=30)

        return call


def refused(code, call):
    """The status of a call that must fail with this code, with its details unpacked."""
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == code, (error.code(), error.details(), code)
        packed = dict(error.trailing_metadata()).get("grpc-status-details-bin")
        status = status_pb2.Status()
        status.ParseFromString(packed)
        assert status.code == code.value[0]
        info = error_details_pb2.RequestInfo()
        assert any(one.Unpack(info) for one in status.details) and info.request_id
        return status
    raise AssertionError(f"{code} was expected")


def done(operation, metadata_type, response_type):
    assert operation.done and operation.id and operation.created_by and operation.description
    metadata, response = metadata_type(), response_type()
    assert operation.metadata.Unpack(metadata), operation.metadata.type_url
    assert operation.response.Unpack(response), operation.response.type_url
    return metadata, response


token = (("authorization", f"Bearer {facts['token']}"),)
plain = grpc.insecure_channel(facts["plain"])

# --- Way A: raw stubs over plaintext ---------------------------------------------------------------------------------

endpoints = Raw(ApiEndpointServiceStub, plain, ())
listed = {one.id: one.address for one in endpoints.List(ListApiEndpointsRequest(page_size=100)).endpoints}
assert set(listed) == {
    "endpoint", "iam", "operation", "iot-devices", "iot-data", "iot-broker", "broker-data", "resource-manager",
}, listed
assert endpoints.Get(GetApiEndpointRequest(api_endpoint_id="iam")).address == listed["iam"]

tokens = Raw(IamTokenServiceStub, plain, ())
made = tokens.Create(iam.CreateIamTokenRequest(yandex_passport_oauth_token=facts["client"]))
assert made.iam_token.startswith("t1.") and made.iam_token.count(".") == 2 and made.expires_at.seconds > 0
refused(grpc.StatusCode.UNIMPLEMENTED, lambda: tokens.Create(iam.CreateIamTokenRequest(jwt="a.b.c")))
refused(
    grpc.StatusCode.UNIMPLEMENTED,
    lambda: Raw(IamTokenServiceStub, plain, token).CreateForServiceAccount(
        iam.CreateIamTokenForServiceAccountRequest(service_account_id="aje")
    ),
)

registry = Raw(RegistryServiceStub, plain, token)
device = Raw(DeviceServiceStub, plain, token)
broker = Raw(BrokerServiceStub, plain, token)
operations = Raw(OperationServiceStub, plain, token)
folder = facts["folder"]
certificates = facts["certificates"]

refused(
    grpc.StatusCode.UNAUTHENTICATED,
    lambda: Raw(RegistryServiceStub, plain, ()).List(registries.ListRegistriesRequest(folder_id=folder)),
)

key = str(uuid.uuid4())
asked = registries.CreateRegistryRequest(
    folder_id=folder,
    name="python",
    description="made by the SDK",
    labels={"a": "1", "b": ""},
    certificates=[registries.CreateRegistryRequest.Certificate(certificate_data=certificates[0])],
    password=PASSWORD,
)
first = registry.Create(asked, metadata=(("idempotency-key", key),))
again = registry.Create(asked, metadata=(("idempotency-key", key),))
assert first.id == again.id
refused(
    grpc.StatusCode.FAILED_PRECONDITION,
    lambda: registry.Create(
        registries.CreateRegistryRequest(folder_id=folder, name="other"), metadata=(("idempotency-key", key),)
    ),
)
metadata, the_registry = done(first, registries.CreateRegistryMetadata, registry_pb2.Registry)
assert metadata.registry_id == the_registry.id and len(the_registry.id) == 20
assert the_registry.status == registry_pb2.Registry.ACTIVE and the_registry.log_options.folder_id == folder
rid = the_registry.id
refused(
    grpc.StatusCode.ALREADY_EXISTS,
    lambda: registry.Create(registries.CreateRegistryRequest(folder_id=folder, name="python")),
)
bad = refused(
    grpc.StatusCode.INVALID_ARGUMENT,
    lambda: registry.Create(
        registries.CreateRegistryRequest(folder_id=folder, name="not a name", labels={"A": "1"}, password="short")
    ),
)
violations = error_details_pb2.BadRequest()
assert any(one.Unpack(violations) for one in bad.details)
seen["violations"] = sorted(one.field for one in violations.field_violations)

assert registry.Get(registries.GetRegistryRequest(registry_id=rid)) == the_registry
assert registry.GetByName(registries.GetByNameRegistryRequest(folder_id=folder, registry_name="python")) == the_registry
refused(grpc.StatusCode.NOT_FOUND, lambda: registry.Get(registries.GetRegistryRequest(registry_id="are" + "0" * 17)))
assert rid in [one.id for one in registry.List(registries.ListRegistriesRequest(folder_id=folder)).registries]

changed = registry.Update(
    registries.UpdateRegistryRequest(
        registry_id=rid, update_mask=FieldMask(paths=["labels", "description"]), labels={"c": "3"}
    )
)
_, the_registry = done(changed, registries.UpdateRegistryMetadata, registry_pb2.Registry)
assert the_registry.name == "python" and the_registry.description == "" and dict(the_registry.labels) == {"c": "3"}
refused(
    grpc.StatusCode.INVALID_ARGUMENT,
    lambda: registry.Update(
        registries.UpdateRegistryRequest(registry_id=rid, update_mask=FieldMask(paths=["folder_id"]))
    ),
)

added = registry.AddCertificate(
    registries.AddRegistryCertificateRequest(registry_id=rid, certificate_data=certificates[1])
)
metadata, certificate = done(added, registries.AddRegistryCertificateMetadata, registry_pb2.RegistryCertificate)
assert metadata.fingerprint == certificate.fingerprint and certificate.certificate_data == certificates[1]
seen["fingerprint"] = certificate.fingerprint
refused(
    grpc.StatusCode.ALREADY_EXISTS,
    lambda: registry.AddCertificate(
        registries.AddRegistryCertificateRequest(registry_id=rid, certificate_data=certificates[1])
    ),
)
kept = registry.ListCertificates(registries.ListRegistryCertificatesRequest(registry_id=rid)).certificates
assert [one.certificate_data for one in kept] in ([certificates[1], certificates[0]], [certificates[0], certificates[1]])
removed = registry.DeleteCertificate(
    registries.DeleteRegistryCertificateRequest(registry_id=rid, fingerprint=certificate.fingerprint.upper())
)
done(removed, registries.DeleteRegistryCertificateMetadata, Empty)
refused(
    grpc.StatusCode.NOT_FOUND,
    lambda: registry.DeleteCertificate(
        registries.DeleteRegistryCertificateRequest(registry_id=rid, fingerprint=certificate.fingerprint)
    ),
)

added = registry.AddPassword(registries.AddRegistryPasswordRequest(registry_id=rid, password=PASSWORD))
metadata, password = done(added, registries.AddRegistryPasswordMetadata, registry_pb2.RegistryPassword)
assert metadata.password_id == password.id
assert len(registry.ListPasswords(registries.ListRegistryPasswordsRequest(registry_id=rid)).passwords) == 2
removed = registry.DeletePassword(
    registries.DeleteRegistryPasswordRequest(registry_id=rid, password_id=password.id)
)
done(removed, registries.DeleteRegistryPasswordMetadata, Empty)

# --- Devices ---------------------------------------------------------------------------------------------------------

made = device.Create(
    devices.CreateDeviceRequest(
        registry_id=rid,
        name="thermometer",
        certificates=[devices.CreateDeviceRequest.Certificate(certificate_data=certificates[2])],
        topic_aliases={"my/": "$devices/{id}/", "stop": "$devices/{id}/commands"},
        password=PASSWORD,
        labels={"hall": "7"},
    )
)
metadata, the_device = done(made, devices.CreateDeviceMetadata, device_pb2.Device)
did = the_device.id
assert metadata.device_id == did and the_device.topic_aliases["my/"] == f"$devices/{did}/"
refused(
    grpc.StatusCode.ALREADY_EXISTS,
    lambda: device.Create(devices.CreateDeviceRequest(registry_id=rid, name="b", topic_aliases={"my/x": "$devices/{id}/"})),
)
refused(grpc.StatusCode.FAILED_PRECONDITION, lambda: registry.Delete(registries.DeleteRegistryRequest(registry_id=rid)))
assert device.Get(devices.GetDeviceRequest(device_id=did)) == the_device
full = device.Get(devices.GetDeviceRequest(device_id=did, device_view=device_pb2.FULL))
assert full.HasField("monitoring_data") and not the_device.HasField("monitoring_data")
named = device.GetByName(devices.GetByNameDeviceRequest(registry_id=rid, device_name="thermometer"))
assert named == the_device
assert [one.id for one in device.List(devices.ListDevicesRequest(registry_id=rid)).devices] == [did]
assert did in [one.id for one in device.List(devices.ListDevicesRequest(folder_id=folder, page_size=20000)).devices]
refused(grpc.StatusCode.INVALID_ARGUMENT, lambda: device.List(devices.ListDevicesRequest()))
refused(
    grpc.StatusCode.INVALID_ARGUMENT, lambda: device.List(devices.ListDevicesRequest(registry_id=rid, page_size=20001))
)

changed = device.Update(
    devices.UpdateDeviceRequest(
        device_id=did, update_mask=FieldMask(paths=["topic_aliases", "name"]), name="renamed",
        topic_aliases={"only": "$devices/{id}/events"},
    )
)
_, the_device = done(changed, devices.UpdateDeviceMetadata, device_pb2.Device)
assert the_device.name == "renamed" and dict(the_device.topic_aliases) == {"only": f"$devices/{did}/events"}
aliases = registry.ListDeviceTopicAliases(registries.ListDeviceTopicAliasesRequest(registry_id=rid)).aliases
assert [(one.device_id, one.topic_prefix, one.alias) for one in aliases] == [(did, f"$devices/{did}/events", "only")]

added = device.AddCertificate(devices.AddDeviceCertificateRequest(device_id=did, certificate_data=certificates[3]))
metadata, certificate = done(added, devices.AddDeviceCertificateMetadata, device_pb2.DeviceCertificate)
assert len(device.ListCertificates(devices.ListDeviceCertificatesRequest(device_id=did)).certificates) == 2
removed = device.DeleteCertificate(
    devices.DeleteDeviceCertificateRequest(device_id=did, fingerprint=certificate.fingerprint)
)
done(removed, devices.DeleteDeviceCertificateMetadata, Empty)
added = device.AddPassword(devices.AddDevicePasswordRequest(device_id=did, password=PASSWORD))
metadata, password = done(added, devices.AddDevicePasswordMetadata, device_pb2.DevicePassword)
assert len(device.ListPasswords(devices.ListDevicePasswordsRequest(device_id=did)).passwords) == 2
removed = device.DeletePassword(devices.DeleteDevicePasswordRequest(device_id=did, password_id=password.id))
done(removed, devices.DeleteDevicePasswordMetadata, Empty)

# --- Data ------------------------------------------------------------------------------------------------------------

Raw(RegistryDataServiceStub, plain, token).Publish(
    registry_data.PublishRegistryDataRequest(registry_id=rid, topic=f"$devices/{did}/commands", data=b"\x00\xff")
)
to_device = Raw(DeviceDataServiceStub, plain, token)
to_device.Publish(device_data.PublishDeviceDataRequest(device_id=did, topic=f"$devices/{did}/events", data=b"20"))
to_device.Publish(device_data.PublishDeviceDataRequest(device_id=did, topic="only", data=b""))
refused(
    grpc.StatusCode.PERMISSION_DENIED,
    lambda: to_device.Publish(
        device_data.PublishDeviceDataRequest(device_id=did, topic=f"$devices/{did}/commands", data=b"20")
    ),
)
refused(
    grpc.StatusCode.INVALID_ARGUMENT,
    lambda: to_device.Publish(
        device_data.PublishDeviceDataRequest(device_id=did, topic=f"$devices/{did}/events", data=b"x" * 262145)
    ),
)

done(registry.Disable(registries.DisableRegistryRequest(registry_id=rid)), registries.DisableRegistryMetadata, registry_pb2.Registry)
assert registry.Get(registries.GetRegistryRequest(registry_id=rid)).status == registry_pb2.Registry.DISABLED
refused(
    grpc.StatusCode.FAILED_PRECONDITION,
    lambda: to_device.Publish(
        device_data.PublishDeviceDataRequest(device_id=did, topic=f"$devices/{did}/events", data=b"20")
    ),
)
done(registry.Enable(registries.EnableRegistryRequest(registry_id=rid)), registries.EnableRegistryMetadata, registry_pb2.Registry)

# --- Brokers ---------------------------------------------------------------------------------------------------------

made = broker.Create(
    brokers.CreateBrokerRequest(
        folder_id=folder,
        name="hall",
        certificates=[brokers.CreateBrokerRequest.Certificate(certificate_data=certificates[4])],
        password=PASSWORD,
    )
)
_, the_broker = done(made, brokers.CreateBrokerMetadata, broker_pb2.Broker)
bid = the_broker.id
assert broker.Get(brokers.GetBrokerRequest(broker_id=bid)) == the_broker
assert bid in [one.id for one in broker.List(brokers.ListBrokersRequest(folder_id=folder)).brokers]
changed = broker.Update(
    brokers.UpdateBrokerRequest(broker_id=bid, update_mask=FieldMask(paths=["name"]), name="hall-2")
)
_, the_broker = done(changed, brokers.UpdateBrokerMetadata, broker_pb2.Broker)
assert the_broker.name == "hall-2"
added = broker.AddCertificate(brokers.AddBrokerCertificateRequest(broker_id=bid, certificate_data=certificates[5]))
_, certificate = done(added, brokers.AddBrokerCertificateMetadata, broker_pb2.BrokerCertificate)
assert len(broker.ListCertificates(brokers.ListBrokerCertificatesRequest(broker_id=bid)).certificates) == 2
removed = broker.DeleteCertificate(
    brokers.DeleteBrokerCertificateRequest(broker_id=bid, fingerprint=certificate.fingerprint)
)
done(removed, brokers.DeleteBrokerCertificateMetadata, Empty)
added = broker.AddPassword(brokers.AddBrokerPasswordRequest(broker_id=bid, password=PASSWORD))
_, password = done(added, brokers.AddBrokerPasswordMetadata, broker_pb2.BrokerPassword)
assert len(broker.ListPasswords(brokers.ListBrokerPasswordsRequest(broker_id=bid)).passwords) == 2
removed = broker.DeletePassword(brokers.DeleteBrokerPasswordRequest(broker_id=bid, password_id=password.id))
done(removed, brokers.DeleteBrokerPasswordMetadata, Empty)
assert len(broker.ListOperations(brokers.ListBrokerOperationsRequest(broker_id=bid)).operations) == 6
Raw(BrokerDataServiceStub, plain, token).Publish(
    broker_data.PublishBrokerDataRequest(broker_id=bid, topic="any/thing", data=b"1")
)
done(broker.Delete(brokers.DeleteBrokerRequest(broker_id=bid)), brokers.DeleteBrokerMetadata, Empty)

# --- Operations and exports ------------------------------------------------------------------------------------------

page = registry.ListOperations(registries.ListRegistryOperationsRequest(registry_id=rid, page_size=2))
assert len(page.operations) == 2 and page.next_page_token
assert page.operations[0].description == "Enable device registry", page.operations[0].description
one = operations.Get(GetOperationRequest(operation_id=first.id))
assert one == first
assert operations.Cancel(CancelOperationRequest(operation_id=first.id)) == first
assert len(device.ListOperations(devices.ListDeviceOperationsRequest(device_id=did)).operations) == 6
assert not registry.ListDataStreamExports(
    registries.ListDataStreamExportsRequest(registry_id=rid)
).data_stream_exports
refused(
    grpc.StatusCode.UNIMPLEMENTED,
    lambda: registry.AddDataStreamExport(
        registries.AddDataStreamExportRequest(registry_id=rid, database="d", stream="s", service_account_id="a")
    ),
)
refused(
    grpc.StatusCode.UNIMPLEMENTED,
    lambda: registry.DeleteDataStreamExport(
        registries.DeleteDataStreamExportRequest(registry_id=rid, data_stream_export_id="a")
    ),
)

# --- Way B: the SDK's client over plaintext, which sends no token ----------------------------------------------------

stub = yandexcloud.SDK(iam_token=facts["token"]).client(RegistryServiceStub, endpoint=facts["plain"], insecure=True)
refused(grpc.StatusCode.UNAUTHENTICATED, lambda: stub.Get(registries.GetRegistryRequest(registry_id=rid)))
with_token = stub.Get(registries.GetRegistryRequest(registry_id=rid), metadata=token)
assert with_token.id == rid

# --- Way C: the whole SDK over TLS, with discovery and its waiter ----------------------------------------------------

with open(facts["ca"], "rb") as file:
    roots = file.read()
sdk = yandexcloud.SDK(iam_token=facts["token"], endpoint=facts["tls"], root_certificates=roots)
operation = sdk.client(RegistryServiceStub).Create(registries.CreateRegistryRequest(folder_id=folder, name="waited"))
waited = sdk.wait_operation_and_get_result(
    operation, response_type=registry_pb2.Registry, meta_type=registries.CreateRegistryMetadata, timeout=10
)
assert waited.response.name == "waited" and waited.meta.registry_id == waited.response.id
data = sdk.client(DeviceDataServiceStub)
data.Publish(device_data.PublishDeviceDataRequest(device_id=did, topic=f"$devices/{did}/events", data=b"over TLS"))
operation = sdk.client(RegistryServiceStub).Delete(registries.DeleteRegistryRequest(registry_id=waited.response.id))
sdk.wait_operation_and_get_result(operation, response_type=Empty, timeout=10)

# --- The end ---------------------------------------------------------------------------------------------------------

done(device.Delete(devices.DeleteDeviceRequest(device_id=did)), devices.DeleteDeviceMetadata, Empty)
done(registry.Delete(registries.DeleteRegistryRequest(registry_id=rid)), registries.DeleteRegistryMetadata, Empty)
refused(grpc.StatusCode.NOT_FOUND, lambda: registry.Get(registries.GetRegistryRequest(registry_id=rid)))
revoked = Raw(IamTokenServiceStub, plain, token).Revoke(
    iam.RevokeIamTokenRequest(iam_token=tokens.Create(iam.CreateIamTokenRequest(yandex_passport_oauth_token=facts["client"])).iam_token)
)
assert revoked.subject_id

seen["called"] = sorted(called)
json.dump(seen, sys.stdout)
