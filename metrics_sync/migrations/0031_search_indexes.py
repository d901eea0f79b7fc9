from django.db import migrations, models

from metrics_sync.migrations._operations import AddIndexOfPostgreSQL, AddIndexWithoutLock


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("metrics_sync", "0030_help_texts"),
    ]

    operations = [
        AddIndexWithoutLock(
            model_name="pullrequest",
            index=models.Index(fields=["github_pr_number"], name="pull_request_any_number"),
        ),
        # SQLite makes no index with NULLS LAST, and has no trigrams.
        AddIndexOfPostgreSQL(
            "pullrequest",
            name="pull_request_newest",
            definition="(merged_at DESC NULLS LAST, id DESC)",
        ),
        AddIndexOfPostgreSQL(
            "pullrequest",
            name="pull_request_search",
            definition=(
                "USING gin (upper(title::text) {schema}.gin_trgm_ops,"
                " upper(github_repo::text) {schema}.gin_trgm_ops,"
                " upper(author_login::text) {schema}.gin_trgm_ops,"
                " upper(head_ref::text) {schema}.gin_trgm_ops)"
            ),
            extension="pg_trgm",
        ),
    ]
