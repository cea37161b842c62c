"""A mail server of somebody else's (aiosmtpd): it takes mail for whoever logs in, and writes each as a line of JSON.

mail_sink.py PORT CERTIFICATE KEY USER PASSWORD FILE: prints a line once it listens. STARTTLS comes before the login, and both
before any mail. A mail to later@… is put off once, one to never@… is refused."""

import json
import ssl
import sys
import time

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

port, certificate, key, user, password, path = sys.argv[1:]


class Handler:
    def __init__(self):
        self.put_off = set()

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("never@"):
            return "550 there is nobody of that name"
        if address.startswith("later@") and address not in self.put_off:
            self.put_off.add(address)
            return "451 try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        mail = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "text": envelope.content.decode(),
            "tls": session.ssl is not None,
            "user": session.auth_data.decode(),
        }
        with open(path, "a") as file:
            file.write(json.dumps(mail) + "\n")
        return "250 taken"


def authenticate(server, session, envelope, mechanism, data):
    is_right = (
        isinstance(data, LoginPassword)
        and data.login.decode() == user
        and data.password.decode() == password
    )
    return AuthResult(success=is_right, auth_data=data.login if is_right else None)


context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(certificate, key)
controller = Controller(
    Handler(),
    hostname="127.0.0.1",
    port=int(port),
    tls_context=context,
    require_starttls=True,
    authenticator=authenticate,
    auth_required=True,
    ready_timeout=60,
)
controller.start()
print("listening", flush=True)
while True:
    time.sleep(60)
