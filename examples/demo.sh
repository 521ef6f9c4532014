#!/usr/bin/env bash
# The demo of `make demo`: one slide to an OME-Zarr store, checked, and read back.
#
#   demo.sh SLIDE FOLDER     (SLIDE is written first where it is FOLDER/synthetic.svs)
set -euo pipefail

slide=$1
folder=$2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
store=$folder/$(basename "${slide%.*}").ome.zarr

run() { # show a command, then run it
    printf '\n$ %s\n' "$*"
    "$@"
}

mkdir -p "$folder"
if [ "$slide" = "$folder/synthetic.svs" ] && [ ! -e "$slide" ]; then
    run python "$here/make_slide.py" "$slide"
fi

run wsistore info "$slide"
run wsistore convert "$slide" "$store" --overwrite
run wsistore verify "$store" --against "$slide"
run wsistore validate "$store"
run python "$here/convert_and_read.py" "$slide" --store "$store" --pictures "$folder"
