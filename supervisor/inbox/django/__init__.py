"""The inbox as an app of Django: `supervisor.inbox.django` in INSTALLED_APPS. Imported by Django, in user code only.

It has no models. Its migration makes the table, and a command deletes old rows. Nothing else may import it: Django is
no dependency.
"""
