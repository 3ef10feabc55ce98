#!/bin/bash
# certificates.sh DIR HOST...
#
# Makes what the parts of a small cluster show each other, in DIR (docs/cluster.md): an
# authority of its own (ca.pem), and for the storage, the scheduler, workers and clients
# a certificate and a key (storage.pem, storage-key.pem and so on). Those of servers are
# good for each HOST, a name or an address, and for localhost.
#
# It keeps what is there: run it again with DIR/worker.pem removed for a new worker.pem.
# Whoever has ca-key.pem can make more: keep it off the machines.
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: certificates.sh DIR HOST..." >&2; exit 2; }
dir=$1
shift
umask 077
mkdir -p "$dir"
cd "$dir"

names=DNS:localhost,IP:127.0.0.1
for host; do
  if [[ $host =~ ^[0-9.]+$ || $host == *:* ]]; then names+=,IP:$host; else names+=,DNS:$host; fi
done
days=825

[ -e ca.pem ] ||
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=hearth cluster" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign \
    -keyout ca-key.pem -out ca.pem
for who in storage scheduler worker client; do
  [ ! -e "$who.pem" ] || continue
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$who" -keyout "$who-key.pem" -out "$who.csr"
  openssl x509 -req -in "$who.csr" -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days "$days" -out "$who.pem" \
    -extfile <(printf '%s\n' "subjectAltName=$names,DNS:$who" extendedKeyUsage=serverAuth,clientAuth keyUsage=critical,digitalSignature basicConstraints=CA:FALSE)
  rm "$who.csr"
done
echo "certificates of $dir: ca.pem, and storage, scheduler, worker and client"
