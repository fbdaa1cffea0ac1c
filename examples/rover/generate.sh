#!/bin/sh
# Writes the files of each language anew; with --check it says which are stale.
set -e
cd "$(dirname "$0")"
run() { ${PYTHON:-python} -m deli_com gen "$@"; }
run ts rover:Event,Command --client -o wire.ts "$@"
run ts rover:Event,Command --client --js -o wire.mjs "$@"
run rust rover:Event,Command -o wire.rs "$@"
run cpp rover:Event,Command -o wire.hpp "$@"
run dart rover:Event,Command -o wire.dart "$@"
