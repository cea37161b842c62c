"""A device and a registry talk through paho: both versions, TLS and WebSocket, certificates and a password."""

import queue
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

ca, port, ws_port, dev_cert, dev_key, reg_cert, reg_key, registry, password = sys.argv[1:]
PATIENCE = 20


class Client:
    """A connected client whose callbacks end in queues."""

    def __init__(self, version, transport, cert=None, key=None, user=None, secret=None):
        self.events, self.messages = queue.Queue(), queue.Queue()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=version, transport=transport)
        self.client.tls_set(ca_certs=ca, certfile=cert, keyfile=key)
        if user:
            self.client.username_pw_set(user, secret)
        if transport == "websockets":
            self.client.ws_set_options(path="/mqtt")
        self.client.on_connect = lambda c, u, f, reason, p: self.events.put(("connect", reason, f.session_present))
        self.client.on_subscribe = lambda c, u, mid, reasons, p: self.events.put(("subscribe", reasons))
        self.client.on_publish = lambda c, u, mid, reason, p: self.events.put(("publish", reason))
        self.client.on_message = lambda c, u, message: self.messages.put(message)
        self.client.connect("localhost", int(ws_port if transport == "websockets" else port), keepalive=60)
        self.client.loop_start()
        kind, reason, session_present = self.event()
        assert kind == "connect" and not reason.is_failure and not session_present, (reason, session_present)

    def event(self):
        return self.events.get(timeout=PATIENCE)

    def subscribe(self, topic):
        self.client.subscribe(topic, qos=1)
        kind, reasons = self.event()
        assert kind == "subscribe"
        return reasons[0]

    def publish(self, topic, payload):
        self.client.publish(topic, payload, qos=1)
        assert self.event()[0] == "publish"

    def message(self):
        return self.messages.get(timeout=PATIENCE)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


for version in (mqtt.MQTTv311, mqtt.MQTTv5):
    for transport in ("tcp", "websockets"):
        for by_password in (False, True):
            device = Client(version, transport, dev_cert, dev_key)
            if by_password:
                owner = Client(version, transport, user=registry, secret=password)
            else:
                owner = Client(version, transport, reg_cert, reg_key)
            assert device.subscribe(f"$registries/{registry}/commands").value == 1
            assert owner.subscribe("$devices/dev1/events").value == 1
            refused = owner.subscribe("$devices/dev1/commands").value
            assert refused == (0x80 if version == mqtt.MQTTv311 else 0x87), refused
            device.publish("$devices/dev1/events", b"up")
            assert owner.message().payload == b"up"
            large = bytes(range(256)) * 1024
            owner.publish(f"$registries/{registry}/commands", large)
            message = device.message()
            assert message.payload == large and message.qos == 1 and not message.retain
            device.close()
            owner.close()
print("done")
