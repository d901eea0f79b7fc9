#!/bin/sh
# Copies the database of DATABASE_URL to a file, whole as it was at one moment, while the service
# runs. Keep the file apart from TOKEN_ENCRYPTION_KEYS: who has both has every token.
#   backup.sh FILE
set -eu
umask 077
case "$DATABASE_URL" in
  postgres*)
    . "$(dirname "$0")/postgres.sh"
    pg_dump --format=custom --no-owner --file="$1" "$DATABASE_URL"
    ;;
  sqlite:///*)
    python3 - "${DATABASE_URL#sqlite:///}" "$1" <<'END'
import sqlite3
import sys

source, target = map(sqlite3.connect, sys.argv[1:])
source.backup(target)
END
    ;;
  *)
    echo "backup.sh: DATABASE_URL is neither postgres:// nor sqlite:///" >&2
    exit 2
    ;;
esac
