from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('marketdata', '0005_depth_heat'),
    ]

    operations = [
        migrations.CreateModel(
            name='ArchiveImport',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('actor', models.CharField(max_length=150)),
                ('source', models.CharField(max_length=255)),
                ('venue', models.CharField(max_length=16)),
                ('market', models.CharField(max_length=8)),
                ('symbol', models.CharField(max_length=32)),
                ('interval', models.CharField(max_length=8)),
                ('outcome', models.CharField(choices=[('stored', 'stored'), ('refused', 'refused')], max_length=8)),
                ('rows', models.IntegerField(help_text='read')),
                ('bars', models.IntegerField(help_text='new or replaced')),
                ('report', models.JSONField()),
                ('trace_id', models.CharField(blank=True, max_length=64)),
            ],
            options={
                'ordering': ['-created_at', '-pk'],
                'permissions': [('import_candles', 'Can bring past bars and funding rates into the archive')],
                'indexes': [models.Index(fields=['-created_at', '-id'], name='marketdata_archive_newest')],
            },
        ),
        migrations.CreateModel(
            name='ArchiveSeries',
            fields=[
                ('id', models.AutoField(primary_key=True, serialize=False)),
                ('venue', models.CharField(max_length=16)),
                ('market', models.CharField(choices=[('linear', 'linear'), ('spot', 'spot'), ('inverse', 'inverse'), ('mark', 'mark')], max_length=8)),
                ('symbol', models.CharField(max_length=32)),
                ('interval', models.CharField(choices=[('1', '1'), ('3', '3'), ('5', '5'), ('15', '15'), ('30', '30'), ('60', '60'), ('120', '120'), ('240', '240'), ('360', '360'), ('480', '480'), ('720', '720'), ('D', 'D'), ('funding', 'funding')], max_length=8)),
                ('updated_at', models.DateTimeField(auto_now=True)),
            ],
            options={
                'verbose_name_plural': 'archive series',
                'ordering': ['venue', 'market', 'symbol', 'interval'],
                'constraints': [models.UniqueConstraint(fields=('venue', 'market', 'symbol', 'interval'), name='marketdata_archive_series_once')],
            },
        ),
        migrations.CreateModel(
            name='ArchiveMonth',
            fields=[
                ('pk', models.CompositePrimaryKey('series_id', 'month', blank=True, editable=False, primary_key=True, serialize=False)),
                ('month', models.DateField()),
                ('first_ms', models.BigIntegerField()),
                ('last_ms', models.BigIntegerField()),
                ('count', models.IntegerField()),
                ('missing', models.IntegerField()),
                ('price_decimals', models.SmallIntegerField()),
                ('volume_decimals', models.SmallIntegerField()),
                ('digest', models.BinaryField(max_length=32)),
                ('body', models.BinaryField()),
                ('series', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='months', to='marketdata.archiveseries')),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(('count__gt', 0), ('last_ms__gte', models.F('first_ms'))), name='marketdata_archive_month_has')],
            },
        ),
        # Compressed already.
        migrations.RunSQL(
            'ALTER TABLE marketdata_archivemonth ALTER COLUMN body SET STORAGE EXTERNAL', migrations.RunSQL.noop
        ),
    ]
