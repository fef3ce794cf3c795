#!/bin/sh
# Starts Prelabel in its image, whose root file system may be read-only: /tmp is then a tmpfs.
# numba passes over a cache that it cannot write to, so the kernels of the image go to /tmp first.
set -eu
mkdir -p "$NUMBA_CACHE_DIR"
cp -R --preserve=timestamps /opt/kernels/. "$NUMBA_CACHE_DIR"
exec /opt/prelabel/bin/prelabel "$@"
