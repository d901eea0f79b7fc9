#!/bin/sh
# Writes what backup.sh copied into the empty database of DATABASE_URL. Nothing may run meanwhile.
#   restore.sh FILE
set -eu
umask 077
case "$DATABASE_URL" in
  postgres*)
    . "$(dirname "$0")/postgres.sh"
    pg_restore --no-owner --exit-on-error --single-transaction --dbname="$DATABASE_URL" "$1"
    ;;
  sqlite:///*)
    # A -wal of the lost database would be written into the copy.
    for part in "" -wal -shm; do
      if [ -e "${DATABASE_URL#sqlite:///}$part" ]; then
        echo "restore.sh: ${DATABASE_URL#sqlite:///}$part exists; move it away first" >&2
        exit 1
      fi
    done
    cp "$1" "${DATABASE_URL#sqlite:///}"
    ;;
  *)
    echo "restore.sh: DATABASE_URL is neither postgres:// nor sqlite:///" >&2
    exit 2
    ;;
esac
