#!/usr/bin/env bash
# Runs all tests, those of the GPU kernels included: installs software Vulkan first where no adapter is found (Debian and Ubuntu).
# Arguments go to the test runner: tools/test.sh golden
set -euo pipefail
cd "$(dirname "$0")/.."
tools/setup-vulkan.sh
exec cargo test "$@" -- --include-ignored
