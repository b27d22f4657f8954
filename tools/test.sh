#!/usr/bin/env bash
# Runs all tests, those of the GPU kernels and of the page in a browser included: installs software Vulkan and Chromium first where no
# adapter and no browser works (Debian; Vulkan on Ubuntu, too). What there still is not, its tests are not run for: the GPU's stay
# ignored, which the runner counts, the browser's are filtered out or stay ignored.
# Arguments go to cargo test: tools/test.sh --test golden
set -euo pipefail
cd "$(dirname "$0")/.."
# Mesa's device-selection layer looks for a desktop, and complains in every test where there is none.
export NODEVICE_SELECT=1
gpu=yes browser=yes
tools/setup-vulkan.sh || gpu=no
tools/setup-browser.sh || browser=no
[ $gpu = yes ] || echo "tools/test.sh: no GPU adapter: the tests of the GPU engine are ignored" >&2
[ $browser = yes ] || echo "tools/test.sh: no browser with WebGPU: the tests in a browser are skipped" >&2
case $gpu,$browser in
    yes,yes) exec cargo test "$@" -- --include-ignored ;;
    yes,no) exec cargo test "$@" -- --include-ignored --skip in_a_browser:: ;;
    no,yes)
        cargo test "$@"
        # With arguments, whoever wants these names them.
        [ $# -gt 0 ] || exec cargo test --test web -- --include-ignored
        ;;
    *) exec cargo test "$@" ;;
esac
