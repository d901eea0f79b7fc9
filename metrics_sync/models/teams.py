"""Teams, which own all other rows, and the people of their pull requests."""

from django.conf import settings
from django.db import models


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
        help_text="Accounts that GitHub does not call bots and that are: one login a line.",
    )

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


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
