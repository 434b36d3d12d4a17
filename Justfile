# Everyday recipes. `cargo up` and `cargo verify` are all that is needed; these save typing.

atoll := "cargo run --quiet --release --package atoll --"

# List the recipes
default:
    @just --list

# Bring the cluster up, or repair it
up *words:
    cargo up {{words}}

# Remove the cluster
down *words:
    {{atoll}} down {{words}}

# The gate: format, lints, unit tests, end to end
verify:
    cargo verify

# The gate, and what takes long
verify-long:
    cargo verify-long

# Format the code
fmt:
    cargo fmt --all

# Warnings are errors
lint:
    cargo clippy --workspace --all-targets --release -- --deny warnings

# Unit tests
test *words:
    cargo test --workspace --exclude e2e --release {{words}}

# End to end, against a cluster
e2e *words:
    cargo test --package e2e --release {{words}}

# Build the cluster image
image *words:
    {{atoll}} image build {{words}}

# Build the desktop's files
desktop:
    cargo xtask desktop

# Micro-benchmarks of the pure cores
bench:
    cargo bench --package catalog --bench evaluate
    cargo bench --package gateway --bench table
    cargo bench --package front --bench proxy
