#!/bin/sh
# Makes sure that the tests of the page find a browser with WebGPU: where there is none, installs Chromium (Debian; Ubuntu has it as a
# snap only, which can't see the tests' folders). Does nothing where one works. Uses sudo unless run as root.
#
# Usage: tools/setup-browser.sh [cargo flags, e.g. --release]
# Exit code: 0 if a browser works now, 1 if not; its tests then have to stay ignored.
set -eu
cd "$(dirname "$0")/.."

# A page is asked: that a browser is there says nothing about its WebGPU.
works() {
    cargo test --quiet "$@" --test web -- --ignored --exact in_a_browser::a_browser_works >/dev/null 2>&1
}

cargo test --quiet "$@" --test web --no-run
if works "$@"; then
    echo "setup-browser: a browser with WebGPU works, nothing to install"
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "setup-browser: no browser with WebGPU, and this is no Debian; install Chromium or Chrome" >&2
    exit 1
fi
root=""
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "setup-browser: no browser with WebGPU; as root, run: apt-get install chromium" >&2
        exit 1
    fi
    root="sudo"
fi
echo "setup-browser: no browser with WebGPU, installing chromium"
if ! { $root apt-get update -qq && $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; }; then
    echo "setup-browser: chromium could not be installed" >&2
    exit 1
fi
if works "$@"; then
    echo "setup-browser: a browser with WebGPU works now"
else
    echo "setup-browser: chromium is installed, but has no WebGPU" >&2
    exit 1
fi
