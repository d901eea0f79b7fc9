"""A tracked repository: a team wants its merged pull requests."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Self

from django.core.validators import RegexValidator
from django.db import models, transaction
from django.db.models.functions import Now, Upper
from django.utils import timezone

from metrics_sync.models.integration import GitHubIntegration
from metrics_sync.models.team import Team
from metrics_sync.names import PATTERN

validate_full_name = RegexValidator(PATTERN, "Write the repository as OWNER/NAME.")

#: After a hint about a repository, GitHub's API may give the old answer for so long: only a later
#: answer is believed.
REPLICATION_LAG = timedelta(minutes=5)
#: How long one process may take to ask about a repository before another does.
VERIFICATION_CLAIM = timedelta(minutes=5)


class TrackedRepositoryQuerySet(models.QuerySet["TrackedRepository"]):
    def active(self) -> Self:
        return self.filter(is_active=True)

    def named(self, full_name: str) -> Self:
        """Keep those of that name; GitHub's names ignore case."""
        return self.filter(full_name__iexact=full_name)

    def first_named(self, full_name: str) -> "TrackedRepository | None":
        """Return the repository of that name; of several, the one that is tracked."""
        return self.named(full_name).order_by("-is_active", "-pk").first()

    def matching(self, pull_request: models.Model) -> Self:
        """Keep the repository of a pull request, if it is active."""
        return self.active().filter(pull_requests=pull_request.pk)

    def with_credentials(self) -> Self:
        """Load team, integration and credential with the rows, and each secret when it is used.

        So a secret that cannot be decrypted fails where it is used, and for its own rows only.
        """
        rows = self.select_related("team", "integration__team", "integration__credential__team")
        return rows.defer("integration__webhook_secret", "integration__credential__access_token")

    def note_shown(self, github_repo_ids: Iterable[int]) -> None:
        """Note that GitHub has just listed these for their own token. One UPDATE."""
        rows = self.filter(github_repo_id__in=list(github_repo_ids))
        rows.update(verified_at=timezone.now(), verify_at=None, doubted_at=None)

    def to_verify(self, moment: datetime) -> Self:
        """Keep those that are to be verified by `moment`, the longest waiting first."""
        return self.filter(verify_at__lte=moment).order_by("verify_at", "pk")


