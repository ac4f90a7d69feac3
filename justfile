# Aliases for what the README names; each is one command that works without `just`.

# List the recipes
default:
    @{{ just_executable() }} --list --unsorted

# Run one gateway in dev mode; it prints where to look
run *args:
    cargo run --release -- {{ args }}

# Run every test; `just test --only rust` runs one lane
test *args:
    cargo xtask test {{ args }}

# Start Redis, three gateways and HAProxy on this machine
cluster:
    cargo xtask cluster

# Measure, beside the budgets
bench *args:
    cargo xtask bench {{ args }}

# Check this repository's own rules
tidy:
    cargo xtask tidy

# Format the code
fmt:
    cargo fmt --all

# Start the same cluster in containers
compose *args:
    docker compose up --build {{ args }}
