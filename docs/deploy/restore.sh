#!/bin/sh
# Writes a copy made by backup.sh into the empty database of DATABASE_URL. Stop all processes first.
#   restore.sh FILE
set -eu
umask 077
here=$(cd "$(dirname "$0")" && pwd)
. "$here/database.sh"

if [ $# -ne 1 ] || [ -z "$1" ]; then
  echo "usage: restore.sh FILE      (writes FILE into the empty database $DATABASE_NAME)" >&2
  exit 2
fi
if [ ! -s "$1" ]; then
  echo "restore.sh: $1 does not exist or is empty" >&2
  exit 1
fi

case "$DATABASE_URL" in
  postgres*)
    . "$here/postgres.sh"
    pg_restore --no-owner --exit-on-error --single-transaction --no-comments --dbname="$DATABASE_URL" "$1"
    ;;
  *)
    # A -wal of the lost database would be written into the copy.
    for part in "" -wal -shm; do
      if [ -e "$SQLITE_FILE$part" ]; then
        echo "restore.sh: $SQLITE_FILE$part exists; move it away first" >&2
        exit 1
      fi
    done
    if [ "$(head -c 15 "$1")" != "SQLite format 3" ]; then
      echo "restore.sh: $1 is no copy of an SQLite database" >&2
      exit 1
    fi
    cp "$1" "$SQLITE_FILE"
    ;;
esac
