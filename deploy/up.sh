#!/bin/sh
# Starts Prelabel and Label Studio in containers: sh deploy/up.sh gpu | cpu. Checks first that this host has what they need.
set -eu
umask 077
kind=${1:-gpu}
cd "$(dirname "$0")/.."
failed=0

missing() {
    echo "Missing: $1" >&2
    failed=1
}

has() {
    command -v "$1" > /dev/null
}

if ! has docker; then
    missing "docker. Install Docker Engine with its compose plugin."
elif ! docker info > /dev/null 2>&1; then
    missing "access to the Docker daemon. Start it, or add this user to the group docker."
elif ! docker compose version > /dev/null 2>&1; then
    missing "docker's compose plugin. Install docker-compose-plugin."
fi
if [ "$kind" = gpu ]; then
    if ! has nvidia-smi; then
        missing "the NVIDIA driver (nvidia-smi). Install version 580 or newer, which CUDA 13 needs; without a GPU: make up-cpu."
    else
        driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2> /dev/null | head -n 1 || true)
        case "${driver%%.*}" in
            '' | *[!0-9]*) missing "a working NVIDIA driver: nvidia-smi lists no GPU. Reboot after installing the driver." ;;
            *) [ "${driver%%.*}" -ge 580 ] || missing "a newer NVIDIA driver: CUDA 13 needs 580, found $driver." ;;
        esac
    fi
    has nvidia-ctk || missing "the NVIDIA Container Toolkit (nvidia-ctk). Install it, then: nvidia-ctk runtime configure --runtime=docker, and restart Docker."
fi
[ "$failed" = 0 ] || exit 1

mkdir -p deploy/secrets
for name in admin_token grafana_password; do
    file=deploy/secrets/$name
    if [ ! -s "$file" ]; then
        od -An -N24 -tx1 /dev/urandom | tr -d ' \n' > "$file"
        # readable for the container's user; the folder's mode protects it on this host
        chmod 444 "$file"
    fi
done
if [ "$kind" = gpu ]; then
    exec docker compose --file docker-compose.yml --file docker-compose.gpu.yml up --build --detach --wait
fi
exec docker compose --file docker-compose.yml up --build --detach --wait
