"""Runs pkilint's `lint_pkix_cert` over files in one process and prints what it finds: lint_certificates.py FILE..."""

import contextlib
import io
import sys

from pkilint.bin import lint_pkix_cert

failed = 0
for path in sys.argv[1:]:
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        findings = lint_pkix_cert.main(["lint", "-s", "ERROR", path])
    if findings:
        failed += 1
        print(f"{path}: {output.getvalue().strip()}")
print(f"{len(sys.argv) - 1} linted, {failed} with errors")
sys.exit(1 if failed else 0)
