#!/bin/sh
# Starts Prelabel and Label Studio in containers: sh deploy/up.sh gpu | cpu. Says first what this host lacks for it.
set -eu
umask 077
kind=${1:-gpu}
cd "$(dirname "$0")/.."
lacking=0

lacks() {
    echo "Missing: $1" >&2
    lacking=1
}

has() {
    command -v "$1" > /dev/null
}

if ! has docker; then
    lacks "docker. Install Docker Engine with its compose plugin."
elif ! docker info > /dev/null 2>&1; then
    lacks "an answer of the Docker daemon. Start it, or let this user reach it (group docker)."
elif ! docker compose version > /dev/null 2>&1; then
    lacks "docker's compose plugin. Install docker-compose-plugin."
fi
if [ "$kind" = gpu ]; then
    if ! has nvidia-smi; then
        lacks "the NVIDIA driver (nvidia-smi). Install version 580 or newer, which CUDA 13 needs; without a GPU: make up-cpu."
    else
        driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2> /dev/null | head -n 1 || true)
        case "${driver%%.*}" in
            '' | *[!0-9]*) lacks "an answer of the NVIDIA driver: nvidia-smi names no GPU. Reboot after an installation." ;;
            *) [ "${driver%%.*}" -ge 580 ] || lacks "a newer NVIDIA driver: CUDA 13 needs 580, found $driver." ;;
        esac
    fi
    has nvidia-ctk || lacks "the NVIDIA Container Toolkit (nvidia-ctk). Install it, then: nvidia-ctk runtime configure --runtime=docker, and restart Docker."
fi
[ "$lacking" = 0 ] || exit 1

mkdir -p deploy/secrets
for name in admin_token grafana_password; do
    file=deploy/secrets/$name
    if [ ! -s "$file" ]; then
        od -An -N24 -tx1 /dev/urandom | tr -d ' \n' > "$file"
        # the container's user reads it; on this host the folder keeps others out
        chmod 444 "$file"
    fi
done
if [ "$kind" = gpu ]; then
    exec docker compose --file docker-compose.yml --file docker-compose.gpu.yml up --build --detach --wait
fi
exec docker compose --file docker-compose.yml up --build --detach --wait
