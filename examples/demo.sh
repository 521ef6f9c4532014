#!/usr/bin/env bash
# The demo of `make demo`: one slide to an OME-Zarr store, checked and read back; then its
# tissue, a plan of tiles, and their features by the encoder that needs no download.
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
run wsistore segment "$store" --output "$folder/tissue" --force
run wsistore tile "$store" "$folder/plan.json" --size 256 --target-mag 10 \
    --mask "$folder/tissue/masks/$(basename "${slide%.*}").png" --overlay "$folder/tiles.png"
run wsistore embed "$folder/plan.json" --encoder colour-stats --device cpu \
    --store "$folder/features.zarr" --overwrite
run wsistore features ls "$folder/features.zarr"

cat <<END

Look at, in $folder/:
  thumbnail.png, crop.png              the store; a place in the slide and in the store, side by side
  tissue/contact_sheet.png             the tissue that was found; contours for QuPath in tissue/contours/
  tiles.png, plan.json                 the tiles that are worth reading
  features.zarr                        their features; wsistore.open_features gives them to xarray
END
