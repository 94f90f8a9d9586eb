from __future__ import annotations

from typing import Any

import django.core.validators
import django.db.models.deletion
import marketdata.depth.models
from django.db import migrations, models

ROWS = """
CREATE TABLE marketdata_depthrow (
    series_id integer NOT NULL,
    bid_covered boolean NOT NULL,
    ask_covered boolean NOT NULL,
    minute timestamptz NOT NULL,
    bid_volume numeric NOT NULL,
    ask_volume numeric NOT NULL,
    bid_volume_usd numeric NOT NULL,
    ask_volume_usd numeric NOT NULL,
    PRIMARY KEY (series_id, minute)
)
"""
# Rows come in the order of time: whole hours are found by ranges of pages, in an index of some kilobytes.
BY_TIME = "CREATE INDEX marketdata_depthrow_minute ON marketdata_depthrow USING brin (minute) WITH (pages_per_range = 32)"
# TimescaleDB does by itself what the tasks do with partitions.
TIMESCALE = (
    "SELECT create_hypertable('marketdata_depthrow', 'minute', chunk_time_interval => INTERVAL '1 day')",
    "ALTER TABLE marketdata_depthrow SET (timescaledb.compress, timescaledb.compress_segmentby = 'series_id')",
    "SELECT add_compression_policy('marketdata_depthrow', INTERVAL '14 days')",
    "SELECT add_retention_policy('marketdata_depthrow', INTERVAL '61 days')",
)


def make_rows(apps: Any, schema_editor: Any) -> None:
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')")
        (timescale,) = cursor.fetchone()
        cursor.execute(ROWS if timescale else f"{ROWS} PARTITION BY RANGE (minute)")
        cursor.execute(BY_TIME)
        for statement in TIMESCALE if timescale else ():
            cursor.execute(statement)


def drop_rows(apps: Any, schema_editor: Any) -> None:
    schema_editor.execute("DROP TABLE marketdata_depthrow")


