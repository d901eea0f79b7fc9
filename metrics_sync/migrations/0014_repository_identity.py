"""Pull requests find their repository by a key, repositories are told apart by GitHub's id."""

import logging
import re

import django.core.validators
import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models
from django.db.models.functions import Now, Upper

logger = logging.getLogger(__name__)

PATTERN = r"\A[A-Za-z0-9_-]+/(?!\.{1,2}\Z)[A-Za-z0-9_.-]+\Z"

#: Rows of one UPDATE, so that no lock lasts.
BATCH = 5000


class AddIndexQuietly(migrations.AddIndex):
    """Adds an index while others write, where the database can do so."""

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        if schema_editor.connection.vendor != "postgresql":
            return super().database_forwards(app_label, schema_editor, from_state, to_state)
        model = to_state.apps.get_model(app_label, self.model_name)
        schema_editor.add_index(model, self.index, concurrently=True)

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        if schema_editor.connection.vendor != "postgresql":
            return super().database_backwards(app_label, schema_editor, from_state, to_state)
        model = from_state.apps.get_model(app_label, self.model_name)
        schema_editor.remove_index(model, self.index, concurrently=True)


class AddUniqueQuietly(migrations.AddConstraint):
    """Adds a unique index with a condition in the same way."""

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        if schema_editor.connection.vendor != "postgresql":
            return super().database_forwards(app_label, schema_editor, from_state, to_state)
        model = to_state.apps.get_model(app_label, self.model_name)
        statement = str(self.constraint.create_sql(model, schema_editor))
        schema_editor.execute(statement.replace("UNIQUE INDEX", "UNIQUE INDEX CONCURRENTLY", 1))


class AddCheckQuietly(migrations.AddConstraint):
    """Adds a check for what is written from now on, then looks at the rows without locking them."""

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        if schema_editor.connection.vendor != "postgresql":
            return super().database_forwards(app_label, schema_editor, from_state, to_state)
        model = to_state.apps.get_model(app_label, self.model_name)
        schema_editor.execute(f"{self.constraint.create_sql(model, schema_editor)} NOT VALID")
        table = schema_editor.quote_name(model._meta.db_table)
        name = schema_editor.quote_name(self.constraint.name)
        schema_editor.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")


def mend_repositories(apps, schema_editor):
    """Prepare the constraints, and believe the ids, which came from GitHub.

    Every repository is asked for anew within minutes: names may have come from deliveries.
    """
    Repository = apps.get_model("metrics_sync", "TrackedRepository")
    for row in Repository.objects.only("pk", "full_name").iterator():
        if not re.match(PATTERN, row.full_name):
            logger.warning("Removed %r, which is the name of no repository", row.full_name)
            Repository.objects.filter(pk=row.pk).delete()
    known = set()
    # A renamed repository that was connected again has two rows, of which one is active.
    rows = Repository.objects.exclude(github_repo_id=None).order_by("-is_active", "-pk")
    for pk, integration, github_repo_id in rows.values_list("pk", "integration", "github_repo_id"):
        if (integration, github_repo_id) in known:
            Repository.objects.filter(pk=pk).update(github_repo_id=None, is_active=False)
        known.add((integration, github_repo_id))
    rows.update(verified_at=django.utils.timezone.now())


def link_pull_requests(apps, schema_editor):
    """Fill the key by team and name, some thousand rows at a time; drop what is no repository's."""
    PullRequest = apps.get_model("metrics_sync", "PullRequest")
    Repository = apps.get_model("metrics_sync", "TrackedRepository")
    of_name = Repository.objects.filter(
        team=models.OuterRef("team"), full_name__iexact=models.OuterRef("github_repo")
    ).order_by("-is_active", "-pk")
    last = PullRequest.objects.aggregate(last=models.Max("pk"))["last"] or 0
    for first in range(1, last + 1, BATCH):
        rows = PullRequest.objects.filter(pk__gte=first, pk__lt=first + BATCH)
        nobodys = rows.exclude(github_repo__regex=PATTERN)
        for name in nobodys.values_list("github_repo", flat=True):
            logger.warning("Removed a pull request of %r, which is no repository's name", name)
        nobodys.delete()
        rows.filter(repository=None).update(repository=models.Subquery(of_name.values("pk")[:1]))


