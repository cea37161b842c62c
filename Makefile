.PHONY: run test check bench faults soak package

# An optimised server in the foreground, its data in ./data.
run:
	@scripts/run

# Installs what is missing of the outside tools, then runs every test.
test:
	@scripts/test

# Formatting, lints, documentation, the ladder of ARCHITECTURE.md.
check:
	@scripts/check

# Rates, latencies and sizes of a release build beside the machine's own limits.
bench:
	@scripts/bench

# Faults under load on both engines, in fifteen minutes at most.
faults:
	@scripts/faults

# The long forms of the crash and mutation tests.
soak:
	@scripts/soak

# The Debian package; BINARY=path takes a program that was built before.
package:
	@scripts/package
