# Takes the password out of DATABASE_URL and into PGPASSWORD: other users of the machine see the
# arguments of a process, but not its environment. backup.sh and restore.sh read this.
PGPASSWORD=$(python3 -c '
import os
from urllib.parse import unquote, urlsplit
print(unquote(urlsplit(os.environ["DATABASE_URL"]).password or ""))')
export PGPASSWORD
DATABASE_URL=$DATABASE_NAME
