# Each recipe is one plain command; `just` is a convenience, not a requirement.

# Everything that must hold before a change lands
ci:
    .ci/run

check:
    cargo clippy --workspace --all-targets -- -D warnings

test:
    cargo test --workspace

fmt:
    cargo fmt --all

# More seeds of the whole-system simulation: `just sim 5000`
sim seeds="2000":
    CONCLAVE_SIM_SEEDS={{seeds}} cargo test --release -p conclave-sim --test it sim -- --nocapture

# A release build, then the figures of docs/benchmarks.md
bench:
    cargo run --release -p conclave-sim --example bench

docs:
    cargo doc --workspace --no-deps --open
