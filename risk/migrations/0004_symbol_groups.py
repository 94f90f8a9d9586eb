from django.db import migrations

GROUPS = {
    "majors": ["BTCUSDT", "ETHUSDT"],
    "layer1": ["SOLUSDT", "ADAUSDT", "AVAXUSDT", "DOTUSDT", "NEARUSDT", "ATOMUSDT", "APTUSDT", "SUIUSDT", "TONUSDT", "TRXUSDT", "BNBUSDT", "ALGOUSDT"],
    "defi": ["UNIUSDT", "AAVEUSDT", "LINKUSDT", "MKRUSDT", "CRVUSDT", "COMPUSDT", "SNXUSDT", "LDOUSDT", "SUSHIUSDT", "DYDXUSDT", "1INCHUSDT", "PENDLEUSDT"],
}


def make(apps, schema_editor):
    group = apps.get_model("risk", "SymbolGroup")
    for name, symbols in GROUPS.items():
        group.objects.get_or_create(name=name, defaults={"symbols": symbols})


class Migration(migrations.Migration):

    dependencies = [("risk", "0003_limits_groups_policies")]

    operations = [migrations.RunPython(make, migrations.RunPython.noop)]
