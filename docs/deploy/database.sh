# Reads DATABASE_URL, with the default of the service; backup.sh and restore.sh include this.
: "${DATABASE_URL:=sqlite:///$(cd "$(dirname "$0")/../.." && pwd)/var/metrics_sync.sqlite3}"
case "$DATABASE_URL" in
  postgres*)
    DATABASE_NAME=$(printf %s "$DATABASE_URL" | sed 's#^\([a-z]*://[^:@/]*\):[^@/]*@#\1@#')
    ;;
  sqlite:///*)
    SQLITE_FILE=${DATABASE_URL#sqlite:///}
    DATABASE_NAME=$SQLITE_FILE
    ;;
  *)
    echo "$(basename "$0"): DATABASE_URL must begin with postgres:// or sqlite:///" >&2
    exit 2
    ;;
esac
