# The two commands that do everything on a fresh Debian machine with Rust: `make demo`, `make test`.
# Both install with apt what is missing.

CARGO ?= cargo
OUT ?= demo-run

.PHONY: help demo test agreement bench bench-join bench-nfdump bench-extractor accuracy accuracy-short fuzz fuzz-short tools lint docs

help:
	@echo 'make demo    real traffic, captured, annotated and printed by nfdump (root)'
	@echo 'make test    all tests; what a machine cannot offer is skipped, loudly'
	@echo 'make bench   sizes of the programs on disk and in memory'
	@echo 'make bench-nfdump     how fast flows are named, beside nfdump copying them (five minutes)'
	@echo 'make bench-extractor  how fast packets become flows, beside other meters (five minutes)'
	@echo 'make bench-join       how fast the join is alone, and what an interval takes of memory'
	@echo 'make accuracy         how well each source names the processes (root, ten minutes)'
	@echo 'make accuracy-short   the same in a minute; fails on any wrong answer'
	@echo 'make agreement        how far applications agree with NFStream, by protocol, and names with tshark'
	@echo 'make fuzz MINUTES=30  fuzz the readers of files and frames, each target so long (nightly Rust)'
	@echo 'make fuzz-short       the same for 10 seconds a target'
	@echo 'make lint    format, clippy, shell scripts, whether the nfdump crate packs'
	@echo 'make docs    the API documentation, warnings denied'

tools:
	@tests/install-tools

demo: tools
	$(CARGO) build --locked --release --bins
	profiles/first-light/make.sh target/release/tracker target/release/updater $(OUT)

test: tools
	@tests/run

agreement: tools
	$(CARGO) test --locked --test applications -- --nocapture

bench: tools
	$(CARGO) build --locked --release --bins
	@tests/sizes target/release/tracker target/release/updater

# SPEED: more options, such as SPEED='--json FILE'
bench-nfdump: tools
	$(CARGO) test --locked --release --test speed -- --full $(SPEED)

# METERS: more options, such as METERS='--json FILE'
bench-extractor: tools
	$(CARGO) test --locked --release --test meters -- --full $(METERS)

# JOIN: more options, such as JOIN='--json FILE'
bench-join:
	$(CARGO) bench --locked -p procflow-binding --bench join -- --intervals 10000000 $(JOIN)

# ACCURACY: more options, such as ACCURACY='--json FILE --bar A1,A4 --source sock-diag'
accuracy: tools
	$(CARGO) test --locked --release --test accuracy -- --full $(ACCURACY)

accuracy-short: tools
	$(CARGO) test --locked --release --test accuracy -- --short $(ACCURACY)

# TARGETS: only these, such as TARGETS='reader lzo'
MINUTES ?= 30
fuzz:
	@fuzz/run $$(($(MINUTES) * 60)) $(TARGETS)

fuzz-short:
	@fuzz/run 5 $(TARGETS)

lint:
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) package --locked --quiet --allow-dirty --no-verify -p procflow-nfdump
	@if command -v shellcheck >/dev/null; then \
		shellcheck profiles/*/make.sh tests/install-tools tests/run tests/sizes fuzz/run .ci/run; \
	else echo 'SKIPPED: shellcheck is not installed'; fi

docs:
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --workspace --no-deps