class Migration(migrations.Migration):

    dependencies = [
        ('marketdata', '0003_detections'),
    ]

    operations = [
        migrations.CreateModel(
            name='DepthStaleHour',
            fields=[
                ('hour', models.DateTimeField(primary_key=True, serialize=False)),
                ('marks', models.BigIntegerField(default=1)),
            ],
        ),
        migrations.CreateModel(
            name='DepthSymbol',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('symbol', models.CharField(max_length=20, unique=True, validators=[django.core.validators.RegexValidator('^[A-Z0-9]{5,20}\\Z')])),
                ('source', models.CharField(choices=[('rest', 'REST, once a minute'), ('stream', 'websocket, every change')], default='rest', max_length=8)),
                ('added_at', models.DateTimeField(auto_now_add=True)),
            ],
            options={
                'ordering': ['symbol'],
            },
        ),
        migrations.CreateModel(
            name='DepthCollector',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('is_running', models.BooleanField(default=True)),
                ('holder', models.CharField(blank=True, max_length=64)),
                ('holder_until', models.DateTimeField(null=True)),
                ('changed_at', models.DateTimeField(null=True)),
            ],
            options={
                'permissions': [('operate_depth_collector', 'Can start and stop the depth collector and choose its symbols')],
                'constraints': [models.CheckConstraint(condition=models.Q(('pk', 1)), name='marketdata_depth_collector_one')],
            },
        ),
        migrations.CreateModel(
            name='DepthSeries',
            fields=[
                ('id', models.AutoField(primary_key=True, serialize=False)),
                ('symbol', models.CharField(max_length=32)),
                ('market_type', models.CharField(choices=[('SPOT', 'spot'), ('FUTURES', 'futures'), ('BYBIT', 'bybit')], max_length=8)),
                ('depth', models.SmallIntegerField(choices=[(15, '1.5 %'), (30, '3 %'), (50, '5 %'), (80, '8 %'), (150, '15 %'), (300, '30 %')], help_text='per mille')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('symbol', 'market_type', 'depth'), name='marketdata_depth_series_once')],
            },
        ),
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunPython(make_rows, drop_rows)],
            state_operations=[
                migrations.CreateModel(
                    name='DepthRow',
                    fields=[
                        ('pk', models.CompositePrimaryKey('series_id', 'minute', blank=True, editable=False, primary_key=True, serialize=False)),
                        ('minute', models.DateTimeField()),
                        ('bid_volume', marketdata.depth.models.NumericField()),
                        ('ask_volume', marketdata.depth.models.NumericField()),
                        ('bid_volume_usd', marketdata.depth.models.NumericField()),
                        ('ask_volume_usd', marketdata.depth.models.NumericField()),
                        ('bid_covered', models.BooleanField()),
                        ('ask_covered', models.BooleanField()),
                        ('series', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, to='marketdata.depthseries')),
                    ],
                ),
            ],
        ),
        migrations.CreateModel(
            name='DepthPack',
            fields=[
                ('pk', models.CompositePrimaryKey('series_id', 'day', blank=True, editable=False, primary_key=True, serialize=False)),
                ('day', models.DateField(db_index=True)),
                ('rows', models.SmallIntegerField()),
                ('body', models.BinaryField()),
                ('series', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, to='marketdata.depthseries')),
            ],
        ),
        # Compressed already.
        migrations.RunSQL(
            'ALTER TABLE marketdata_depthpack ALTER COLUMN body SET STORAGE EXTERNAL', migrations.RunSQL.noop
        ),
        migrations.CreateModel(
            name='DepthHour',
            fields=[
                ('pk', models.CompositePrimaryKey('series_id', 'start', blank=True, editable=False, primary_key=True, serialize=False)),
                ('start', models.DateTimeField(db_index=True)),
                ('count', models.IntegerField()),
                ('bid_volume_sum', marketdata.depth.models.NumericField()),
                ('bid_volume_min', marketdata.depth.models.NumericField()),
                ('bid_volume_max', marketdata.depth.models.NumericField()),
                ('ask_volume_sum', marketdata.depth.models.NumericField()),
                ('ask_volume_min', marketdata.depth.models.NumericField()),
                ('ask_volume_max', marketdata.depth.models.NumericField()),
                ('bid_volume_usd_sum', marketdata.depth.models.NumericField()),
                ('bid_volume_usd_min', marketdata.depth.models.NumericField()),
                ('bid_volume_usd_max', marketdata.depth.models.NumericField()),
                ('ask_volume_usd_sum', marketdata.depth.models.NumericField()),
                ('ask_volume_usd_min', marketdata.depth.models.NumericField()),
                ('ask_volume_usd_max', marketdata.depth.models.NumericField()),
                ('series', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, to='marketdata.depthseries')),
            ],
            options={
                'abstract': False,
            },
        ),
        migrations.CreateModel(
            name='DepthDay',
            fields=[
                ('pk', models.CompositePrimaryKey('series_id', 'start', blank=True, editable=False, primary_key=True, serialize=False)),
                ('start', models.DateTimeField(db_index=True)),
                ('count', models.IntegerField()),
                ('bid_volume_sum', marketdata.depth.models.NumericField()),
                ('bid_volume_min', marketdata.depth.models.NumericField()),
                ('bid_volume_max', marketdata.depth.models.NumericField()),
                ('ask_volume_sum', marketdata.depth.models.NumericField()),
                ('ask_volume_min', marketdata.depth.models.NumericField()),
                ('ask_volume_max', marketdata.depth.models.NumericField()),
                ('bid_volume_usd_sum', marketdata.depth.models.NumericField()),
                ('bid_volume_usd_min', marketdata.depth.models.NumericField()),
                ('bid_volume_usd_max', marketdata.depth.models.NumericField()),
                ('ask_volume_usd_sum', marketdata.depth.models.NumericField()),
                ('ask_volume_usd_min', marketdata.depth.models.NumericField()),
                ('ask_volume_usd_max', marketdata.depth.models.NumericField()),
                ('series', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, to='marketdata.depthseries')),
            ],
            options={
                'abstract': False,
            },
        ),
    ]
