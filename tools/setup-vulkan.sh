#!/bin/sh
# Makes sure that the GPU tests find an adapter: if the tests can't open one, installs Mesa's software Vulkan (Debian, Ubuntu).
# Does nothing where an adapter works, so it can run before every test. Uses sudo unless run as root.
#
# Usage: tools/setup-vulkan.sh [cargo flags, e.g. --release]
# Exit code: 0 if an adapter works now, 1 if not; the GPU tests then have to stay ignored.
set -eu
cd "$(dirname "$0")/.."

# The engine itself is asked: a driver's manifest says nothing about whether its device is there.
works() {
    cargo test --quiet "$@" --test twins -- --ignored --exact an_adapter_works >/dev/null 2>&1
}

cargo test --quiet "$@" --test twins --no-run
if works "$@"; then
    echo "setup-vulkan: a GPU adapter works, nothing to install"
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "setup-vulkan: no GPU adapter works and this is no Debian or Ubuntu; install a Vulkan driver, for example Mesa's lavapipe" >&2
    exit 1
fi
root=""
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "setup-vulkan: no GPU adapter works; as root, run: apt-get install mesa-vulkan-drivers libvulkan1" >&2
        exit 1
    fi
    root="sudo"
fi
echo "setup-vulkan: no GPU adapter works, installing mesa-vulkan-drivers and libvulkan1"
$root apt-get update -qq
$root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mesa-vulkan-drivers libvulkan1
if works "$@"; then
    echo "setup-vulkan: a software adapter works now"
else
    echo "setup-vulkan: the packages are installed, but still no adapter works" >&2
    exit 1
fi
