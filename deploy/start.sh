#!/bin/sh
# Starts Prelabel in its image. The root file system may be read-only, with a tmpfs at /tmp.
# numba ignores a cache that it cannot write to, so copy the image's compiled kernels to /tmp first.
set -eu
mkdir -p "$NUMBA_CACHE_DIR"
cp -R --preserve=timestamps /opt/kernels/. "$NUMBA_CACHE_DIR"
exec /opt/prelabel/bin/prelabel "$@"