class Migration(migrations.Migration):
    # Indexes are made while others write, which no transaction can hold.
    atomic = False

    dependencies = [
        ("metrics_sync", "0012_disagreeing"),
        ("metrics_sync", "0013_forget_far_limits"),
    ]

    operations = [
        migrations.AddField(
            "TrackedRepository",
            "verified_at",
            models.DateTimeField(
                blank=True,
                editable=False,
                help_text="When GitHub last showed it to the team's own token.",
                null=True,
            ),
        ),
        migrations.AddField(
            "TrackedRepository",
            "doubted_at",
            models.DateTimeField(
                blank=True,
                editable=False,
                help_text="Since when something speaks against its name or its being there.",
                null=True,
            ),
        ),
        migrations.AddField(
            "TrackedRepository",
            "verify_at",
            models.DateTimeField(
                db_default=Now(),
                default=django.utils.timezone.now,
                editable=False,
                help_text="When GitHub is to be asked about it.",
                null=True,
            ),
        ),
        migrations.AddField(
            "WebhookDelivery",
            "body_hash",
            models.CharField(
                blank=True,
                db_default="",
                default="",
                editable=False,
                help_text="SHA-256 of the payload.",
                max_length=64,
            ),
        ),
        migrations.AddField(
            "PullRequest",
            "repository",
            models.ForeignKey(
                blank=True,
                db_index=False,
                help_text="By GitHub's id; empty where the team tracks none.",
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="pull_requests",
                to="metrics_sync.trackedrepository",
                verbose_name="tracked repository",
            ),
        ),
        migrations.RunPython(mend_repositories, migrations.RunPython.noop, elidable=True),
        migrations.RunPython(link_pull_requests, migrations.RunPython.noop, elidable=True),
        migrations.AlterField(
            "TrackedRepository",
            "full_name",
            models.CharField(
                max_length=255,
                validators=[
                    django.core.validators.RegexValidator(
                        PATTERN, "Write the repository as OWNER/NAME."
                    )
                ],
            ),
        ),
        migrations.AlterField(
            "WebhookDelivery",
            "payload",
            models.TextField(
                blank=True,
                help_text="The JSON as it came, cut where it is very long; empty where ignored.",
            ),
        ),
        migrations.RemoveConstraint("TrackedRepository", "unique_tracked_repository"),
        migrations.AddConstraint(
            "TrackedRepository",
            models.UniqueConstraint(
                condition=models.Q(github_repo_id=None),
                fields=("team", "full_name"),
                name="unique_tracked_repository",
            ),
        ),
        migrations.AddConstraint(
            "TrackedRepository",
            models.UniqueConstraint(
                condition=models.Q(github_repo_id__isnull=False),
                fields=("integration", "github_repo_id"),
                name="unique_tracked_repository_id",
            ),
        ),
        migrations.AddConstraint(
            "TrackedRepository",
            models.CheckConstraint(
                condition=models.Q(full_name__regex=PATTERN), name="tracked_repository_name"
            ),
        ),
        migrations.AddIndex(
            "TrackedRepository",
            models.Index(fields=["github_repo_id"], name="tracked_repository_github_id"),
        ),
        migrations.AddIndex(
            "TrackedRepository",
            models.Index(Upper("full_name"), name="tracked_repository_upper_name"),
        ),
        migrations.AddIndex(
            "TrackedRepository",
            models.Index(
                condition=models.Q(verify_at__isnull=False),
                fields=["verify_at"],
                name="tracked_repository_to_verify",
            ),
        ),
        AddIndexQuietly(
            "PullRequest",
            models.Index(fields=["repository", "github_pr_number"], name="pull_request_repository"),
        ),
        AddCheckQuietly(
            "PullRequest",
            models.CheckConstraint(
                condition=models.Q(github_repo__regex=PATTERN), name="pull_request_name"
            ),
        ),
        AddUniqueQuietly(
            "WebhookDelivery",
            models.UniqueConstraint(
                condition=~models.Q(body_hash=""),
                fields=("endpoint", "event", "body_hash"),
                name="unique_delivery_body",
            ),
        ),
    ]
