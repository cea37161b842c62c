// Drives the device registry with the vendor's own Node SDK over TLS: makes a registry and a device, waits, reads, deletes.
// Reads facts as one JSON object from standard input: tls (host:port), ca (a PEM file), token, folder, certificate.
import { readFileSync } from 'node:fs';
import { strict as assert } from 'node:assert';
import sdk from '@yandex-cloud/nodejs-sdk';

const { Session, cloudApi, serviceClients, waitForOperation, decodeMessage } = sdk;
const facts = JSON.parse(readFileSync(0, 'utf8'));
const { devices_registry_service: registryService, devices_device_service: deviceService } = cloudApi.iot;

const session = new Session({ iamToken: facts.token, ssl: { rootCerts: readFileSync(facts.ca) } });
const registries = session.client(serviceClients.IotRegistryServiceClient, facts.tls);
const deviceClient = session.client(serviceClients.DeviceServiceClient, facts.tls);

const { CreateRegistryRequest, GetRegistryRequest, DeleteRegistryRequest } = registryService;
const { CreateDeviceRequest, DeleteDeviceRequest, AddDeviceCertificateRequest } = deviceService;

const operation = await registries.create(CreateRegistryRequest.fromPartial({ folderId: facts.folder, name: 'node' }));
const done = await waitForOperation(operation, session, 10000, facts.tls);
const registry = decodeMessage(done.response);
assert.equal(registry.name, 'node');
assert.deepEqual(await registries.get(GetRegistryRequest.fromPartial({ registryId: registry.id })), registry);

const made = await deviceClient.create(
    CreateDeviceRequest.fromPartial({ registryId: registry.id, name: 'node', topicAliases: { 'n/': '$devices/{id}/' } }),
);
const device = decodeMessage((await waitForOperation(made, session, 10000, facts.tls)).response);
assert.equal(device.topicAliases['n/'], `$devices/${device.id}/`);
const added = await deviceClient.addCertificate(
    AddDeviceCertificateRequest.fromPartial({ deviceId: device.id, certificateData: facts.certificate }),
);
const certificate = decodeMessage((await waitForOperation(added, session, 10000, facts.tls)).response);
assert.equal(certificate.certificateData, facts.certificate);

let refusal;
try {
    await registries.delete(DeleteRegistryRequest.fromPartial({ registryId: registry.id }));
} catch (error) {
    refusal = { message: error.message, requestId: error.requestId, traceId: error.serverTraceId };
}
// The SDK's own kind of error, which it makes only when the headers come before the status.
assert.match(refusal.message, /FAILED_PRECONDITION/);
assert.match(refusal.requestId, /^[0-9a-f-]{36}$/);
assert.equal(refusal.traceId, refusal.requestId);
await waitForOperation(
    await deviceClient.delete(DeleteDeviceRequest.fromPartial({ deviceId: device.id })), session, 10000, facts.tls);
await waitForOperation(
    await registries.delete(DeleteRegistryRequest.fromPartial({ registryId: registry.id })), session, 10000, facts.tls);
console.log(JSON.stringify({ registry: registry.id, device: device.id, refusal }));
process.exit(0);
