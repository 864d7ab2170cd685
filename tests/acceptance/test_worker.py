"""How a worker ends."""

from tests.acceptance.running import Project


def test_worker_that_fails_ends_with_an_error(project: Project) -> None:
    project.broker = "filesystem://"
    (project.queue / f"1.{project.name}.msg").write_text("no task")

    worker = project.start_worker()

    assert worker.wait() != 0
    assert "Unrecoverable error" in worker.output()