class TrackedRepository(models.Model):
    """A repository whose merged pull requests a team wants to have."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="repositories")
    integration = models.ForeignKey(
        GitHubIntegration, on_delete=models.CASCADE, related_name="repositories"
    )
    github_repo_id = models.BigIntegerField(null=True, blank=True)
    full_name = models.CharField(max_length=255, validators=[validate_full_name])
    is_active = models.BooleanField(default=True)
    discovered_until = models.DateTimeField(
        null=True, blank=True, help_text="GitHub was searched for merges up to this time."
    )
    connected_at = models.DateTimeField(
        auto_now_add=True,
        null=True,
        help_text="When it was connected; no webhook reported earlier merges.",
    )

    verified_at = models.DateTimeField(
        null=True,
        blank=True,
        editable=False,
        help_text="When GitHub last showed it to the team's own token.",
    )
    doubted_at = models.DateTimeField(
        null=True,
        blank=True,
        editable=False,
        help_text="Since when its name or its existence is in doubt.",
    )
    verify_at = models.DateTimeField(
        null=True,
        editable=False,
        default=timezone.now,
        db_default=Now(),
        help_text="When to ask GitHub about it.",
    )

    objects = TrackedRepositoryQuerySet.as_manager()

    class Meta:
        ordering = ["full_name"]
        verbose_name_plural = "tracked repositories"
        constraints = [
            # GitHub's id is the identity and the name a label: two repositories that exchange
            # names have the same one until GitHub has been asked.
            models.UniqueConstraint(
                fields=["integration", "github_repo_id"],
                condition=models.Q(github_repo_id__isnull=False),
                name="unique_tracked_repository_id",
            ),
            models.UniqueConstraint(
                fields=["team", "full_name"],
                condition=models.Q(github_repo_id=None),
                name="unique_tracked_repository",
            ),
            models.CheckConstraint(
                condition=models.Q(full_name__regex=PATTERN), name="tracked_repository_name"
            ),
        ]
        indexes = [
            models.Index(fields=["github_repo_id"], name="tracked_repository_github_id"),
            models.Index(Upper("full_name"), name="tracked_repository_upper_name"),
            models.Index(
                fields=["verify_at"],
                condition=models.Q(verify_at__isnull=False),
                name="tracked_repository_to_verify",
            ),
        ]

    def __str__(self) -> str:
        return self.full_name

    def save(self, *args: Any, **options: Any) -> None:
        """Save; a new row adopts the pull requests of its name that have no repository."""
        is_new = self._state.adding
        super().save(*args, **options)
        if is_new:
            self.adopt_pull_requests()

    def adopt_pull_requests(self) -> None:
        """Take over the pull requests of its name that have no repository; safe to repeat."""
        rows = self.team.pull_requests.filter(repository=None, github_repo__iexact=self.full_name)
        rows.update(repository=self)

    @transaction.atomic
    def rename(self, full_name: str) -> None:
        """Give the repository and its pull requests a new name.

        Only for names that GitHub gave to the team's own token. Safe to repeat. If the team
        already tracks the same repository under the new name, that row stays and this one is
        deactivated; of a pull request under both names, the row with the new name stays. Another
        repository that had this name has lost it; GitHub is asked for its new one.
        """
        if full_name == self.full_name:
            return
        others = self.team.repositories.named(full_name).exclude(pk=self.pk)
        others = others.filter(integration__api_url=self.integration.api_url)
        mine = models.Q(github_repo_id=None) | models.Q(github_repo_id=self.github_repo_id)
        if twin := others.filter(mine).first():
            self.merge_into(twin)
            return
        for other in others.active():
            other.doubt()
        self._move_pull_requests(full_name, to=self)
        self.full_name = full_name
        self.save(update_fields=["full_name"])

    @transaction.atomic
    def merge_into(self, twin: "TrackedRepository") -> None:
        """Move its pull requests and its id to another row of the same repository."""
        self._move_pull_requests(twin.full_name, to=twin)
        twin.github_repo_id, self.github_repo_id = self.github_repo_id, None
        self.is_active, self.doubted_at, self.verify_at = False, None, None
        self.save(update_fields=["github_repo_id", "is_active", "doubted_at", "verify_at"])
        twin.save(update_fields=["github_repo_id"])

    def _move_pull_requests(self, full_name: str, *, to: "TrackedRepository") -> None:
        rows = self.pull_requests.exclude(github_repo=full_name)
        known = self.team.pull_requests.filter(github_repo=full_name)
        doomed = rows.filter(github_pr_id__in=list(known.values_list("github_pr_id", flat=True)))
        # As fetches do, lock pull requests before what belongs to them.
        list(doomed.select_for_update().order_by("pk").values_list("pk"))
        doomed.delete()
        # These belong to a deleted repository that had the new name before.
        numbers = list(rows.values_list("github_pr_number", flat=True))
        known.filter(github_pr_number__in=numbers).update(github_pr_number=None, etags={})
        # URLs with the old name may lead to another repository one day.
        rows.update(github_repo=full_name, etags={})
        self.pull_requests.update(repository=to)

    def doubt(self) -> bool:
        """Schedule a verification with GitHub; False if one is scheduled already.

        One conditional UPDATE.
        """
        now = timezone.now()
        rows = type(self).objects.filter(pk=self.pk, doubted_at=None)
        is_new = bool(rows.update(doubted_at=now, verify_at=now))
        if is_new:
            self.doubted_at = self.verify_at = now
        return is_new

    def claim_verification(self) -> bool:
        """Reserve the verification; of two processes one wins. One conditional UPDATE."""
        now = timezone.now()
        mine = type(self).objects.filter(pk=self.pk, verify_at__lte=now)
        return bool(mine.update(verify_at=now + VERIFICATION_CLAIM))

    def postpone_verification(self, moment: datetime) -> None:
        """Schedule the next verification. One UPDATE."""
        type(self).objects.filter(pk=self.pk).update(verify_at=moment)
        self.verify_at = moment

    @property
    def is_settled(self) -> bool:
        """Whether GitHub's answer can be believed: the doubt is older than its replicas' lag."""
        since = self.doubted_at or self.connected_at
        return since is None or timezone.now() - since >= REPLICATION_LAG

    def deactivate(self) -> None:
        """Stop tracking it; its pull requests stay."""
        self.is_active = False
        self.save(update_fields=["is_active"])
