#!/bin/sh
# Writes what backup.sh copied into the empty database of DATABASE_URL. Nothing may run meanwhile.
#   restore.sh FILE
set -eu
case "$DATABASE_URL" in
  postgres*)
    pg_restore --no-owner --exit-on-error --single-transaction --dbname="$DATABASE_URL" "$1"
    ;;
  sqlite:///*)
    if [ -e "${DATABASE_URL#sqlite:///}" ]; then
      echo "restore.sh: ${DATABASE_URL#sqlite:///} exists; move it away first" >&2
      exit 1
    fi
    cp "$1" "${DATABASE_URL#sqlite:///}"
    ;;
  *)
    echo "restore.sh: DATABASE_URL is neither postgres:// nor sqlite:///" >&2
    exit 2
    ;;
esac
