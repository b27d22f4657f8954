#!/usr/bin/env bash
# Fuzzes the readers: each target in turn, for so many executions, from the seeds and what earlier runs found.
#   tools/fuzz.sh [EXECUTIONS [TARGET ...]]      100,000 executions of every target
# Needs a nightly compiler (rustup toolchain install nightly) and cargo-fuzz (cargo install cargo-fuzz).
# Leaves the corpus in fuzz/corpus, a line for each run in fuzz/log, and what failed in fuzz/artifacts: that becomes a file in
# tests/fixtures/hostile/TARGET, where every test run tries it again.
set -euo pipefail
cd "$(dirname "$0")/.."
executions=${1:-100000}
shift || true
cargo +nightly fuzz --version > /dev/null || { echo "tools/fuzz.sh: needs cargo-fuzz and a nightly compiler" >&2; exit 2; }

# Seeds of formats that change with the program are made by the program.
GRADCON_SEEDS="$PWD/fuzz/corpus" cargo test --quiet --test hostile seeds_for_fuzzing > /dev/null
targets=("$@")
if [ ${#targets[@]} = 0 ]; then
    mapfile -t targets < <(cargo +nightly fuzz list --fuzz-dir fuzz)
fi
# Readers have no unsafe code of their own, so no sanitizer: twice as fast.
cargo +nightly fuzz build --fuzz-dir fuzz --sanitizer none
failed=0
for target in "${targets[@]}"; do
    start=$SECONDS
    # A bound on memory, on one input's time and on its length; the seeds of the larger formats are a megabyte long.
    if cargo +nightly fuzz run --fuzz-dir fuzz --sanitizer none "$target" -- -runs="$executions" -rss_limit_mb=1024 -timeout=10 \
        -max_len=65536 -print_final_stats=1 > "fuzz/$target.out" 2>&1; then
        outcome=passed
    else
        outcome=FAILED failed=1
        tail -n 40 "fuzz/$target.out" >&2
    fi
    done=$(sed -n 's/^stat::number_of_executed_units: *//p' "fuzz/$target.out")
    echo "$(date -u +%FT%TZ) $target $outcome executions=${done:-?} seconds=$((SECONDS - start))" | tee -a fuzz/log
    rm "fuzz/$target.out"
done
exit $failed
