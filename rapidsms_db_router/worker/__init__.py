"""What a worker process keeps: its Celery app, its routers, its connections and its sender."""
