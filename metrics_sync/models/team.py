"""Teams, which own all other rows, and the people of their pull requests."""

from typing import Any

from django.conf import settings
from django.db import models, transaction

#: Stands for the version of the formulas until the clock has measured a pull request again.
TO_BE_MEASURED = 0


class Team(models.Model):
    """A group whose rows only its `members`, who are users, may see."""

    name = models.CharField(max_length=200)
    slug = models.SlugField(unique=True)
    members = models.ManyToManyField(
        settings.AUTH_USER_MODEL, blank=True, related_name="metrics_sync_teams"
    )

    bot_logins = models.TextField(
        "bots",
        blank=True,
        help_text="Logins of accounts that are bots although GitHub does not say so, separated by "
        "commas or blanks.",
    )

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def save(self, **options: Any) -> None:
        """Save; other bots make the clock measure all of the team's pull requests again."""
        with transaction.atomic():
            stored = Team.objects.filter(pk=self.pk).first()
            super().save(**options)
            if stored is not None and stored.list_bots() != self.list_bots():
                self.pull_requests.exclude(metrics_version=None).update(
                    metrics_version=TO_BE_MEASURED
                )

    def list_bots(self) -> frozenset[str]:
        """Return the logins that the team calls bots, in lower case."""
        words = self.bot_logins.lower().replace(",", " ").split()
        return frozenset(word.strip("@") for word in words) - {""}

    def list_unknown_bots(self) -> list[str]:
        """Return those of these logins that no account of the team's pull requests has."""
        known = {login.lower() for login in self.people.values_list("login", flat=True)}
        return sorted(self.list_bots() - known)


class TeamMember(models.Model):
    """A GitHub account seen in a team's pull requests.

    Accounts are matched by `github_id`: logins change, and others may take them.
    """

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="people")
    github_id = models.BigIntegerField()
    login = models.TextField()
    name = models.CharField(max_length=255, blank=True)
    is_bot = models.BooleanField(default=False)

    class Meta:
        ordering = ["login"]
        constraints = [
            models.UniqueConstraint(fields=["team", "github_id"], name="unique_team_member")
        ]

    def __str__(self) -> str:
        return self.login
