"""The goals that teams set themselves."""

from django.core.validators import MinValueValidator
from django.db import models

from metrics_sync.models.team import Team


class TeamGoal(models.Model):
    """What the median of a metric should not exceed, in the unit of the metric."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="goals")
    metric = models.CharField(max_length=40)
    value = models.DecimalField(
        "at most", max_digits=12, decimal_places=2, validators=[MinValueValidator(0)]
    )

    class Meta:
        ordering = ["team", "metric"]
        constraints = [models.UniqueConstraint(fields=["team", "metric"], name="unique_team_goal")]

    def __str__(self) -> str:
        return f"{self.metric}: at most {self.value:g}"
