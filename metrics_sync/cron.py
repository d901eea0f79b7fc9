"""What the clock does, for `manage.py rqcron metrics_sync.cron`."""

from rq import cron

from metrics_sync.discovery import discover_lost
from metrics_sync.jobs import BULK, MERGES
from metrics_sync.measuring import remeasure_outdated
from metrics_sync.reconcile import requeue_due, requeue_nameless
from metrics_sync.releasing import release_refused
from metrics_sync.retention import prune

FIVE_MINUTES = 300
#: RQ gives jobs of the clock three minutes, which many repositories and old rows may not fit.
HOUR = 3600

cron.register(requeue_due, MERGES, interval=FIVE_MINUTES, job_timeout=HOUR)
cron.register(remeasure_outdated, BULK, interval=FIVE_MINUTES, job_timeout=HOUR)
cron.register(discover_lost, BULK, cron="47 * * * *", job_timeout=HOUR)
cron.register(requeue_nameless, BULK, cron="37 * * * *", job_timeout=HOUR)
cron.register(prune, BULK, cron="17 3 * * *", job_timeout=HOUR)
cron.register(release_refused, BULK, interval=HOUR, job_timeout=HOUR)
