"""How fast and how fair the router is, measured against ``rapidsms.router.db`` and the floor."""
