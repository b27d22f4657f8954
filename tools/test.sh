#!/usr/bin/env bash
# Runs all tests, those of the GPU kernels included: installs software Vulkan first where no adapter works (Debian and Ubuntu).
# Where there still is none, the GPU tests stay ignored, and the runner counts them as such.
# Arguments go to cargo test: tools/test.sh --test golden
set -euo pipefail
cd "$(dirname "$0")/.."
# Mesa's device-selection layer looks for a desktop, and complains in every test where there is none.
export NODEVICE_SELECT=1
if tools/setup-vulkan.sh; then
    exec cargo test "$@" -- --include-ignored
fi
echo "tools/test.sh: no GPU adapter: the tests of the GPU engine are ignored" >&2
exec cargo test "$@"
