import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('metrics_sync', '0002_pull_request_number'),
    ]

    operations = [
        migrations.AddField(
            model_name='integrationcredential',
            name='token_stored_at',
            field=models.DateTimeField(editable=False, help_text='What was said of an earlier token counts no more.', null=True),
        ),
        migrations.CreateModel(
            name='RequestLease',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('requests', models.PositiveIntegerField()),
                ('expires_at', models.DateTimeField()),
                ('credential', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='leases', to='metrics_sync.integrationcredential')),
            ],
        ),
    ]
