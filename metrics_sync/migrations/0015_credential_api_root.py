import metrics_sync.models.integration
from django.db import migrations, models
from django.utils import timezone

#: Both tables have a row or two for each team. `id` alone is unique already.
HOLD = """
ALTER TABLE metrics_sync_integrationcredential ADD CONSTRAINT credential_of_one_api_root
    UNIQUE (id, api_url);
ALTER TABLE metrics_sync_githubintegration ADD CONSTRAINT token_stays_at_its_api_root
    FOREIGN KEY (credential_id, api_url)
    REFERENCES metrics_sync_integrationcredential (id, api_url);
"""
RELEASE = """
ALTER TABLE metrics_sync_githubintegration DROP CONSTRAINT token_stays_at_its_api_root;
ALTER TABLE metrics_sync_integrationcredential DROP CONSTRAINT credential_of_one_api_root;
"""


def note_api_roots(apps, schema_editor):
    """Note with each credential the API root of its integrations, up to now the place of it.

    A token that was moved to a second one stays with the first; the second has to be connected
    again. The GitHub App belongs to the default one.
    """
    if schema_editor.connection.vendor == "postgresql":
        # It alters no table that has checks left for the end of the transaction.
        schema_editor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    credentials = apps.get_model("metrics_sync", "IntegrationCredential").objects
    integrations = apps.get_model("metrics_sync", "GitHubIntegration").objects.order_by("pk")
    roots = {}
    names = ("pk", "team_id", "credential_id", "credential__kind", "api_url")
    for pk, team_id, credential_id, kind, api_url in integrations.values_list(*names):
        root = roots.setdefault(credential_id, "" if kind == "app" else api_url)
        credentials.filter(pk=credential_id).update(api_url=root)
        if root != api_url:
            empty = credentials.create(
                team_id=team_id,
                access_token="",  # nosec B106  (none)
                api_url=api_url,
                revoked_at=timezone.now(),
            )
            integrations.filter(pk=pk).update(credential_id=empty.pk)


def hold(apps, schema_editor):
    """Have PostgreSQL refuse an integration whose credential is for another API root."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(HOLD)


def release(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(RELEASE)


class Migration(migrations.Migration):

    dependencies = [
        ('metrics_sync', '0014_repository_identity'),
    ]

    operations = [
        migrations.AddField(
            model_name='integrationcredential',
            name='api_url',
            field=models.URLField(blank=True, db_default='', default='', help_text='The API root that the token is for, and that it is sent to. Fixed once made. Only for GitHub Enterprise: https://HOST/api/v3. Empty: GITHUB_API_URL.', validators=[metrics_sync.models.integration.validate_api_root]),
        ),
        migrations.RunPython(note_api_roots, migrations.RunPython.noop),
        migrations.AddConstraint(
            model_name='integrationcredential',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('kind', 'app'), _negated=True), ('api_url', ''), _connector='OR'), name='app_belongs_to_default_api_root'),
        ),
        migrations.RunPython(hold, release),
    ]
