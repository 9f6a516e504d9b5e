#!/usr/bin/env bash
# Installs those of the named Debian packages that are missing, as root or by sudo without a password.
# usage: deploy/apt.sh PACKAGE...
set -euo pipefail

missing=()
for package in "$@"; do
    [[ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null)" == installed ]] || missing+=("$package")
done
((${#missing[@]})) || exit 0

as_root=()
if ((EUID != 0)); then
    as_root=(sudo --non-interactive)
    if ! "${as_root[@]}" true 2>/dev/null; then
        echo "missing: ${missing[*]}; as sudo wants a password, please run: sudo apt-get install ${missing[*]}" >&2
        exit 1
    fi
fi
if ! command -v apt-get >/dev/null; then
    echo "missing: ${missing[*]}; there is no apt-get here, please install them with this system's own tool" >&2
    exit 1
fi

echo "installing ${missing[*]}"
"${as_root[@]}" apt-get update --quiet --quiet
# A fresh machine may still be busy with its own first updates, hence the wait for the lock.
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install --yes --quiet --quiet --no-install-recommends --option DPkg::Lock::Timeout=300 "${missing[@]}"

# Debian starts a broker and a Prometheus for the whole machine with their packages. Nobody asked for those; the tests
# start their own. Services that were here before are left alone.
if [[ -d /run/systemd/system ]]; then
    for package in "${missing[@]}"; do
        case "$package" in
            mosquitto | prometheus) "${as_root[@]}" systemctl disable --quiet --now "$package.service" ;;
        esac
    done
fi
