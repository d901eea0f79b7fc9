"""The phases between a merge's POST and the end of its job, with no latency at GitHub."""

from statistics import median

from django.utils import timezone

from metrics_sync.models import PullRequest
from metrics_sync.sandbox import Recording, deliver
from tests.benchmarks.figures import Figure
from tests.benchmarks.stage import Stage, tell, wait_for
from tests.benchmarks.worker import read_notes

ROUNDS = 25
#: The phases between two marks, in order.
PHASES = (
    ("webhook: verify, record, write the row, claim", "told", "queued"),
    ("RQ hands the job to the worker", "queued", "taken"),
    ("the worker hands the job to its process", "taken", "begun"),
    ("RQ's start, rows", "begun", "run begins"),
    ("claim the run, event loop", "run begins", "fetch begins"),
    ("GitHub: 9 requests in 2 round trips, parsing", "fetch begins", "fetch ends"),
    ("note the budget", "fetch ends", "save begins"),
    ("write rows, count, measure, commit", "save begins", "save ends"),
    ("RQ's end", "save ends", "done"),
)


def measure(stage: Stage) -> list[Figure]:
    notes = stage.folder / "phases"
    with stage.run_web() as (web_url, _), stage.run_worker(notes=notes):
        told = [_merge(stage, web_url, recording) for recording in stage.take(ROUNDS + 3)]
    taken = [{"taken": moment} for moment in read_notes(notes, "taken")]
    marks = zip(told, taken, read_notes(notes, "marks"), strict=True)
    jobs = [told_at | taken_at | mark for told_at, taken_at, mark in marks][3:]
    figures = [
        Figure(phase, median(job[end] - job[begin] for job in jobs) * 1000, "ms")
        for phase, begin, end in PHASES
    ]
    total = median(job["save ends"] - job["told"] for job in jobs) * 1000
    imported = max(len(names) for names in read_notes(notes, "imported"))
    cpu = read_notes(notes, "cpu_seconds")
    return [
        *figures,
        Figure("POST to commit", total, "ms"),
        Figure("modules imported by a job", imported, ""),
        Figure("CPU of a job, first of its process", cpu[0] * 1000, "ms"),
        Figure("CPU of a job, after others", median(cpu[3:]) * 1000, "ms"),
    ]


def _merge(stage: Stage, web_url: str, recording: Recording) -> dict[str, float]:
    """Run one merge from its POST to the end of its job."""
    told_at = timezone.now()
    deliver(web_url + stage.integration.get_webhook_path(), **tell(stage, recording))
    rows = PullRequest.objects.filter(github_pr_id=recording.pull["id"])
    wait_for(rows.filter(sync_status="complete").exists, f"{recording.number} to be complete")
    queued_at = rows.values_list("queued_at", flat=True).get()
    assert queued_at is not None
    stage.wait_until_idle()
    return {"told": told_at.timestamp(), "queued": queued_at.timestamp()}
