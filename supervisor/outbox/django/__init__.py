"""The outbox as an app of Django: `supervisor.outbox.django` in INSTALLED_APPS. Imported by Django, in user code only.

It has no models. Its migration makes the table, and a command publishes its rows. Nothing else may import it: Django is
no dependency.
"""
