#!/bin/sh
# Copies the database of DATABASE_URL to a new file, consistent as of one moment, while the service
# runs. Keep the file apart from TOKEN_ENCRYPTION_KEYS: whoever has both can read every token.
#   backup.sh FILE
set -eu
umask 077
here=$(cd "$(dirname "$0")" && pwd)
. "$here/database.sh"

if [ $# -ne 1 ] || [ -z "$1" ]; then
  echo "usage: backup.sh FILE      (copies $DATABASE_NAME to the new file FILE)" >&2
  exit 2
fi
if [ -e "$1" ]; then
  echo "backup.sh: $1 exists; choose another name or move it away" >&2
  exit 1
fi
# A copy that was cut off never has the name of a whole one.
part=$1.part
trap 'rm -f "$part"' EXIT

case "$DATABASE_URL" in
  postgres*)
    . "$here/postgres.sh"
    pg_dump --format=custom --no-owner --file="$part" "$DATABASE_URL"
    ;;
  *)
    python3 - "$SQLITE_FILE" "$part" <<'END'
import pathlib
import sqlite3
import sys

source, target = sys.argv[1:]
try:
    # Read-only, so that a wrong path is an error and not a new, empty database.
    with sqlite3.connect(f"{pathlib.Path(source).absolute().as_uri()}?mode=ro", uri=True) as database:
        if not database.execute("SELECT 1 FROM sqlite_master").fetchone():
            sys.exit(f"backup.sh: {source} is an empty database; correct DATABASE_URL")
        database.backup(sqlite3.connect(target))
except sqlite3.Error as error:
    sys.exit(f"backup.sh: {source}: {error}; correct DATABASE_URL")
END
    ;;
esac
mv "$part" "$1"
