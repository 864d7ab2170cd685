"""Pages, figures, metrics and controls for the operators of a service.

An app of its own, beside the router: a project that wants it adds
``"rapidsms_db_router.operations"`` to ``INSTALLED_APPS``. The router imports nothing of it.
"""
