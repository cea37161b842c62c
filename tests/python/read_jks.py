"""Reads a Java key store of the format JKS by what is published of it, and prints its one entry as JSON.

A reader of its own, so that machines without Java hold the server's key stores against something, too.
"""

import base64
import hashlib
import json
import struct
import sys


def main():
    with open(sys.argv[1], "rb") as file:
        store = file.read()
    with open(sys.argv[2], encoding="utf-8") as file:
        password = file.read().rstrip("\n").encode("utf-16-be")
    body, digest = store[:-20], store[-20:]
    if hashlib.sha1(password + b"Mighty Aphrodite" + body).digest() != digest:
        sys.exit("wrong password, or the file was changed")
    reader = Reader(body)
    if reader.numbers(4) != (0xFEEDFEED, 2, 1, 1):
        sys.exit("not one key in a store of version 2")
    alias = reader.text()
    reader.take(8)
    key = unprotect(reader.octets(), password)
    certificates = []
    for _ in range(*reader.numbers(1)):
        assert reader.text() == "X.509"
        certificates.append(reader.octets())
    assert not reader.rest()
    shown = [base64.b64encode(der).decode() for der in certificates]
    print(json.dumps({"alias": alias, "key": base64.b64encode(key).decode(), "certificates": shown}))


class Reader:
    def __init__(self, octets):
        self.all, self.place = octets, 0

    def take(self, count):
        taken = self.all[self.place : self.place + count]
        assert len(taken) == count
        self.place += count
        return taken

    def numbers(self, count):
        return struct.unpack(f">{count}I", self.take(4 * count))

    def octets(self):
        return self.take(*self.numbers(1))

    def text(self):
        (length,) = struct.unpack(">H", self.take(2))
        # Units of UTF-16 in the form of UTF-8 each: pairs of them are put together afterwards.
        units = self.take(length).replace(b"\xc0\x80", b"\0").decode("utf-8", "surrogatepass")
        return units.encode("utf-16", "surrogatepass").decode("utf-16")

    def rest(self):
        return self.all[self.place :]


def unprotect(info, password):
    """The key in an EncryptedPrivateKeyInfo of Sun's own protection."""
    marked = b"\x06\x0a\x2b\x06\x01\x04\x01\x2a\x02\x11\x01\x01\x05\x00"
    start = info.index(marked) + len(marked)
    assert info[start] == 4
    length, start = info[start + 1], start + 2
    if length & 0x80:
        count = length & 0x7F
        length, start = int.from_bytes(info[start : start + count], "big"), start + count
    sealed = info[start:]
    assert len(sealed) == length
    salt, covered, check = sealed[:20], sealed[20:-20], sealed[-20:]
    key, block = b"", salt
    while len(key) < len(covered):
        block = hashlib.sha1(password + block).digest()
        key += bytes(a ^ b for a, b in zip(covered[len(key) :], block))
    assert hashlib.sha1(password + key).digest() == check
    return key


main()
