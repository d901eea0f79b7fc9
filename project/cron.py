"""What the clock does, for `manage.py rqcron project.cron`."""

from rq import cron

from metrics_sync.reconcile import requeue_due

FIVE_MINUTES = 300

cron.register(requeue_due, "pr-data", interval=FIVE_MINUTES)
