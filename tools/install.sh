#!/bin/sh
# Installs what building (`build`), trying out (`run`), testing (`test`) or benchmarking (`bench`)
# TideMQ needs on Debian 12, and only what is missing. Says what it installs and why; with nothing
# missing it needs neither root nor a network.
#
# usage: tools/install.sh build|run|test|bench
set -eu

# package, a blank, why
build_packages='
build-essential C compiler and make
cmake build system
ninja-build runs the build
pkg-config finds the libraries
libyaml-dev reads the configuration
liblmdb-dev keeps checkpoints of session state
libmicrohttpd-dev serves the admin API
libsodium-dev hashes passwords
libjansson-dev JSON of the admin API
libxxhash-dev hash tables
libcurl4-gnutls-dev command line to admin API, authentication by HTTP
librhonabwy-dev key sets of JWT
libgnutls28-dev TLS, and imported password hashes
libngtcp2-dev MQTT over QUIC
libngtcp2-crypto-gnutls-dev MQTT over QUIC
libcrypt-dev imported password hashes
zlib1g-dev messages that clients of RocketMQ have compressed
'

run_packages='
mosquitto-clients the two lines to copy that the start prints
'

test_packages='
libcmocka-dev unit tests
e2fsprogs small disks of the tests of a full disk
strace system calls of a server whose disk fails
iproute2 networks for single tests
nftables loses packets in the tests of bad networks
clang-14 fuzzing
libclang-rt-14-dev fuzzing and sanitizers
clang-format-14 style checks
clang-tidy-14 style checks
codespell spelling checks
mosquitto peer in benchmarks, store of foreign passwords
mosquitto-clients command line clients
chromium a web page as a client
haproxy a load balancer in front of the server under test
curl examples of the documentation
etcd-server members of a cluster under test
openssl certificates of the tests and of the documentation
libmosquitto-dev client library under test
libpaho-mqtt-dev client library under test
python3-venv runs the end-to-end tests, draws plots
'

# command, least major.minor version, Debian package, why: Debian's is installed only when there is
# none from elsewhere, or one that is too old.
test_commands='
python3 3.9 python3 runs the end-to-end tests
java 11.0 default-jdk-headless Java clients under test, RocketMQ
javac 11.0 default-jdk-headless Java clients under test
mvn 3.6 maven fetches the Java clients and RocketMQ
go 1.19 golang-go Go client under test
node 16.0 nodejs JavaScript client under test
npm 6.0 npm fetches the JavaScript client
cargo 1.89 cargo-web Rust client under test
systemd-analyze 0.0 systemd checks the service unit
'

# What builds the servers that TideMQ is compared with; versions as those servers want them.
bench_packages='
mosquitto peer in benchmarks
openssl a certificate for the rows with TLS
python3-venv draws the plots
'

bench_commands='
python3 3.9 python3 runs the benchmarks
java 11.0 default-jdk-headless runs HiveMQ CE and Moquette
javac 11.0 default-jdk-headless builds their main programs
mvn 3.6 maven fetches HiveMQ CE and Moquette
go 1.19 golang-go builds mochi-mqtt
cargo 0.60 cargo builds rumqttd
node 16.0 nodejs runs aedes
npm 6.0 npm fetches aedes
'

say() {
    printf '%s\n' "$*" >&2
}

# The major.minor version that a command prints about itself; empty when it prints none.
version_of() {
    case $1 in
    systemd-analyze) echo 1.0; return ;;
    go) go version 2>/dev/null ;;
    java) java -version 2>&1 ;;
    *) "$1" --version 2>/dev/null ;;
    esac | sed 's/\x1b\[[0-9;]*m//g' |
        sed -n 's/^[^0-9]*\([0-9][0-9]*\.[0-9][0-9]*\).*/\1/p; s/^[^0-9]* \([0-9][0-9]*\)$/\1.0/p' |
        head -n 1
}

# true when version $1 is at least $2.
at_least() {
    [ -n "$1" ] && [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

is_installed() {
    dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed
}

# Adds a package with its reason to $missing and $reasons, once.
add_missing() {
    case " $missing " in
    *" $1 "*) return ;;
    esac
    missing="$missing $1"
    reasons="$reasons
  $1 ($2)"
}

find_packages() {
    while read -r package why; do
        if [ -n "$package" ] && ! is_installed "$package"; then
            add_missing "$package" "$why"
        fi
    done <<EOF
$1
EOF
}

find_commands() {
    while read -r command least package why; do
        if [ -z "$command" ]; then
            continue
        fi
        if ! command -v "$command" >/dev/null 2>&1; then
            add_missing "$package" "$why"
        elif ! at_least "$(version_of "$command")" "$least"; then
            add_missing "$package" "$why; $command is older than $least"
        fi
    done <<EOF
$1
EOF
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo "$@"
    else
        say "This needs root and there is no sudo; run as root:"
        say "  apt-get update && apt-get install -y --no-install-recommends$missing"
        exit 1
    fi
}

missing=
reasons=
case ${1:-} in
build)
    what='to build'
    ;;
run)
    what='to build and try out'
    ;;
test)
    what='to build and test'
    ;;
bench)
    what='to build and benchmark'
    ;;
*)
    say "usage: tools/install.sh build|run|test|bench"
    exit 2
    ;;
esac

if ! command -v dpkg-query >/dev/null 2>&1; then
    say "This installs packages on Debian 12; elsewhere install the equivalents of:"
    printf '%s\n' "$build_packages" | sed -n 's/^\([^ ]*\) \(.*\)/  \1 (\2)/p' >&2
    exit 1
fi

find_packages "$build_packages"
if [ "$1" = run ]; then
    find_packages "$run_packages"
fi
if [ "$1" = test ]; then
    find_packages "$test_packages"
    find_commands "$test_commands"
fi

if [ "$1" = bench ]; then
    find_packages "$bench_packages"
    find_commands "$bench_commands"
fi

if [ -z "$missing" ]; then
    say "Everything needed $what is installed."
    exit 0
fi
say "Installing what is needed $what:$reasons"
export DEBIAN_FRONTEND=noninteractive
as_root apt-get update -q
as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -q --no-install-recommends $missing
say "Installed:$missing"
