#!/bin/sh
# Runs every fuzz target of build/fuzz for a number of seconds, starting from its corpus. New inputs
# go to build/fuzz/found, what breaks a target to build/fuzz/broken.
#
# usage: tools/fuzz.sh [SECONDS]
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
failed=0
for target in build/fuzz/*_fuzz; do
    name=$(basename "$target")
    mkdir -p "build/fuzz/found/$name" build/fuzz/broken
    echo "== $name"
    "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=4096 -print_final_stats=1 \
        -artifact_prefix="build/fuzz/broken/$name-" "build/fuzz/found/$name" \
        "test/fuzz/corpus/$name" || failed=$((failed + 1))
done
echo "$failed fuzz targets failed"
[ "$failed" -eq 0 ]
