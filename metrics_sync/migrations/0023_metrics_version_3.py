
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('metrics_sync', '0022_notice'),
    ]

    operations = [
        migrations.AddField(
            model_name='commit',
            name='parents',
            field=models.JSONField(blank=True, help_text='The shas of its parents; empty: unknown.', null=True),
        ),
        migrations.AddField(
            model_name='pullrequest',
            name='changed_lines',
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='pullrequest',
            name='coding_hours',
            field=models.DecimalField(blank=True, decimal_places=2, max_digits=12, null=True),
        ),
        migrations.AddField(
            model_name='pullrequest',
            name='draft_hours',
            field=models.DecimalField(blank=True, decimal_places=2, max_digits=12, null=True),
        ),
        migrations.AddField(
            model_name='pullrequest',
            name='early_feedback_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='pullrequest',
            name='first_approval_hours',
            field=models.DecimalField(blank=True, decimal_places=2, max_digits=12, null=True),
        ),
        migrations.AddField(
            model_name='pullrequest',
            name='human_comments',
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='pullrequest',
            name='is_by_bot',
            field=models.BooleanField(db_default=False, default=False, help_text='Its author is one, by any rule.', verbose_name='by a bot'),
        ),
        migrations.AddField(
            model_name='pullrequest',
            name='last_commit_to_merge_hours',
            field=models.DecimalField(blank=True, decimal_places=2, max_digits=12, null=True),
        ),
        migrations.AddField(
            model_name='pullrequest',
            name='merged_by_author',
            field=models.BooleanField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='pullrequest',
            name='merged_by_github_id',
            field=models.BigIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='pullrequest',
            name='merged_by_login',
            field=models.TextField(blank=True, db_default='', default='', help_text='Empty: unknown.', verbose_name='merged by'),
        ),
        migrations.AddField(
            model_name='pullrequest',
            name='merged_without_approval',
            field=models.BooleanField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='pullrequest',
            name='merged_without_review',
            field=models.BooleanField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='pullrequest',
            name='reviewer_count',
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='pullrequest',
            name='reviewers',
            field=models.JSONField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='pullrequest',
            name='size_band',
            field=models.CharField(blank=True, choices=[('XS', 'Xs'), ('S', 'S'), ('M', 'M'), ('L', 'L'), ('XL', 'Xl'), ('XXL', 'Xxl')], db_default='', default='', max_length=10),
        ),
        migrations.AlterField(
            model_name='team',
            name='bot_logins',
            field=models.TextField(blank=True, help_text='Logins of accounts that are bots although GitHub does not say so, separated by commas or blanks.', verbose_name='bots'),
        ),
    ]
