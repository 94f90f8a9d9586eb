from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('marketdata', '0004_depth_analytics'),
    ]

    operations = [
        migrations.CreateModel(
            name='DepthHeatHour',
            fields=[
                ('pk', models.CompositePrimaryKey('symbol', 'market_type', 'hour', blank=True, editable=False, primary_key=True, serialize=False)),
                ('symbol', models.CharField(max_length=32)),
                ('market_type', models.CharField(choices=[('SPOT', 'spot'), ('FUTURES', 'futures'), ('BYBIT', 'bybit')], max_length=8)),
                ('hour', models.DateTimeField(db_index=True)),
                ('minutes', models.SmallIntegerField()),
                ('body', models.BinaryField()),
            ],
        ),
        migrations.CreateModel(
            name='DepthHeatMinute',
            fields=[
                ('pk', models.CompositePrimaryKey('symbol', 'market_type', 'minute', blank=True, editable=False, primary_key=True, serialize=False)),
                ('symbol', models.CharField(max_length=32)),
                ('market_type', models.CharField(choices=[('SPOT', 'spot'), ('FUTURES', 'futures'), ('BYBIT', 'bybit')], max_length=8)),
                ('minute', models.DateTimeField(db_index=True)),
                ('body', models.BinaryField()),
            ],
        ),
        # Compressed already.
        migrations.RunSQL(
            'ALTER TABLE marketdata_depthheathour ALTER COLUMN body SET STORAGE EXTERNAL', migrations.RunSQL.noop
        ),
    ]
