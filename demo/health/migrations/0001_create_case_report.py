import django.db.models.deletion
from django.db import migrations, models

# This app's label comes after "database" in the alphabet, and has to: in a new database Django
# would else apply RapidSMS's own migrations in an order in which one of them fails.


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("rapidsms", "0004_auto_20150801_2138"),
        ("rapidsms_db_router", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="CaseReport",
            fields=[
                (
                    "id",
                    models.AutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("disease", models.CharField(max_length=50)),
                ("cases", models.PositiveIntegerField()),
                ("date", models.DateTimeField(auto_now_add=True)),
                (
                    "message",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        to="rapidsms_db_router.message",
                    ),
                ),
                (
                    "reporter",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, to="rapidsms.contact"
                    ),
                ),
            ],
        ),
    ]
